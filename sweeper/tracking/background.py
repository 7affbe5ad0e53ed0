"""MLflow written by a thread of its own, so that a store that is slow or away holds up no training."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import RUNNING, TrialRecord
from sweeper.tracking.store import shorten
from sweeper.tracking.sweep_run import WHOLE_SWEEP, Tracker

WAIT_S = 1.0
"""Seconds for which the end of the thread is awaited at a time, so that signals are handled in between."""
HASTE_S = 5.0
"""Seconds for which the end of the thread is awaited in all, where the user does not want to wait."""

log = logging.getLogger(__name__)


class BackgroundTracker:
    """A follower of a sweep's ledger that lets one thread send everything; its methods return at once.

    Only the newest state of each trial waits to be sent: of a trial that runs its record, which the ledger keeps
    anyway, and of one that has ended its id alone; the thread reads its record from the run folder. So a long queue
    takes little memory. While the store does not answer, it is asked again after the tracker's pauses.

    Args:
        tracker: of the sweep; from now on the thread alone uses it.
        folder: the run folder, which holds the record of a trial before :meth:`trial_ended` tells of its end.
    """

    def __init__(self, tracker: Tracker, folder: RunFolder):
        self.shown_uri = tracker.shown_uri
        self.parent = tracker.parent
        """MLflow's id of the sweep's own run."""
        self._tracker = tracker
        self._folder = folder.absolute
        self._failed: set[str] = set()
        """What broke outside the tracker's own care; for the thread alone."""
        self._news = Condition()
        """Held by whoever changes what follows."""
        self._waiting: dict[str, TrialRecord | None] = {}
        """By trial id, oldest first: the record of a trial that runs; null for one that has ended."""
        self._control_asr: dict[str, float | None] = {}
        self._lacking: set[str] = set()
        """What the store lacks, besides what waits."""
        self._close: Callable[[], None] | None = None
        """Closes the sweep's own run; null until the sweep has ended."""
        self._closed = False
        """Whether that was tried."""
        self._in_haste = False
        self._abandoned = False
        self._ended = Event()  # Thread.join forgets a thread that still runs when Ctrl-C interrupts it (bpo-45274)
        Thread(target=self._work, name="mlflow", daemon=True).start()

    @property
    def behind(self) -> list[str]:
        """What MLflow lacks, in whole or in part: ids of ended trials, and the sweep's own run."""
        with self._news:
            waiting = {name for name, record in self._waiting.items() if record is None}
            closing = set() if self._close is None or self._closed else {WHOLE_SWEEP}
            return sorted(self._lacking | waiting | closing)

    def trial_changed(self, record: TrialRecord) -> None:
        """Record that a training of a trial or control started or broke off."""
        self._put(record)

    def epoch_ended(self, record: TrialRecord) -> None:
        """Record that a trial has trained one more epoch."""
        self._put(record)

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """Record that a trial ended; of ``rows`` the attack success of its controls is kept, for rows made later."""
        with self._news:
            for row in rows:
                control = record.controls.get((row["scenario"], row["seed"]))
                if control is not None:
                    self._control_asr[control] = row["control_asr"]
            self._waiting[record.trial_id] = None
            self._news.notify()

    def make_haste(self) -> None:
        """Let :meth:`sweep_ended` wait for a few seconds at most, in which the parent run comes first."""
        self._in_haste = True

    def sweep_ended(self, artifacts: Sequence[Path], metrics: dict[str, float], status: str) -> None:
        """Wait until everything is sent, or the store stops answering, and the parent run is closed with the sweep's
        tables and pictures. What is not sent in the end is in :attr:`behind`.

        Args:
            artifacts: files; missing ones are left out.
            metrics: of the whole sweep.
            status: FINISHED, FAILED or KILLED.
        """
        with self._news:
            self._close = partial(self._tracker.sweep_ended, [path.resolve() for path in artifacts], metrics, status)
            self._news.notify()
        until = time.monotonic() + HASTE_S if self._in_haste else math.inf
        try:
            while not self._ended.wait(WAIT_S) and time.monotonic() < until:
                pass
        finally:  # also on Ctrl-C: the run folder has everything
            self._abandoned = True

    def _put(self, record: TrialRecord) -> None:
        with self._news:
            if record.status == RUNNING:  # else a late report would hide the trial's end
                self._waiting[record.trial_id] = record
                self._news.notify()

    def _work(self) -> None:
        try:
            self._send_all()
        finally:
            self._ended.set()

    def _send_all(self) -> None:
        """Send what waits, until the sweep has ended and everything is sent or the store does not answer."""
        while not self._abandoned:
            rest_s = self._tracker.rest_s
            with self._news:
                self._news.wait_for(partial(self._is_due, rest_s), rest_s)
                ending = self._close is not None
            if ending and self._in_haste:
                self._close_parent()
            if rest_s is not None:  # the pause is over, or the sweep has ended
                self._safely(WHOLE_SWEEP, self._tracker.catch_up)
                if ending and self._tracker.rest_s is not None:
                    break
            elif self._waiting:
                self._send_next()
            else:
                break
        self._close_parent()

    def _close_parent(self) -> None:
        """Close the sweep's own run, once."""
        if self._close is not None and not self._closed and not self._abandoned:
            self._safely(WHOLE_SWEEP, self._close)
            self._closed = True

    def _is_due(self, rest_s: float | None) -> bool:
        """Whether something can be done now, given the pause of the tracker."""
        return self._close is not None or (bool(self._waiting) and rest_s is None)

    def _send_next(self) -> None:
        """Send the state of the trial that has waited longest."""
        with self._news:
            trial_id = next(iter(self._waiting))
            record = self._waiting.pop(trial_id)
            if record is None:
                self._lacking.add(trial_id)
        self._safely(trial_id, partial(self._send, trial_id, record))

    def _send(self, trial_id: str, running: TrialRecord | None) -> None:
        record = self._folder.read_record(trial_id) if running is None else _copy(running)
        if record is None:
            raise LookupError("its record cannot be read")
        if running is not None or record.status == RUNNING:  # also where the disk did not take its end
            self._tracker.epoch_ended(record)
        else:
            self._tracker.trial_ended(record, record.rows(self._control_asr))

    def _safely(self, name: str, action: Callable[[], None]) -> None:
        """Run an action; an error, which ends neither this thread nor the sweep, is logged and named in ``behind``."""
        try:
            action()
            self._failed.discard(name)
        except Exception as error:  # noqa: BLE001  # whatever it is, the sweep goes on
            log.warning("MLflow %s: %s: %s", self.shown_uri, name, shorten(error))
            self._failed.add(name)
        with self._news:
            self._lacking = {*self._tracker.behind, *self._failed}


def _copy(record: TrialRecord) -> TrialRecord:
    """A copy of a record to which the main thread may add epochs at any moment.

    Copying one dictionary cannot be interrupted by another thread (CPython's global lock); looping over it can.
    """
    epochs = {run: dict(figures) for run, figures in dict(record.epochs).items()}
    return replace(record, epochs=epochs, facts=dict(record.facts))
