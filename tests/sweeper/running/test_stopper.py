import os
import signal

import pytest

from sweeper.running import stopper as stopping
from sweeper.running.stopper import SweepStopper


def test_without_budget_it_never_stops() -> None:
    stopper = SweepStopper(None)
    assert not stopper.stop_all()
    assert not stopper("t0000", {})
    assert stopper.reason is None


def test_the_time_budget_ends_everything_and_no_single_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    stopper = SweepStopper(60.0)
    now[0] = 159.9
    assert not stopper.stop_all()
    now[0] = 160.0
    assert stopper.stop_all()
    assert not stopper("t0000", {"done": False})
    assert stopper.reason == "the time budget ended"
    now[0] = 0.0
    assert stopper.stop_all(), "once ended it stays ended"


def test_a_training_that_nobody_needs_ends_at_its_next_report_and_no_other() -> None:
    stopper = SweepStopper(None)
    stopper.stop_some(ray_id for ray_id in ("a", "b"))
    stopper.stop_some(["c"])
    assert [stopper(ray_id, {}) for ray_id in "abcd"] == [True, True, True, False]
    assert not stopper.stop_all()
    stopper.stopped("b")
    stopper.stopped("of somebody else")
    assert [stopper(ray_id, {}) for ray_id in "abcd"] == [True, False, True, False]


def test_ctrl_c_is_a_wish_and_the_second_one_an_order() -> None:
    before = signal.getsignal(signal.SIGINT)
    stopper = SweepStopper(None)
    with stopper:
        os.kill(os.getpid(), signal.SIGINT)
        assert stopper.stop_all()
        assert stopper.reason == "the sweep was interrupted"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("ignored", [False, True], ids=["heard", "ignored by the shell"])
def test_a_background_job_hears_it_too(ignored: bool) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        with SweepStopper(None) as stopper:
            os.kill(os.getpid(), signal.SIGINT)
            assert stopper.stop_all()
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_request_to_terminate_is_such_a_wish() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with SweepStopper(None) as stopper:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopper.stop_all()
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_it_ctrl_c_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with SweepStopper(None):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(ZeroDivisionError), SweepStopper(None):
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interruption_goes_before_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    stopper = SweepStopper(0.0)
    stopper.stop("the sweep was interrupted")
    assert stopper.stop_all()
    assert stopper.reason == "the sweep was interrupted"


def test_a_terminal_that_is_closed_is_such_a_wish_unless_nohup_keeps_the_sweep() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with SweepStopper(None) as stopper:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stopper.stop_all()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with SweepStopper(None) as stopper:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopper.stop_all()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_who_sends_a_signal_does_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    with SweepStopper(None) as stopper:
        assert not stopper.in_haste
        for _ in range(2):  # timeout sends one to the process and one to its group
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopper.in_haste
    stopper = SweepStopper(1.0)
    now[0] = 200.0
    assert stopper.stop_all()
    assert not stopper.in_haste, "a time budget is in no haste"
