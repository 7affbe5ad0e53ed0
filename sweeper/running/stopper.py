"""Ends trainings that nobody needs any more, and a whole sweep early: Ctrl-C, SIGTERM, a time budget, a full disk."""

import signal
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from ray.tune import Stopper


class SweepStopper(Stopper):
    """Tells Ray to stop everything; as a context manager it listens to Ctrl-C, to SIGTERM, and to SIGHUP, by which a
    terminal that is closed ends what runs in it (a second Ctrl-C does not wait for Ray; the others may come twice).

    Args:
        time_budget_s: seconds from now; null: no limit.
        is_broken: tells whether files cannot be written any more.
    """

    def __init__(self, time_budget_s: float | None, is_broken: Callable[[], bool] = lambda: False):
        self._deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
        self._is_broken = is_broken
        self._reason: str | None = None
        self._unwanted: set[str] = set()
        self.in_haste = False
        """Whether somebody asked for the end who may not wait for long."""

    @property
    def reason(self) -> str | None:
        """Why the sweep ends early; null if it does not."""
        if self._reason is None and self._is_broken():
            self._reason = "its files cannot be written any more"
        return self._reason

    def stop(self, reason: str) -> None:
        """End the sweep."""
        self._reason = reason

    def stop_in_haste(self, reason: str) -> None:
        """End the sweep soon: whoever asks may end the program itself otherwise."""
        self.stop(reason)
        self.in_haste = True

    def __getstate__(self) -> dict[str, Any]:
        """An empty state: Ray pickles its stopper into a file of its own, which nobody reads."""
        return {}

    def stop_some(self, ray_ids: Iterable[str]) -> None:
        """End trainings at their next reports."""
        self._unwanted |= set(ray_ids)

    def stopped(self, ray_id: str) -> None:
        """Take note that a training has ended."""
        self._unwanted.discard(ray_id)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether a training ends now; Ray asks at each of its reports."""
        return trial_id in self._unwanted

    def stop_all(self) -> bool:
        """Whether the sweep ends now; Ray asks between epochs."""
        if self.reason is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self.stop("the time budget ended")
        return self.reason is not None

    def __enter__(self) -> "SweepStopper":
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: it is to outlive its terminal
            numbers.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._interrupt) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        self.stop_in_haste("the sweep was interrupted")
        # Not the handler of before: a shell's background jobs begin with Ctrl-C ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
