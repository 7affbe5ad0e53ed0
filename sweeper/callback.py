"""Follows Ray Tune's trials into the records, the run folder, the tracking and the display."""

import shutil
from typing import Any

from ray.tune import Callback

from sweeper.progress import Display
from sweeper.records import RUNNING, TrialRecord
from sweeper.results import RunFolder
from sweeper.searcher import SweepSearcher
from sweeper.tracking import Tracker


class RecordKeeper(Callback):
    """Writes the run folder as trials finish, and tells tracking and display.

    Args:
        searcher: holds the records; Ray tells it of an end before this.
        folder: the run folder.
        tracker: MLflow.
        display: what the user sees.
    """

    def __init__(self, searcher: SweepSearcher, folder: RunFolder, tracker: Tracker, display: Display):
        self._searcher = searcher
        self._folder = folder
        self._tracker = tracker
        self._display = display

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles its callbacks into a file of its own, which nobody reads."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial starts, or starts again."""
        record = self._searcher.by_ray_id[trial.trial_id]
        self._tracker.trial_started(record)
        self._display.trial_started(record)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch is trained."""
        record = self._searcher.by_ray_id[trial.trial_id]
        if "figures" in result:
            run = (result["scenario"], result["seed"])
            record.add_epoch(run, result["figures"], result["facts"])
            self._tracker.epoch_ended(record, run, result["figures"])
            self._display.epoch_ended(record)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended by itself or was stopped."""
        self.ended(self._searcher.by_ray_id[trial.trial_id])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial crashed for the last time."""
        self.ended(self._searcher.by_ray_id[trial.trial_id])

    def ended(self, record: TrialRecord) -> None:
        """Write down an end."""
        self.write_tables()
        rows = record.rows(self._searcher.control_asr)
        self._tracker.trial_ended(record, rows)
        self._display.trial_ended(record, rows)
        if record.status != RUNNING:
            shutil.rmtree(self._folder.states / record.trial_id, ignore_errors=True)

    def write_tables(self) -> None:
        """Write ``trials.parquet`` and ``curves.parquet`` as things stand."""
        records = self._searcher.records.values()
        self._folder.write_trials([row for record in records for row in record.rows(self._searcher.control_asr)])
        self._folder.write_curves([row for record in records for row in record.curve_rows()])
