"""Who works on a place in an object store."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sweeper import launch
from sweeper.run_folder import claim as store_claim
from sweeper.run_folder.claim import CLAIM, claimed, other_driver, refuse_other_driver
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.mirror import Mirror, fetch
from tests.sweeper.cli.calls import sweep_at
from trainers.errors import ConfigError
from trainers.storage.object_store import ObjectPath


@pytest.fixture
def store(s3: str, tmp_path: Path) -> ObjectPath:
    return ObjectPath(f"{s3}/{tmp_path.name}/run")


def claim(store: ObjectPath, process: int = 7, machine: str = "elsewhere", age: float = 20, token: str = "x") -> bytes:
    content = {"token": token, "process": process, "host": "head", "machine": machine, "at": time.time() - age}
    (store / CLAIM).write_bytes(json.dumps(content).encode())
    return (store / CLAIM).read_bytes()


@pytest.mark.parametrize(
    ("age", "free"), [(0, False), (50, False), (61, True), (-100, False), (-1e5, True), (float("nan"), True)]
)
def test_a_driver_keeps_its_place_for_a_minute(store: ObjectPath, age: float, free: bool) -> None:
    claim(store, age=age)
    if free:
        refuse_other_driver(store)
    else:
        with pytest.raises(
            ConfigError, match=r"run is in use by process 7 on head, last heard of \d+ s ago; if that is"
        ):
            refuse_other_driver(store)


def test_a_driver_of_this_machine_that_has_died_keeps_nothing(store: ObjectPath) -> None:
    machine = store_claim._machine()
    died = subprocess.Popen(["true"])
    died.wait()
    claim(store, died.pid, machine)
    assert other_driver(store) is None
    claim(store, os.getppid(), machine)
    assert other_driver(store) is not None
    claim(store, 10**30, machine)
    assert other_driver(store) is None
    claim(store, died.pid)  # a process of that number on another machine
    assert other_driver(store) is not None


@pytest.mark.parametrize("left", [b"", b"[]", b'{"token": "x"}', b"\xff"])
def test_a_claim_that_says_nothing_keeps_nobody_out(store: ObjectPath, left: bytes) -> None:
    assert other_driver(store) is None
    (store / CLAIM).write_bytes(left)
    assert other_driver(store) is None


def test_a_store_that_does_not_answer_is_not_taken_for_a_free_place(
    store: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_path: ObjectPath) -> bytes:
        raise OSError("no answer")

    monkeypatch.setattr(ObjectPath, "read_bytes", away)
    with pytest.raises(ConfigError, match="run cannot be read: no answer"), claimed(store):
        pytest.fail("it began")


def test_the_place_is_held_as_long_as_a_sweep_runs(store: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_claim, "RENEW_EVERY_S", 0.2)
    with claimed(store):
        first = (store / CLAIM).read_bytes()
        assert json.loads(first)["process"] == os.getpid()
        until = time.monotonic() + 30
        while (store / CLAIM).read_bytes() == first:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert not (store / CLAIM).exists()
    with claimed(None):
        pass


def test_who_was_taken_over_stops_and_leaves_the_place_to_the_other(
    store: ObjectPath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store_claim, "RENEW_EVERY_S", 0.2)
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(store_claim.os, "kill", lambda *call: sent.append(call))
    with claimed(store):
        others = claim(store, age=0)
        until = time.monotonic() + 30
        while not sent:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert "was taken over by process 7 on head" in caplog.text
    assert (store / CLAIM).read_bytes() == others


def test_what_another_driver_works_on_is_neither_resumed_nor_fetched(store: ObjectPath, tmp_path: Path) -> None:
    folder = RunFolder(sweep_at(tmp_path / "run"), store)
    folder.write_sweep(folder.read_sweep() | {"store": str(store)})
    Mirror(folder).push()
    (store / "states" / "t0009" / "owner.txt").write_bytes(b"1")
    claim(store)
    before = sorted(store.walk())
    with pytest.raises(ConfigError, match="is in use by process 7 on head"):
        launch.resume(folder.path, launch.Console())
    with pytest.raises(ConfigError, match="is in use by process 7 on head"):
        fetch(store, tmp_path / "elsewhere")
    assert sorted(store.walk()) == before
    assert list((tmp_path / "elsewhere").glob("*")) == []
    claim(store, age=61)
    assert not (fetch(store, tmp_path / "elsewhere").path / CLAIM).exists()
