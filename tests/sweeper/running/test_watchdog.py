import time
from threading import Event

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
    with Watchdog(lambda: None, giving_up, patience_s=0.2) as watchdog:
        watchdog.watch(stopper)
        assert not giving_up.done.wait(0.1)
        stopper.stop_in_haste("the sweep was interrupted")
        began = time.monotonic()
        assert giving_up.done.wait(10)
        assert time.monotonic() - began > 0.1
        time.sleep(0.1)
    assert giving_up.reasons == ["the sweep was interrupted"], "once"


def test_a_sweep_that_ends_in_time_is_left_alone() -> None:
    giving_up, stopper = GivingUp(), SweepStopper(None)
    with Watchdog(lambda: None, giving_up, patience_s=0.05) as watchdog:
        watchdog.watch(stopper)
        stopper.stop("the time budget ended")
        time.sleep(0.2)
        stopper.stop_in_haste("the sweep was interrupted")
    time.sleep(0.2)
    assert giving_up.reasons == []


def test_a_sweep_without_its_ray_ends() -> None:
    giving_up, stopper = GivingUp(), SweepStopper(None)
    lost: list[str] = []
    with Watchdog(lambda: lost[0] if lost else None, giving_up, patience_s=0.05) as watchdog:
        watchdog.watch(stopper)
        time.sleep(0.1)
        assert not stopper.stop_all()
        lost.append("gcs_server")
        assert giving_up.done.wait(10)
    assert stopper.stop_all()
    assert giving_up.reasons == ["Ray's own process gcs_server was killed"]
