"""Follows Ray Tune's trials into the records, the run folder, the tracking and the display."""

import time
from typing import Any

from ray.tune import Callback

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import RUNNING, TrialRecord
from sweeper.running.progress import Display
from sweeper.running.searcher import SweepSearcher
from sweeper.running.stopper import SweepStopper
from sweeper.tracking.sweep_run import Tracker
from trainers.storage.files import remove_tree

TABLES_SHARE = 20
"""Tables are written whole at each end, but over a long sweep no more often than takes a twentieth of the time; each
trial's own record is always written."""


class RecordKeeper(Callback):
    """Writes the run folder as trials finish, and tells tracking and display.

    Args:
        searcher: holds the records; Ray tells it of an end before this.
        folder: the run folder.
        tracker: MLflow.
        display: what the user sees.
        stopper: ends the sweep when nothing more can be written.
    """

    def __init__(
        self, searcher: SweepSearcher, folder: RunFolder, tracker: Tracker, display: Display, stopper: SweepStopper
    ):
        self._searcher = searcher
        searcher.say = display.say
        self._stopper = stopper
        self._folder = folder
        self._tracker = tracker
        self._display = display
        self._written_at = 0.0
        self._writing_took = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles its callbacks into a file of its own, which nobody reads."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial starts, or starts again."""
        with self._stopper.guard():
            while self._searcher.refused:
                self.ended(self._searcher.refused.popleft())
        record = self._searcher.by_ray_id[trial.trial_id]
        self._tracker.follow(record)
        self._display.trial_started(record)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch is trained, or scores are there."""
        record = self._searcher.by_ray_id[trial.trial_id]
        self._searcher.got_on(record, result)
        if "scores" in result:
            with self._stopper.guard():
                self._folder.write_scores(record.trial_id, result["scenario"], result["seed"], result["scores"])
        if "figures" in result:
            record.add_epoch((result["scenario"], result["seed"]), result["figures"], result["facts"])
            self._tracker.follow(record)
            self._display.epoch_ended(record)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended by itself or was stopped; or its host is not fit for it, and it goes on elsewhere."""
        record = self._searcher.by_ray_id[trial.trial_id]
        if record.status != RUNNING:
            with self._stopper.guard():
                self.ended(record)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial broke off, and may go on under another of Ray's names."""
        self.on_trial_complete(iteration, trials, trial)

    def ended(self, record: TrialRecord) -> None:
        """Write down an end."""
        if time.monotonic() - self._written_at > TABLES_SHARE * self._writing_took:
            self.write_tables()
        rows = record.rows(self._searcher.control_asr)
        self._tracker.follow(record, rows)
        self._display.trial_ended(record, rows)
        if not record.open:
            remove_tree(self._folder.states / record.trial_id)

    def close(self, reason: str) -> None:
        """Write down what the sweep leaves unfinished."""
        while self._searcher.refused:
            self.ended(self._searcher.refused.popleft())
        for record in self._searcher.abandon(reason):
            self.ended(record)
        self.write_tables()

    def write_tables(self) -> None:
        """Write ``trials.parquet`` and ``curves.parquet`` as things stand."""
        began = time.monotonic()
        self._folder.write_tables(self._searcher.records.values(), self._searcher.control_asr)
        self._written_at = time.monotonic()
        self._writing_took = self._written_at - began
