"""Ends a whole sweep before its last trial: Ctrl-C, SIGTERM, or a time budget."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from optuna.exceptions import StorageInternalError
from ray.tune import Stopper


class SweepStopper(Stopper):
    """Tells Ray to stop everything; as a context manager it listens to Ctrl-C and to SIGTERM (a second Ctrl-C ends the
    program at once).

    Args:
        time_budget_s: seconds from now; null: no limit.
    """

    def __init__(self, time_budget_s: float | None):
        self._deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
        self.reason: str | None = None
        self.broken: Exception | None = None

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Note the first error of the disk or of the study's database, and end the sweep. Ray would take an error that
        is raised in its own loop for one of the trial's.
        """
        try:
            yield
        except (OSError, StorageInternalError) as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """End the sweep, since nothing more can be written down."""
        if self.broken is None:
            self.broken = error
            self.reason = self.reason or "its files cannot be written any more"

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Single trials are the scheduler's business."""
        return False

    def stop_all(self) -> bool:
        """Whether the sweep ends now; Ray asks between epochs."""
        if self.reason is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self.reason = "the time budget ended"
        return self.reason is not None

    def __enter__(self) -> "SweepStopper":
        self._before = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        self.reason = "the sweep was interrupted"
        # Not the handler of before: a shell's background jobs begin with Ctrl-C ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
