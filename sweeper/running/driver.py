"""Runs a sweep: one Ray Tune run over one study, one run folder and one MLflow experiment."""

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from optuna.exceptions import StorageInternalError
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from sweeper.cluster.fleet import Fleet
from sweeper.cluster.hosts import PATIENCE_S, await_room, check_hosts, find_unusable_hosts
from sweeper.cluster.losses import listen_to_losses
from sweeper.cluster.ray_patches import end_trials_alone, keep_keys
from sweeper.cluster.runtime import lost_daemon, ray_runtime
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.errors import SweepBroken
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.provenance import code_digest
from sweeper.run_folder.record import CONTROL, FAILED, FINISHED, REPLICATE, TRIAL, TrialRecord
from sweeper.running import WORKER
from sweeper.running.callback import LedgerCallback
from sweeper.running.ledger import Ledger
from sweeper.running.scheduler import EarlyStoppingScheduler
from sweeper.running.searcher import SweepSearcher
from sweeper.running.stopper import SweepStopper
from sweeper.running.study_file import open_study
from sweeper.running.watchdog import Watchdog
from sweeper.running.worker import TrainingActor, pack
from sweeper.search.agenda import Agenda
from sweeper.search.replicates import Replicates
from sweeper.words import command
from trainers.data.image_set import Splits
from trainers.errors import ConfigError
from trainers.storage.files import remove_tree

REUSE_ACTORS = True
"""A fresh actor imports torch and Ray again, which takes longer than a small training."""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Args:
        finished: trials all of whose trainings finished, or that left their races.
        failed: reasons of the trials that failed.
        interrupted: why it ended early (the user, its time budget); null if it did not.
        in_haste: whether somebody ended it who may not wait for long.
    """

    finished: int
    failed: list[str]
    interrupted: str | None
    in_haste: bool = False

    @classmethod
    def of(cls, records: Iterable[TrialRecord], interrupted: str | None) -> "Outcome":
        """The outcome of a sweep with these records."""
        trials = [record for record in records if record.role not in (CONTROL, REPLICATE)]
        failed = [
            f"{record.trial_id}: {record.error}" for record in trials if record.status == FAILED and not record.open
        ]
        judged = sum(record.status == FINISHED or record.raced_out for record in trials)
        return cls(judged, failed, interrupted)


@dataclass(frozen=True)
class Plan:
    """The trials to run.

    Args:
        trials: how many trials the study proposes in all, with those in ``records``, without controls.
        records: of an earlier part of the sweep.
        extra: trials that the study does not propose (confirmations).
        test: makes the agenda of a test; null: trials are run.
        tested: whether nothing of the test is left to run.
    """

    trials: int
    records: Mapping[str, TrialRecord] = field(default_factory=dict)
    extra: Sequence[TrialRecord] = ()
    test: Callable[[Ledger], Replicates] | None = None
    tested: bool = False

    @property
    def is_done(self) -> bool:
        """Whether every trial has ended already, and so has every control."""
        if self.test is not None:
            return self.tested
        asked = sum(record.role == TRIAL for record in self.records.values())
        left = any(record.open for record in self.records.values() if record.role != REPLICATE)
        return not self.extra and asked >= self.trials and not left


def run_sweep(
    spec: SweepSpec,
    sweep: Mapping[str, Any],
    splits: Splits,
    ledger: Ledger,
    plan: Plan,
    say: Callable[[str], None],
) -> Outcome:
    """Run every trial of a sweep that has not run; the run folder is written as they finish.

    Args:
        spec: the sweep.
        sweep: content of ``sweep.yaml``.
        splits: the data.
        ledger: over the run folder, with the records of ``plan``.
        plan: what is to be run.
        say: prints a message for the user.

    Raises:
        ConfigError: Ray cannot be started, no host has what one training asks for, or a host is not fit for the sweep.
        SweepBroken: the run folder cannot be written any more.
    """
    folder = ledger.folder
    if plan.is_done:
        again = command("resume", folder.path, trials="N")
        more = f"Every trial has ended; nothing is left to run. For more trials, N in all: {again}"
        say("The test has ended; nothing is left to run." if plan.tested else more)
        open_study(spec, folder.study, plan.records)  # a driver that was killed may have left all three behind
        ledger.write_tables()
        _remove_aids(folder)
        if ledger.broken is not None:
            raise SweepBroken(f"{folder.path} cannot be written any more: {_reason(ledger.broken)}.") from ledger.broken
        return Outcome.of(plan.records.values(), None)
    end_trials_alone()
    keep_keys()
    listen_to_losses()
    give_up = partial(_give_up, ledger, say)
    with ExitStack() as end_of_ray, ray_runtime() as joined, _scratch_folder() as scratch:
        wanted = spec.resources.by_name()
        await_room(wanted, PATIENCE_S if joined else 0)
        check_hosts(folder.store or folder.path.resolve())
        try:
            folder.write_sweep(sweep)
            stopper = SweepStopper(
                spec.search.time_budget and spec.search.time_budget * 60, lambda: ledger.broken is not None
            )
            fleet = Fleet(wanted, find_unusable=partial(find_unusable_hosts, module=WORKER))
            agenda = _agenda(spec, splits, ledger, plan)
            ledger.put_away_ended()
            searcher = SweepSearcher(agenda, ledger, stopper, fleet, spec.search.retries, spec.search.workers, say)
            ledger.write_tables()
            try:
                _run_trainings(_tuner(spec, splits, ledger, searcher, stopper, scratch), searcher, stopper, give_up)
            finally:
                end_of_ray.enter_context(Watchdog(stopper, give_up))
            if ledger.broken is not None:
                raise ledger.broken
        except (OSError, StorageInternalError) as error:
            raise SweepBroken(f"{folder.path} cannot be written any more: {_reason(error)}.") from error
    if not any(record.open for record in ledger.everything.values()):
        _remove_aids(folder)
    return replace(Outcome.of(ledger.everything.values(), stopper.reason), in_haste=stopper.in_haste)


def _agenda(spec: SweepSpec, splits: Splits, ledger: Ledger, plan: Plan) -> Agenda | Replicates:
    """Names the trainings of a plan."""
    if plan.test is not None:
        return plan.test(ledger)
    study = open_study(spec, ledger.folder.study, plan.records)
    agenda = Agenda(spec, study, splits.fingerprint, ledger, plan.trials)
    for record in plan.extra:
        agenda.add(record)
    ledger.folder.remove_trunks_but(agenda.trunks_needed())
    return agenda


def _remove_aids(folder: RunFolder) -> None:
    """Remove the states and the trunks of a sweep of which nothing is left to run."""
    for aids in (folder.states, folder.trunks):
        remove_tree(aids)


def _run_trainings(
    tuner: tune.Tuner, searcher: SweepSearcher, stopper: SweepStopper, give_up: Callable[[str], None]
) -> None:
    """Let Ray run the trainings; what has not ended then is written down as such."""
    ledger = searcher.ledger
    try:
        with stopper, Watchdog(stopper, give_up, lost_daemon, lambda: ledger.is_writing):
            tuner.fit()
    finally:
        searcher.agenda.abandon(f"Not finished: {stopper.reason or 'the sweep broke off'}.")
        ledger.write_tables()


def _scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for what Ray Tune writes and nobody reads.

    Raises:
        ConfigError: there is no place for it.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="sweeper-ray-", ignore_cleanup_errors=True)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"No temporary folder can be made ({reason}); set TMPDIR to one with space.") from error


def _give_up(ledger: Ledger, say: Callable[[str], None], reason: str) -> None:
    """End the program without Ray, which does not end: what ended is written down, and resume goes on from it.

    Whatever goes wrong here, since the main thread may still change what is written, the program ends.
    """
    code = 1
    try:
        with suppress(Exception):
            code = 0 if Outcome.of(list(ledger.records.values()), reason).finished else 1
        with suppress(Exception):
            ledger.write_tables()
        with suppress(Exception):
            again = command("resume", ledger.folder.path)
            say(f"Ray does not end, though {reason}. Ended trials are kept; to continue: {again}")
    finally:
        os._exit(code)


def _reason(error: Exception) -> str:
    """The first cause of an error of the disk or of the study's database."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return (getattr(cause, "strerror", None) or str(cause).splitlines()[0]).rstrip(".")


