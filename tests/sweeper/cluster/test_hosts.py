"""What fits on which host; hosts themselves come with the tests marked cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError, RayError

from sweeper.cluster import hosts as cluster
from sweeper.cluster.hosts import Host, await_room, check_hosts, find_unusable_hosts, room
from sweeper.running import WORKER
from trainers.errors import ConfigError


def hosts_with(monkeypatch: pytest.MonkeyPatch, *has: dict[str, float]) -> None:
    found = [Host(f"{i}" * 56, f"10.0.0.{i}", resources) for i, resources in enumerate(has)]
    monkeypatch.setattr(cluster, "hosts", lambda: found)


@pytest.mark.parametrize(
    ("has", "wanted", "fit"),
    [
        ({"CPU": 8}, {"CPU": 3, "GPU": 0}, 2),
        ({"CPU": 8, "GPU": 2}, {"CPU": 1, "GPU": 0.25}, 8),
        ({"CPU": 6, "GPU": 2}, {"CPU": 1, "GPU": 0.25}, 6),
        ({"CPU": 64, "GPU": 2}, {"CPU": 1, "GPU": 0.4}, 4),  # two shares of 0.4 on each; the rest is no whole share
        ({"CPU": 64, "GPU": 3}, {"CPU": 1, "GPU": 2}, 1),
        ({"CPU": 64, "GPU": 10}, {"CPU": 1, "GPU": 0.1}, 64),
        ({"CPU": 64, "GPU": 1}, {"CPU": 1, "GPU": 0.1}, 10),
        ({"CPU": 4}, {"CPU": 1, "GPU": 1}, 0),
        ({"CPU": 4, "a100": 1}, {"CPU": 1, "GPU": 0, "a100": 0.5}, 2),
        ({"CPU": 4}, {"CPU": 1, "GPU": 0, "a100": 0.5}, 0),
        ({}, {"CPU": 1}, 0),
    ],
)
def test_what_fits_on_a_host(has: dict[str, float], wanted: dict[str, float], fit: int) -> None:
    assert Host("1", "10.0.0.1", has).room(wanted) == fit


def test_a_trial_never_lies_on_two_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts_with(monkeypatch, {"CPU": 3}, {"CPU": 5})
    assert (room({"CPU": 2}), room({"CPU": 4}), room({"CPU": 6})) == (3, 1, 0)


def test_what_the_cluster_has_is_named_where_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"memory": 1e9, "object_store_memory": 1e9, "node:10.0.0.1": 1.0, "node:__internal_head__": 1.0}
    hosts_with(monkeypatch, {"CPU": 2}, {"CPU": 16, "GPU": 1, "t4": 1} | own)
    await_room({"CPU": 1, "GPU": 1}, 0)
    with pytest.raises(ConfigError) as caught:
        await_room({"CPU": 4, "GPU": 2, "a100": 1}, 0)
    assert str(caught.value) == (
        "A training asks for 4 CPUs and 2 GPUs and 1 a100, which no host has: 10.0.0.0 has 2 CPUs and 0 GPUs; "
        "10.0.0.1 has 16 CPUs and 1 GPU and 1 t4. Change resources."
    )


def test_hosts_that_join_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        hosts_with(monkeypatch, *[{"CPU": 2}, {"CPU": 2, "GPU": 1}][: 2 if now >= 14 else 1])

    monkeypatch.setattr(cluster.time, "monotonic", lambda: now)
    monkeypatch.setattr(cluster.time, "sleep", sleep)
    hosts_with(monkeypatch, {"CPU": 2})
    await_room({"CPU": 1, "GPU": 1}, 30)
    assert now == 14
    with pytest.raises(ConfigError, match="asks for 1 CPU and 4 GPUs"):
        await_room({"CPU": 1, "GPU": 4}, 30)
    assert now == 44


def test_one_host_needs_no_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hosts_with(monkeypatch, {"CPU": 2})
    monkeypatch.setattr(cluster.ray, "remote", lambda **_: pytest.fail("a task was sent"))
    check_hosts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def answers(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Two hosts, of which the second answers with these changes."""
    hosts_with(monkeypatch, {"CPU": 2}, {"CPU": 2})

    class Task:
        def __init__(self, look: Any):
            self.look = look

        def options(self, scheduling_strategy: Any) -> "Task":
            self.host = scheduling_strategy.node_id
            return self

        def remote(self, *arguments: str) -> Callable[[], dict[str, Any]]:
            own = changes if self.host == "1" * 56 else {}
            return lambda: self.look(*arguments) | own

    def get(answer: Callable[[], dict[str, Any]], timeout: float) -> dict[str, Any]:
        try:
            return answer()
        except Exception as error:
            raise RayError(f"ray::_look() on a host\n{type(error).__name__}: {error}") from error

    monkeypatch.setattr(cluster.ray, "remote", lambda **_: Task)
    monkeypatch.setattr(cluster.ray, "get", get)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"code": "0123"}, "10.0.0.1 runs another version of this program than this one; install the same"),
        ({"torch": "2.11.0"}, "10.0.0.1 runs torch 2.11.0, and this one"),
        ({"sees": False}, "10.0.0.1 does not see .*; give --storage a folder that all hosts share"),
        ({"unwritable": "Read-only file system"}, "10.0.0.1 cannot write .*: Read-only file system"),
    ],
)
def test_a_host_that_is_not_fit_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    answers(monkeypatch)
    check_hosts(tmp_path)
    answers(monkeypatch, **changes)
    with pytest.raises(ConfigError, match=text):
        check_hosts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_cannot_load_what_trials_run_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def load(name: str) -> None:
        asked.append(name)
        if len(asked) == 3:  # here, on the first host, on the second
            raise OSError("libcudart.so.13: cannot open shared object file")

    answers(monkeypatch)
    monkeypatch.setattr(cluster, "import_module", load)
    check_hosts(tmp_path)
    assert asked == []
    with pytest.raises(ConfigError, match=r"10.0.0.1 cannot run this program: OSError: libcudart.so.13: cannot open"):
        check_hosts(tmp_path, WORKER)
    assert set(asked) == {WORKER}
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def late(answer: Any, timeout: float) -> Any:
        raise GetTimeoutError("Get timed out")

    answers(monkeypatch)
    monkeypatch.setattr(cluster.ray, "get", late)
    with pytest.raises(ConfigError, match=r"^The host 10.0.0.0 did not answer within 60 s.$"):
        check_hosts(tmp_path)


