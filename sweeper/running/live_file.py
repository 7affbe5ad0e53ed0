"""Writes ``live.json`` while a sweep runs: a follower of its ledger."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.live import RunningTraining, write_live
from sweeper.run_folder.record import TrialRecord

EVERY_S = 2.0
"""Seconds between two versions of the file, at least."""

log = logging.getLogger(__name__)


class LiveFile:
    """Says in the run folder which trainings run, where, and how far they are.

    It never raises, and the sweep never waits for it: a thread writes the file, and a disk that is full or slow only
    means that it is not written.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder):
        self._folder = folder.absolute
        self._running: dict[str, list[RunningTraining]] = {}
        """By trial; the lists are replaced, never changed, since the thread reads them."""
        self._changed, self._ended = Event(), Event()
        self._thread = Thread(target=self._follow, name="live-file", daemon=True)

    def trial_changed(self, record: TrialRecord) -> None:
        """Note that a training of a trial started or broke off."""
        self._note(record)

    def epoch_ended(self, record: TrialRecord) -> None:
        """Note that a trial has trained one more epoch."""
        self._note(record)

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """Note that a trial ended."""
        self._running.pop(record.trial_id, None)
        self._changed.set()

    def __enter__(self) -> "LiveFile":
        """Begin to write; what an earlier driver left is removed."""
        self._remove()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread, unless the disk keeps it, and remove the file."""
        self._ended.set()
        self._thread.join(EVERY_S)
        self._remove()

    def _note(self, record: TrialRecord) -> None:
        self._running[record.trial_id] = [_described(record, run) for run in record.trainings if run in record.running]
        self._changed.set()

    def _follow(self) -> None:
        while not self._ended.wait(EVERY_S):
            if self._changed.is_set():
                self._changed.clear()
                self._write()

    def _remove(self) -> None:
        with suppress(OSError):
            self._folder.live.unlink(missing_ok=True)

    def _write(self) -> None:
        running = [training for trial in list(self._running.values()) for training in trial]
        try:
            write_live(self._folder, running)
        except OSError as error:
            log.debug("%s is not written: %s", self._folder.live, error)


def _described(record: TrialRecord, run: tuple[str, int]) -> RunningTraining:
    last = record.final(run)
    return RunningTraining(
        record.trial_id, *run, record.trainings[run].host, last.get("epoch", 0), last.get("stage")
    )  # fmt: skip
