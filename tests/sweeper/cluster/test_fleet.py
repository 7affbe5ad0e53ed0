"""Hosts that come, go and fail."""

import pytest

from sweeper.cluster import fleet as module
from sweeper.cluster.fleet import BAD_AFTER, NOTICED_AFTER_S, Fleet
from tests.sweeper.small import Hosts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_room_follows_the_hosts_within_a_second(clock: list[float]) -> None:
    there = Hosts("1")
    fleet = Fleet({"CPU": 1}, there)
    assert fleet.room() == 2
    there.names = ["1", "2"]
    assert fleet.room() == 2
    clock[0] = 101.0
    assert fleet.room() == 4
    there.names = ["2"]
    assert fleet.is_gone("2", since=101.5) is False  # looked up at once
    assert fleet.is_gone("1", since=101.5)
    assert fleet.name("1") == "10.0.0.1"


def fail(fleet: Fleet, host: str, *trials: str, works: str = "2") -> list[bool]:
    """Trials crash on a host one after the other, while another trial gets on elsewhere."""
    said = []
    for trial in trials:
        said.append(fleet.failed(host, trial, "no disk"))
        fleet.worked(works)
    return said


def test_a_host_on_which_every_trial_fails_is_avoided(clock: list[float]) -> None:
    fleet = Fleet({"CPU": 1}, Hosts("1", "2"))
    assert fleet.room() == 4
    trials = [f"t{i}" for i in range(BAD_AFTER + 1)]
    assert fail(fleet, "1", *trials) == [*[False] * (BAD_AFTER - 1), True, False]  # it is said once
    assert fleet.avoided == {"1": "no disk"}
    assert fleet.room() == 2


def test_one_trial_that_always_fails_is_no_hosts_fault(clock: list[float]) -> None:
    fleet = Fleet({"CPU": 1}, Hosts("1", "2"))
    fleet.room()
    assert not any(fail(fleet, "1", *["t0"] * 9))


def test_a_host_on_which_trials_get_on_between_crashes_is_not_avoided(clock: list[float]) -> None:
    fleet = Fleet({"CPU": 1}, Hosts("1", "2"))
    fleet.room()
    for number in range(9):
        assert fail(fleet, "1", f"t{number}") == [False]
        if number % 2:
            fleet.worked("1")


def test_a_host_that_breaks_after_trials_got_on_there_is_avoided(clock: list[float]) -> None:
    fleet = Fleet({"CPU": 1}, Hosts("1", "2"))
    fleet.room()
    fleet.worked("1")
    assert fail(fleet, "1", "a", "b", "c") == [False, False, True]


def test_what_crashes_on_every_host_is_no_hosts_fault(clock: list[float]) -> None:
    fleet = Fleet({"CPU": 1}, Hosts("1", "2"))
    fleet.room()
    for host in ("1", "2"):
        fleet.worked(host)  # before
    for number in range(9):
        assert not any(fleet.failed(host, f"t{number}", "no memory") for host in ("1", "2"))


@pytest.mark.parametrize("left", [["1"], ["1", "3"]])
def test_the_last_host_is_not_avoided_whatever_fails_there(clock: list[float], left: list[str]) -> None:
    there = Hosts("1", "2")
    fleet = Fleet({"CPU": 1}, there)
    there.names = left  # host 2 is gone, and on 3 nothing has worked yet
    assert fleet.room() == 2 * len(left)
    assert not any(fail(fleet, "1", *[f"t{i}" for i in range(9)]))


def test_a_cluster_is_given_time_to_notice_that_a_host_is_gone(clock: list[float]) -> None:
    there = Hosts("1", "2")
    fleet = Fleet({"CPU": 1}, there)
    assert fleet.is_gone("1", since=100.0) is None
    clock[0] = 105.0
    assert fleet.is_gone("1", since=100.0) is None
    there.names, clock[0] = ["2"], 105.5
    assert fleet.is_gone("1", since=100.0)
    there.names, clock[0] = ["1", "2"], 200.0 + NOTICED_AFTER_S - 0.1
    assert fleet.is_gone("2", since=200.0) is None
    clock[0] = 200.0 + NOTICED_AFTER_S
    assert fleet.is_gone("2", since=200.0) is False


def test_where_none_but_avoided_hosts_are_left_they_are_tried_again(clock: list[float]) -> None:
    there = Hosts("1", "2")
    fleet = Fleet({"CPU": 1}, there)
    fleet.room()
    fail(fleet, "1", "a", "b", "c")
    assert fleet.others([]) == 1
    there.names, clock[0] = ["1"], 200.0
    assert fleet.room() == 2
    assert fleet.avoided == {}
    there.names, clock[0] = ["1", "2"], 300.0
    assert fleet.others([]) == 2
    assert not any(fail(fleet, "1", "a", "b"))  # it begins anew
    assert fail(fleet, "1", "c") == [True]