def _tuner(
    spec: SweepSpec,
    splits: Splits,
    ledger: Ledger,
    searcher: SweepSearcher,
    stopper: SweepStopper,
    scratch: str,
) -> tune.Tuner:
    agenda = searcher.agenda
    scheduler = FIFOScheduler()
    if spec.search.scheduler == "asha" and isinstance(agenda, Agenda):  # a test needs the ends of its trainings
        scheduler = EarlyStoppingScheduler(agenda, searcher)
    trainable = tune.with_parameters(
        TrainingActor,
        data=pack(splits, spec.data),
        folder=ledger.folder.path.resolve(),
        store=ledger.folder.store,
        code=code_digest(),
        state_every_s=spec.state_every_s,
        gpu_share=spec.resources.gpu,
    )
    return tune.Tuner(
        tune.with_resources(trainable, partial(_request, spec.resources.by_name())),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=REUSE_ACTORS,
        ),
        run_config=tune.RunConfig(
            name=spec.name,
            storage_path=scratch,
            callbacks=[LedgerCallback(ledger)],
            stop=stopper,
            # Our states take the place of Ray's checkpoints.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
        ),
    )


def _request(wanted: dict[str, float], job: dict[str, Any]) -> tune.PlacementGroupFactory:
    """The resources that Ray reserves for a job, on any host that it does not avoid."""
    if "avoid" not in job:
        return tune.PlacementGroupFactory([wanted])
    elsewhere = {"ray.io/node-id": f"!in({','.join(job['avoid'])})"}
    return tune.PlacementGroupFactory([wanted], bundle_label_selector=[elsewhere])
