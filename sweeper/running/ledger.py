"""The records of a running sweep, as the driver keeps and writes them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import pyarrow as pa
from optuna.exceptions import StorageInternalError

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import CONTROL, RUNNING, Training, TrialRecord, control_success
from sweeper.run_folder.tables import table_of
from trainers.storage.files import remove_tree
from trainers.storage.object_store import Place

TABLES_SHARE = 20
"""Tables are written whole when a trial ends, but may take at most a twentieth of a sweep's time; each trial's own
record is always written."""


class Follower(Protocol):
    """A receiver of the events of all trials and controls: MLflow, the display. Its methods return at once."""

    def trial_changed(self, record: TrialRecord) -> None:
        """Record that a training of a trial started, or broke off and may be tried again."""

    def epoch_ended(self, record: TrialRecord) -> None:
        """Record that a trial has trained one more epoch."""

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """Record that a trial ended; ``rows`` are its rows of ``trials.parquet``."""


class Ledger:
    """Owns the records of a sweep: changes them, writes them down, and tells the followers.

    Errors of the disk are not raised, since Ray would attribute them to a training: the first is kept, and ends the
    sweep.

    Args:
        folder: the run folder.
        records: of an earlier part of the sweep.
        followers: receivers of events.
    """

    def __init__(self, folder: RunFolder, records: Mapping[str, TrialRecord], followers: Sequence[Follower] = ()):
        self.folder = folder
        self._followers = followers
        self.records: dict[str, TrialRecord] = {name: record for name, record in records.items() if not record.open}
        """By trial id: trials that have ended, and those that this driver has begun."""
        self.interrupted: dict[str, TrialRecord] = {name: record for name, record in records.items() if record.open}
        """By trial id: trials that an earlier driver left open."""
        self.control_asr: dict[str, float | None] = control_success(self.records.values())
        """Attack success of each finished control, by key of its configuration."""
        self.broken: Exception | None = None
        """The first error of writing, which ends the sweep; null if there was none."""
        self._curves: dict[str, pa.Table] = {}
        """By trial id: what the records of ended trials have forgotten."""
        self._by_ray_id: dict[str, Training] = {}
        self._writes = 0
        self._tables_written_at = self._writing_tables_took = 0.0

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Catch errors of the disk and of the study's database, and keep the first, which ends the sweep."""
        try:
            yield
        except (OSError, StorageInternalError) as error:
            self.give_up(error)

    @property
    def is_writing(self) -> bool:
        """Whether files are being written or removed at this moment; a disk or an object store may take long."""
        return self._writes > 0

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._writes += 1
        try:
            with self.guard():
                yield
        finally:
            self._writes -= 1

    def give_up(self, error: Exception) -> None:
        """Record an error of writing, which ends the sweep; only the first one counts."""
        if self.broken is None:
            self.broken = error

    def states_of(self, training: Training) -> Place:
        """The folder of a training's states."""
        return self.folder.states / training.name

    def add(self, record: TrialRecord) -> None:
        """Write down a trial that is to run."""
        before = self.interrupted.get(record.trial_id)
        if before is not None:
            record.began_at = before.began_at
        self.records[record.trial_id] = record
        with self._writing():
            self.folder.write_record(record)

    def hand_out(self, ray_id: str, training: Training) -> None:
        """Record the id that Ray has given to a training."""
        self._by_ray_id[ray_id] = training
        training.record.running.add(training.run)

    def of(self, ray_id: str) -> Training | None:
        """The training that has this id in Ray; null if there is none."""
        return self._by_ray_id.get(ray_id)

    def take_back(self, ray_id: str) -> None:
        """Forget the id that Ray had given to a training, which does not run under it any more."""
        training = self._by_ray_id.pop(ray_id, None)
        if training is not None:
            training.record.running.discard(training.run)

    def changed(self, training: Training) -> None:
        """Tell the followers that a training started or broke off, unless its trial has ended meanwhile."""
        if training.state.status == RUNNING:
            for follower in self._followers:
                follower.trial_changed(training.record)

    def reported(self, training: Training, result: Mapping[str, Any]) -> None:
        """Write down what a worker reported: scores of the samples, or the figures of an epoch. What is reported of a
        training that has ended is of no use: its trial ended without it.
        """
        record, run = training.record, training.run
        if training.state.status != RUNNING:
            return
        if "scores" in result:
            with self._writing():
                self.folder.write_scores(record.trial_id, *run, result["scores"])
        if "figures" in result:
            record.add_epoch(run, dict(result["figures"]), dict(result["facts"]))
            for follower in self._followers:
                follower.epoch_ended(record)

    def update(self, record: TrialRecord) -> None:
        """Write down that a training of a trial that goes on has ended."""
        with self._writing():
            self.folder.write_record(record)

    def release(self, training: Training) -> None:
        """Remove the states of a training that has ended, and that no worker runs any more."""
        if not training.record.interrupted and training.state.status != RUNNING and self.broken is None:
            with self._writing():
                remove_tree(self.states_of(training))

    def remove_trunk(self, file: str) -> None:
        """Remove the file of a trunk that nobody needs any more."""
        with self._writing():
            self.folder.remove_trunk(file)

    def end(self, record: TrialRecord, status: str, error: str | None = None, interrupted: bool = False) -> None:
        """Write down how a trial ended."""
        record.end(status, error, interrupted)
        if record.role == CONTROL:
            self.control_asr |= control_success([record])
        with self._writing():
            self.folder.write_record(record)

    def announce(self, record: TrialRecord) -> None:
        """Tell the followers that a trial ended; called once the study knows it."""
        if time.monotonic() - self._tables_written_at > TABLES_SHARE * self._writing_tables_took:
            self.write_tables()
        rows = record.rows(self.control_asr)
        for follower in self._followers:
            follower.trial_ended(record, rows)
        self._put_away(record)

    def put_away_ended(self) -> None:
        """Keep the curves of trials of an earlier part of the sweep, once the agenda has learned from them, in a form
        that takes little memory.
        """
        for record in self.records.values():
            if record.status != RUNNING:
                self._put_away(record)

    def _put_away(self, record: TrialRecord) -> None:
        """Keep the curves of an ended trial in a form that takes little memory."""
        if record.config is not None and record.trial_id not in self._curves:
            self._curves[record.trial_id] = table_of(record.curve_rows())
            record.forget_curves()

    @property
    def everything(self) -> dict[str, TrialRecord]:
        """By trial id: all records, also those of trials that wait to be gone on with."""
        return self.interrupted | self.records

    def running(self) -> list[TrialRecord]:
        """Trials and controls that have begun, or wait for their turn."""
        return [record for record in self.records.values() if record.status == RUNNING]

    def write_tables(self) -> None:
        """Write ``trials.parquet`` and ``curves.parquet`` from the current records."""
        began = time.monotonic()
        with self._writing():
            # A copy: the watchdog's thread may write them while the main thread adds a record.
            self.folder.write_tables(list(self.everything.values()), self.control_asr, dict(self._curves))
        self._tables_written_at = time.monotonic()
        self._writing_tables_took = self._tables_written_at - began
