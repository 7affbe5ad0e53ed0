"""The records of a running sweep, as the driver keeps and writes them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from optuna.exceptions import StorageInternalError

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import CONTROL, RUNNING, TrialRecord, control_success
from trainers.storage.files import remove_tree
from trainers.storage.object_store import Place

TABLES_SHARE = 20
"""Tables are written whole when a trial ends, but may take at most a twentieth of a sweep's time; each trial's own
record is always written."""


class Follower(Protocol):
    """A receiver of the events of all trials and controls: MLflow, the display. Its methods return at once."""

    def trial_started(self, record: TrialRecord) -> None:
        """Record that a trial started or restarted."""

    def epoch_ended(self, record: TrialRecord) -> None:
        """Record that a trial has trained one more epoch."""

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """Record that a trial ended; ``rows`` are its rows of ``trials.parquet``."""


class Ledger:
    """Owns the records of a sweep: changes them, writes them down, and tells the followers.

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
        """The first error of writing, after which nothing is written; null if there was none."""
        self._by_ray_id: dict[str, TrialRecord] = {}
        self._writes = 0
        self._tables_written_at = self._writing_tables_took = 0.0

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Catch errors of the disk and of the study's database, and keep the first, which ends the sweep. If they were
        raised, Ray would attribute them to the trial.
        """
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
            yield
        finally:
            self._writes -= 1

    def give_up(self, error: Exception) -> None:
        """Record an error of writing, which ends the sweep; only the first one counts."""
        if self.broken is None:
            self.broken = error

    def states_of(self, record: TrialRecord) -> Place:
        """The folder of a trial's states."""
        return self.folder.states / record.trial_id

    def add(self, record: TrialRecord) -> None:
        """Write down a trial that is to run."""
        before = self.interrupted.get(record.trial_id)
        if before is not None:
            record.began_at = before.began_at
        self.records[record.trial_id] = record
        with self._writing():
            self.folder.write_record(record)

    def hand_out(self, ray_id: str, record: TrialRecord) -> None:
        """Record the id that Ray has given to a trial."""
        self._by_ray_id[ray_id] = record

    def of(self, ray_id: str) -> TrialRecord | None:
        """The trial that has this id in Ray; null if there is none."""
        return self._by_ray_id.get(ray_id)

    def started(self, record: TrialRecord) -> None:
        """Tell the followers that a trial started or restarted."""
        for follower in self._followers:
            follower.trial_started(record)

    def reported(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Write down what a worker reported: scores of the samples, or the figures of an epoch."""
        if "scores" in result:
            with self._writing(), self.guard():
                self.folder.write_scores(record.trial_id, result["scenario"], result["seed"], result["scores"])
        if "figures" in result:
            record.add_epoch((result["scenario"], result["seed"]), result["figures"], result["facts"])
            for follower in self._followers:
                follower.epoch_ended(record)

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
        if not record.open:
            with self._writing():
                remove_tree(self.states_of(record))

    def running(self) -> list[TrialRecord]:
        """Trials and controls that have begun, or wait for their turn."""
        return [record for record in self.records.values() if record.status == RUNNING]

    def write_tables(self) -> None:
        """Write ``trials.parquet`` and ``curves.parquet`` from the current records."""
        began = time.monotonic()
        with self._writing():
            # A copy: the watchdog's thread may write them while the main thread adds a record.
            self.folder.write_tables(list(self.records.values()), self.control_asr)
        self._tables_written_at = time.monotonic()
        self._writing_tables_took = self._tables_written_at - began