def test_hosts_are_asked_whether_they_are_usable_and_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Task:
        def options(self, scheduling_strategy: Any) -> "Task":
            self.host = scheduling_strategy.node_id
            return self

        def remote(self, module: str) -> str:
            assert module == WORKER
            return f"answer of {self.host[0]}"

    now, done = [100.0], set[str]()

    def wait(asked: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        assert timeout == 0
        return [name for name in asked if name in done], [name for name in asked if name not in done]

    def get(answer: str) -> None:
        if answer == "answer of b":
            raise RayError("ray::_load() on a host\nImportError: odd")

    for name, stand_in in (("remote", lambda **_: lambda _load: Task()), ("wait", wait), ("get", get)):
        monkeypatch.setattr(cluster.ray, name, stand_in)
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    hosts = [Host(name * 56, f"10.0.0.{name}", {"CPU": 2}) for name in "abc"]
    unusable = find_unusable_hosts(hosts, WORKER)
    assert unusable() is None
    done |= {"answer of a", "answer of b"}
    assert unusable() is None, "the third may still answer"
    now[0] += cluster.PROBE_S
    assert unusable() == {"b" * 56: "ImportError: odd"}, "the third is busy, or gone"
    assert find_unusable_hosts([], WORKER)() == {}

    def away(*_: Any, **__: Any) -> Any:
        raise RayError("the head is away")

    unusable = find_unusable_hosts(hosts, WORKER)
    monkeypatch.setattr(cluster.ray, "wait", away)
    assert unusable() == {}, "no host is to blame"
    monkeypatch.setattr(Task, "remote", away)
    assert find_unusable_hosts(hosts, WORKER)() == {}
