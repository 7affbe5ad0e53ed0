"""Ends a whole sweep before its last trial: Ctrl-C, or a time budget."""

import signal
import time
from types import FrameType
from typing import Any

from ray.tune import Stopper


class SweepStopper(Stopper):
    """Tells Ray to stop everything; as a context manager it listens to Ctrl-C (the second one ends at once).

    Args:
        time_budget_s: seconds from now; null: no limit.
    """

    def __init__(self, time_budget_s: float | None):
        self._deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
        self.reason: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Single trials are the scheduler's business."""
        return False

    def stop_all(self) -> bool:
        """Whether the sweep ends now; Ray asks between epochs."""
        if self.reason is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self.reason = "the time budget ended"
        return self.reason is not None

    def __enter__(self) -> "SweepStopper":
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        self.reason = "the sweep was interrupted"
        signal.signal(signal.SIGINT, self._before)
