"""Ends the program where Ray would keep it from ending: its processes are gone, or it waits for what does not come."""

from collections.abc import Callable
from threading import Event, Thread

from sweeper.running.stopper import SweepStopper

EVERY_S = 0.5
PATIENCE_S = 12.0
"""How long Ray is given to end what runs. Who sends SIGTERM often sends SIGKILL 20 to 90 seconds later; Ray Tune itself
gives trials 5 s."""


def _none_is_lost() -> None:
    """No process of Ray is missed."""


class Watchdog:
    """As a context manager it watches over what Ray does inside: it runs the trials, or it ends.

    What this program writes itself is no part of the time: a slow disk or object store is not Ray.

    Args:
        stopper: of the sweep; it is told if Ray's own processes are gone.
        give_up: is called with the reason of the end when Ray does not end in time, from another thread.
        lost_daemon: names a process of Ray that is gone; null: none is. While Ray ends, its processes may go.
        is_writing: tells whether this program, and not Ray, is at work.
        patience_s: seconds for Ray to end, from when somebody asked for the end who may not wait for long.
    """

    def __init__(
        self,
        stopper: SweepStopper,
        give_up: Callable[[str], None],
        lost_daemon: Callable[[], str | None] = _none_is_lost,
        is_writing: Callable[[], bool] = lambda: False,
        patience_s: float = PATIENCE_S,
    ):
        self._stopper = stopper
        self._give_up = give_up
        self._lost_daemon = lost_daemon
        self._is_writing = is_writing
        self._patience_s = patience_s
        self._ended = Event()
        self._thread = Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ray has done it. The stopper hears nothing any more."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        waited_s = 0.0
        while not self._ended.wait(EVERY_S):
            if self._stopper.reason is None:
                name = self._lost_daemon()
                if name is not None:
                    self._stopper.stop_in_haste(f"Ray's own process {name} was killed")
            if self._stopper.in_haste and not self._is_writing():
                waited_s += EVERY_S
                if waited_s >= self._patience_s:
                    self._give_up(str(self._stopper.reason))
                    return
