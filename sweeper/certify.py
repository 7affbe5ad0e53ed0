"""Certifies a setting of a sweep: begins the test of a run folder, or goes on with it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.certificate_terms import Asked, check_budget, new_certificate, refuse_other_terms, restored
from sweeper.analysis.certification import Certification
from sweeper.analysis.cost import BOUNDS, Cost, cost_of_failure, costs
from sweeper.analysis.verdicts import planned
from sweeper.cluster.address import check_ray_address
from sweeper.cluster.hosts import asked as asked_for
from sweeper.cluster.hosts import room
from sweeper.cluster.runtime import ray_runtime
from sweeper.launch import Ended, interruptible, refuse_other_numerics, run_plan, same_data, with_budget
from sweeper.run_folder.certificate import (
    DESCRIBED,
    REPLICATE_SEEDS,
    Budget,
    Certificate,
    Step,
    Tested,
    first_seed,
    read_certificate,
    write_certificate,
)
from sweeper.run_folder.claim import claimed
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import REPLICATE, TrialRecord, control_success
from sweeper.running.driver import Plan
from sweeper.running.ledger import Ledger
from sweeper.running.replicates_display import ReplicatesDisplay
from sweeper.search.replicates import Replicates, Result
from sweeper.words import command
from trainers.errors import ConfigError


def certify(path: Path, console: Console, asked: Asked, budget: int | None = None) -> tuple[Ended, Certificate]:
    """Run fresh replicates of a sweep's settings until one is certified, none can be, or the budget is spent.

    Args:
        path: the run folder.
        console: for progress.
        asked: bound and confidence. A folder has one test: they are frozen when it begins.
        budget: trainings that may be counted in all, those of earlier parts of the test included; null: as before, and
            for a new test no limit.

    Raises:
        ConfigError: the sweep has not ended, the folder has another test, or the budget cannot suffice.
        NothingQualifies: no setting is a candidate.
        SweepBroken: the run folder cannot be written any more.
        SweepInterrupted: the user ended it before its trainings began, or after they ended.
    """
    with _held(path) as folder:
        certificate = read_certificate(folder.path)
        if certificate is None:
            certificate = _new(folder, asked)
            check_budget(certificate, budget)
            certificate.budgets.append(Budget(after=0, trainings=budget))
        else:
            refuse_other_terms(certificate, asked, path)
            if budget not in (None, certificate.budgets[-1].trainings):
                check_budget(certificate, budget)
                certificate.budgets.append(Budget(after=len(certificate.steps), trainings=budget))
        return _run(folder, certificate, console), certificate


def go_on(path: Path, console: Console, time_budget: float | None = None) -> tuple[Ended, Certificate]:
    """Continue the test of a run folder that was killed or interrupted, within its budget.

    Args:
        path: the run folder.
        console: for progress.
        time_budget: minutes from now; null: no limit.

    Raises:
        ConfigError: there is no such test, or it cannot continue.
        SweepBroken, SweepInterrupted: as from :func:`certify`.
    """
    with _held(path) as folder:
        certificate = read_certificate(folder.path)
        if certificate is None:
            raise ConfigError(f"{path} has no test to continue.")
        return _run(folder, certificate, console, time_budget), certificate


@contextmanager
def _held(path: Path) -> Iterator[RunFolder]:
    """The run folder, locked and fit to train into.

    Raises:
        ConfigError: it holds no sweep, is in use, cannot be written, or was trained with other numerics.
    """
    folder = RunFolder.open(path)
    with folder.lock(), claimed(folder.store), interruptible(folder):
        folder.check_writable()
        folder.remove_leftovers()
        refuse_other_numerics(folder)
        yield folder


def is_open(path: Path) -> bool:
    """Whether the run folder has a test of which something is left to run within its budget.

    Raises:
        ConfigError: the folder holds no sweep, or is damaged.
    """
    folder = RunFolder.open(path)
    certificate = read_certificate(folder.path)
    if certificate is None:
        return False
    waits = restored(certificate).turn is not None
    return waits or not _all_described(certificate, folder.read_records().values())


def _new(folder: RunFolder, asked: Asked) -> Certificate:
    """The test of a sweep that has ended, before its first replicate.

    Raises:
        ConfigError: the sweep has not ended, or cannot be tested.
        NothingQualifies: no setting is a candidate.
    """
    spec, records = folder.spec(), folder.read_records()
    unfinished = [record.trial_id for record in records.values() if record.open and record.role != REPLICATE]
    if unfinished:
        raise ConfigError(
            f"{folder.path} has trials that did not end ({', '.join(unfinished)}); run "
            f"{command('resume', folder.path)} first."
        )
    if spec.attacking:
        raise ConfigError(
            "--confidence certifies settings of a defense, but this is an attacker's sweep; leave it out, and its "
            "leading attackers are trained again."
        )
    if any(record.role == REPLICATE for record in records.values()):
        raise ConfigError(f"{folder.path} holds replicates of a test, but not its certificate.json: put it back.")
    seeds = [seed for record in records.values() if record.config for seed in record.config.repeats]
    if max(seeds, default=0) >= REPLICATE_SEEDS:
        raise ConfigError(f"Seeds from {REPLICATE_SEEDS} are those of replicates, but this sweep uses {max(seeds)}.")
    folder.write_tables(records.values(), control_success(records.values()))  # a killed sweep may leave old ones
    return new_certificate(spec, folder.read_trials(), records, asked, first_seed(folder.read_sweep()["sweep_id"]))


def _run(folder: RunFolder, certificate: Certificate, console: Console, time_budget: float | None = None) -> Ended:
    """Train what the test still needs, and write down each replicate as it is counted."""
    test = restored(certificate)
    sweep, records = folder.read_sweep(), folder.read_records()
    spec = with_budget(folder.validated(sweep["preset"]), time_budget)
    spec = spec.model_copy(update={"search": spec.search.model_copy(update={"scheduler": "none"})})
    names = {one.config_id: one.name for one in (*certificate.candidates, *certificate.described)}
    least = test.least_left * test.terms.trainings + certificate.described_trainings
    display = ReplicatesDisplay(console, certificate.metric, names, least)

    def counted(candidate: int, number: int, result: Result) -> None:
        step = Step(candidate=candidate, number=number, pilot=_was_pilot(test, candidate, number), **asdict(result))
        certificate.steps.append(step)
        _keep(folder, certificate, test)
        display.say(_told(certificate, test, step))
        display.needs(test.least_left * test.terms.trainings)

    def agenda(ledger: Ledger) -> Replicates:
        _keep(folder, certificate, test)  # before the first training: the terms are frozen from here on
        return Replicates(
            test,
            certificate.settings(),
            len(certificate.candidates),
            certificate.scenarios(),
            certificate.seed,
            certificate.metric,
            ledger,
            _guarded(ledger, counted),
        )

    for line in _terms(certificate):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    tested = test.decided and _all_described(certificate, records.values())
    if not tested:
        check_ray_address()
    plan = Plan(0, records, test=agenda, tested=tested)
    return run_plan(spec, sweep, same_data(spec, sweep, console), folder, console, plan, display)


def _all_described(certificate: Certificate, records: Iterable[TrialRecord]) -> bool:
    """Whether the replicates of the described settings have ended."""
    first = certificate.seed(len(certificate.candidates), 0)
    own = [r for r in records if r.role == REPLICATE and r.config is not None and r.config.repeats[0] >= first]
    ended = {record.config.repeats[0] for record in own if record.config is not None}
    return len(ended) == DESCRIBED * len(certificate.described) and not any(record.open for record in own)


def _guarded(ledger: Ledger, counted: Callable[[int, int, Result], None]) -> Callable[[int, int, Result], None]:
    """The same function; what the disk does wrong meanwhile ends the test, as it ends a sweep."""

    def guarded(candidate: int, number: int, result: Result) -> None:
        with ledger.guard():
            counted(candidate, number, result)

    return guarded


def _was_pilot(test: Certification, candidate: int, number: int) -> bool:
    return number < len(test.candidates[candidate].pilots)


def _keep(folder: RunFolder, certificate: Certificate, test: Certification) -> None:
    """Write the certificate with how the candidates stand."""
    certificate.standings = [Tested(verdict=c.verdict, stake=c.stake, wealth=c.wealth) for c in test.candidates]
    certificate.certified, certificate.decided = test.certified, test.decided
    write_certificate(folder.path, certificate)


def _terms(certificate: Certificate) -> list[str]:
    """What the test is about, a line each."""
    covered = ", ".join(attacker.label for attacker in certificate.attackers)
    names = ", ".join(
        f"{one.name} (accuracy {one.accuracy:.3f}, {certificate.option.removeprefix('max-')} {one.attack:.3f})"
        for one in certificate.candidates
    )
    lines = [
        f"Certifying mean {certificate.metric} <= {certificate.bound:g} at confidence {certificate.confidence:g}, in "
        f"the worst of: {covered}.",
        f"Candidates, in this order: {names}.",
    ]
    if certificate.left_out:
        lines.append(f"Left out, since they are no evidence: {'; '.join(certificate.left_out)}.")
    lines += filter(None, [planned(certificate)])
    return lines


def _told(certificate: Certificate, test: Certification, step: Step) -> str:
    """A line on a replicate that was counted."""
    name = certificate.candidates[step.candidate].name
    standing = test.candidates[step.candidate]
    kind = "pilot" if step.pilot else "replicate"
    number = step.number + 1 if step.pilot else step.number + 1 - len(standing.pilots)
    loss = f"failed ({step.failed})" if step.failed else f"{step.loss:.3f}"
    ended = f", ended after {step.ended_by}" if step.ended_by else ""
    text = f"  {name}, {kind} {number}: {loss}{ended}"
    if standing.stake is not None and standing.wealth:
        text += f"; wealth {standing.wealth[-1]:.3g} of {1 / standing.stake:.3g}"
    if standing.verdict is not None:
        return f"{text}. {name} is {standing.verdict}."
    return f"{text}; at least {test.least_left} more"


@dataclass(frozen=True)
class Planned:
    """What tests are expected to cost.

    Args:
        option: that gives the bound.
        places: trainings that run at a time.
        costs: by bound and confidence; their hours are with so many places.
        notes: what the figures assume, and what is left out.
    """

    option: str
    places: int
    costs: list[Cost]
    notes: list[str]


def plan(path: Path, bounds: AttackBounds, min_acc: float) -> Planned:
    """What certificates of a sweep would cost, from the search's figures and the places that Ray has now.

    Args:
        path: the run folder.
        bounds: one more bound to plan for; without one, bounds on the excess are planned.
        min_acc: least mean accuracy.

    Raises:
        ConfigError: the folder holds no sweep, every attack is weak, or no host has what a training asks for.
    """
    folder = RunFolder.open(path)
    spec, frame, records = folder.spec(), folder.read_trials(), folder.read_records()
    if spec.attacking:
        raise ConfigError("A certificate is about settings of a defense, but this is an attacker's sweep.")
    option = next((limit.option for limit in bounds.limits), "max-excess")
    asked = sorted({*BOUNDS, *(limit.most for limit in bounds.limits if 0 < limit.most < 1)})
    found = costs(frame, records, option, asked, min_acc)  # before Ray starts: it may refuse
    wanted = spec.resources.by_name()
    with ray_runtime():
        places = room(wanted)
    if not places:
        raise ConfigError(f"A training asks for {asked_for(wanted)}, which no host has. Change resources.")
    places = min(places, spec.search.workers or places)
    found = [replace(one, hours=one.hours and one.hours / places) for one in found]
    seeds = len(spec.seeds)
    notes = [
        f"Expected as if fresh replicates came out as the search did, whose number of seeds ({seeds}) shows no rare "
        f"failure: one replicate that fails costs {cost_of_failure(0.1)} more at a bound of 0.1, and "
        f"{cost_of_failure(0.2)} at 0.2.",
        *dict.fromkeys(f"{cost.bound:g}: {cost.reason}" for cost in found if cost.reason is not None),
    ]
    return Planned(option, places, found, notes)
