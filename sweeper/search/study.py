"""The Optuna study behind a sweep: its sampler, and the results that it is given."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import FINISHED, PRUNED, TRIAL, TrialRecord
from sweeper.search.race import Race
from sweeper.search.racing import Racing, control_figures, open_controls
from sweeper.search.trunks import grid_in_groups
from trainers.seeding import derive_seed

UNDEFINED = "An objective is undefined for this trial."
STARTUP_TRIALS = 10
"""Random trials before a model is fitted (Optuna's default); of fewer than 20 trials, half are random."""


def fill_study(
    study: optuna.Study, spec: SweepSpec, records: Collection[TrialRecord], notes: Mapping[int, Mapping[str, Any]]
) -> int:
    """Fill the new study of a sweep from its records.

    Trials that ended are added with their results. Those that did not, or whose controls did not, are queued with their
    numbers and values, so that the study proposes them again. The points of a grid are queued too.

    Args:
        study: an empty study.
        spec: the sweep.
        records: of an earlier part of the sweep.
        notes: from :func:`sampler_notes` of the study of that part.

    Returns:
        The number of trials that the records hold.
    """
    trials = {_number(record): record for record in records if record.role == TRIAL}
    racing, controls, missing = Racing(spec), control_figures(records), open_controls(records)
    for number in range(max(trials, default=-1) + 1):
        record = trials.get(number)
        if record is None or record.open or not missing.isdisjoint(record.controls.values()):
            study.enqueue_trial(record.searched if record else {})
        else:
            race = None if record.config is None else racing.race(record, controls)
            study.add_trial(_ended(spec, record, race, notes.get(number, {})))
    if spec.search.sampler == "grid":
        # Optuna's GridSampler would end the study from inside `tell`, which only works in its own loop.
        points = [point for group in grid_in_groups(spec) for point in group]
        for point in points[len(study.trials) : spec.search.trials]:
            study.enqueue_trial(point)
    return len(trials)


def sampler_notes(study: optuna.Study) -> dict[int, dict[str, Any]]:
    """The sampler's own notes on each trial (NSGA-II: its generation), by number."""
    ours = ("constraints", "fixed_params")
    trials = study.get_trials(deepcopy=False)
    return {t.number: {k: v for k, v in t.system_attrs.items() if not k.startswith(ours)} for t in trials}


@dataclass(frozen=True)
class Verdict:
    """The result of an ended trial, as told to the study.

    Args:
        state: how it ended.
        values: of the objectives; null unless it is complete.
        constraints: violations by name; 0 or less where kept.
        error: the reason of a failure, or of leaving the race.
        raced_out: whether it left its race.
    """

    state: TrialState
    values: list[float] | None
    constraints: dict[str, float]
    error: str | None

    raced_out: bool = False

    @property
    def notes(self) -> dict[str, Any]:
        """User attributes of the trial, with the constraints: optuna-dashboard 0.21 does not show those of Optuna 5."""
        notes: dict[str, Any] = {"raced_out" if self.raced_out else "error": self.error} if self.error else {}
        return notes | ({"violations": self.constraints} if self.constraints else {})


def verdict(spec: SweepSpec, record: TrialRecord, race: Race | None) -> Verdict:
    """Judge an ended trial by its rows. One that left its race is complete, with what it showed until then, so that
    samplers learn from it.

    Args:
        spec: the sweep, with its objectives and constraints.
        record: of the trial.
        race: with the figures of its trainings and of their controls; null if its parameters were refused.
    """
    raced_out = record.raced_out
    if race is None or not (record.status == FINISHED or raced_out):
        state = TrialState.PRUNED if record.status == PRUNED else TrialState.FAIL
        return Verdict(state, None, {}, record.error)
    rows = list(race.ended.values())
    constraints = {f"{i}-{c.metric}": c.violation(rows) for i, c in enumerate(spec.constraints)}
    if raced_out:  # it may have left since a constraint is broken for sure, though not by what it has shown
        sure = [race.violation(constraint) for constraint in spec.constraints]
        constraints = {name: max(seen, least) for (name, seen), least in zip(constraints.items(), sure, strict=True)}
    values = race.expected() if raced_out else [objective.value(rows) for objective in spec.objectives]
    known = [value for value in values if value is not None]
    if len(known) == len(values):
        return Verdict(TrialState.COMPLETE, known, constraints, record.error, raced_out)
    if raced_out:
        return Verdict(TrialState.PRUNED, None, constraints, record.error, raced_out)
    return Verdict(TrialState.FAIL, None, constraints, UNDEFINED)


def _number(record: TrialRecord) -> int:
    return int(record.trial_id.lstrip("t"))


def _ended(spec: SweepSpec, record: TrialRecord, race: Race | None, notes: Mapping[str, Any]) -> FrozenTrial:
    """An ended trial, as a trial of the study."""
    judged = verdict(spec, record, race)
    space = spec.space()
    trial = create_trial(
        state=judged.state,
        values=judged.values,
        params=record.searched,
        distributions={name: space[name].distribution() for name in record.searched},
        user_attrs={"trial_id": record.trial_id, **judged.notes},
        system_attrs=dict(notes),
        constraints=judged.constraints,
    )
    trial.datetime_start = datetime.fromtimestamp(record.began_at)
    trial.datetime_complete = datetime.fromtimestamp(record.ended_at or record.began_at)
    return trial


def make_sampler(spec: SweepSpec, known: int, defense: str | None = None) -> BaseSampler:
    """The sampler that the preset names, seeded by the sweep; after ``known`` trials it draws other numbers.

    Args:
        spec: the sweep.
        known: trials that have run.
        defense: the one whose settings it proposes, if defenses take turns.
    """
    own = [defense] if defense else []
    seed = derive_seed(spec.seed, "sampler", *([known] if known else []), *own) % 2**31
    trials = spec.search.trials // max(len(spec.turns()), 1)
    startup = min(STARTUP_TRIALS, max(trials // 2, 1))
    match spec.search.sampler:
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=startup)
        case "nsga2":
            return NSGAIISampler(seed=seed, population_size=max(min(50, spec.search.trials // 4), 4))
        case "gp":
            return GPSampler(seed=seed, n_startup_trials=startup, deterministic_objective=False)
        case "random" | "grid":  # the points of a grid are put into the study one by one
            return RandomSampler(seed=seed)
