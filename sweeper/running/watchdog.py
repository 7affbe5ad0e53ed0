"""Ends the program where Ray would keep it from ending: its processes are gone, or it waits for what does not come."""

from collections.abc import Callable
from threading import Event, Thread
from time import monotonic

from sweeper.running.stopper import SweepStopper

EVERY_S = 0.5
PATIENCE_S = 12.0
"""How long Ray is given to end what runs. Who sends SIGTERM often sends SIGKILL 20 to 90 seconds later; Ray Tune itself
gives trials 5 s."""


class Watchdog:
    """As a context manager it watches over a sweep, the end of Ray included.

    Args:
        lost_daemon: names a process of Ray that is gone; null: none is.
        give_up: is called with the reason of the end when Ray does not end in time, from another thread.
        patience_s: seconds for Ray to end.
    """

    def __init__(
        self,
        lost_daemon: Callable[[], str | None],
        give_up: Callable[[str], None],
        patience_s: float = PATIENCE_S,
    ):
        self._lost_daemon = lost_daemon
        self._give_up = give_up
        self._patience_s = patience_s
        self._ended = Event()

    def __enter__(self) -> "Watchdog":
        """Nothing is watched yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ray has ended."""
        self._ended.set()

    def watch(self, stopper: SweepStopper) -> None:
        """Begin.

        Args:
            stopper: of the sweep; it is told if Ray's own processes are gone.
        """
        Thread(target=self._watch, args=[stopper], name="watchdog", daemon=True).start()

    def _watch(self, stopper: SweepStopper) -> None:
        while not self._ended.wait(EVERY_S):
            if stopper.reason is None:
                name = self._lost_daemon()
                if name is not None:
                    stopper.stop_in_haste(f"Ray's own process {name} was killed")
            since = stopper.in_haste_since
            if since is not None and monotonic() >= since + self._patience_s:
                self._give_up(str(stopper.reason))
                return
