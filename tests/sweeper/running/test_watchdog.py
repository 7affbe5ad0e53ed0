import time
from threading import Event, Timer

import pytest

from sweeper.running import watchdog as watching
from sweeper.running.stopper import SweepStopper
from sweeper.running.watchdog import Watchdog


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EVERY_S", 0.01)


class GivingUp:
    """Notes why the watchdog gave up."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.done = Event()

    def __call__(self, reason: str) -> None:
        self.reasons.append(reason)
        self.done.set()


def test_it_gives_up_when_ray_does_not_end_in_time() -> None:
    giving_up, stopper = GivingUp(), SweepStopper(None)
    with Watchdog(stopper, giving_up, patience_s=0.2):
        assert not giving_up.done.wait(0.3)
        stopper.stop_in_haste("the sweep was interrupted")
        began = time.monotonic()
        assert giving_up.done.wait(10)
        assert time.monotonic() - began > 0.1
        time.sleep(0.1)
    assert giving_up.reasons == ["the sweep was interrupted"], "once"


def test_a_sweep_that_ends_in_time_is_left_alone() -> None:
    giving_up, stopper = GivingUp(), SweepStopper(None)
    with Watchdog(stopper, giving_up, patience_s=0.05):
        stopper.stop("the time budget ended")
        time.sleep(0.2)
        stopper.stop_in_haste("the sweep was interrupted")
    time.sleep(0.2)
    assert giving_up.reasons == []


def test_a_sweep_without_its_ray_ends() -> None:
    giving_up, stopper = GivingUp(), SweepStopper(None)
    lost: list[str] = []
    with Watchdog(stopper, giving_up, lambda: lost[0] if lost else None, patience_s=0.05):
        time.sleep(0.1)
        assert not stopper.stop_all()
        lost.append("gcs_server")
        assert giving_up.done.wait(10)
    assert stopper.stop_all()
    assert giving_up.reasons == ["Ray's own process gcs_server was killed"]


def test_time_in_which_this_program_writes_is_none_in_which_ray_does_not_end() -> None:
    giving_up, stopper = GivingUp(), SweepStopper(None)
    writing = [True]
    with Watchdog(stopper, giving_up, is_writing=lambda: writing[0], patience_s=0.05):
        stopper.stop_in_haste("the sweep was interrupted")
        assert not giving_up.done.wait(0.3)
        writing[0] = False
        assert giving_up.done.wait(10)


def test_the_stopper_hears_nothing_once_ray_has_done_it() -> None:
    stopper, asked, answer = SweepStopper(None), Event(), Event()

    def lost_daemon() -> str:
        asked.set()
        answer.wait(10)
        return "raylet"

    with Watchdog(stopper, GivingUp(), lost_daemon):
        assert asked.wait(10)
        Timer(0.1, answer.set).start()
    assert stopper.reason == "Ray's own process raylet was killed", "the block was not left before the answer came"
