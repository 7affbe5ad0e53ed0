"""Stands in for MLflow where a sweep goes on without it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper.run_folder.record import TrialRecord
from sweeper.tracking.store import without_secret
from sweeper.tracking.sweep_run import WHOLE_SWEEP


class Untracked:
    """A follower of a sweep's ledger that writes nothing, and knows what the store lacks in the end.

    Args:
        uri: of the tracking store.
    """

    def __init__(self, uri: str):
        self.shown_uri = without_secret(uri)
        self._ended: set[str] = set()

    @property
    def behind(self) -> list[str]:
        """What MLflow does not know: ended trials, and the sweep's own run."""
        return sorted({*self._ended, WHOLE_SWEEP})

    def trial_changed(self, record: TrialRecord) -> None:
        """Nothing."""

    def epoch_ended(self, record: TrialRecord) -> None:
        """Nothing."""

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """Note that the store lacks it."""
        self._ended.add(record.trial_id)

    def make_haste(self) -> None:
        """Nothing."""

    def sweep_ended(self, artifacts: Sequence[Path], metrics: dict[str, float], status: str) -> None:
        """Nothing."""
