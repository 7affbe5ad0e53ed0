"""Ray as it is started; sweeps that run are in tests/sweeper/sweeps."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sweeper.cli.signals import end_as_with_ctrl_c
from sweeper.cluster import runtime as cluster
from sweeper.cluster.address import RayUnavailable
from trainers.errors import ConfigError

BLOCKED = "print(next(line for line in open('/proc/self/status', encoding='utf-8') if line.startswith('SigBlk')))"


def test_workers_do_not_look_for_modules_where_the_sweep_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's images may lie there, and a file called torch.py beside them."""
    started: list[Path] = []

    def init(**_: Any) -> None:
        started.append(Path.cwd())
        raise RuntimeError("enough")

    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", init)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="Ray cannot be started: enough"), cluster.ray_runtime():
        pass
    assert started == [Path(cluster.__file__).parents[2]]
    assert Path.cwd() == tmp_path


def blocked_by_a_child() -> set[int]:
    """Signals that a process which is started now does not hear."""
    said = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, encoding="utf-8", check=True).stdout
    bits = int(said.split()[1], 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


def test_what_ray_starts_does_not_hear_what_ends_a_whole_group() -> None:
    own = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with cluster._signals_kept_from_children():
        assert {signal.SIGTERM, signal.SIGHUP} <= blocked_by_a_child()
    assert not {signal.SIGTERM, signal.SIGHUP} & blocked_by_a_child()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == own


def start_ray(number: signal.Signals) -> None:
    """As Ray does, with a signal that arrives meanwhile."""
    signal.signal(number, lambda *_: sys.exit(number))
    receive(number)


def receive(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(5)
    pytest.fail("it was not heard")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_this_process_hears_them_while_ray_starts(number: signal.Signals) -> None:
    def handler(*_: object) -> None:
        sys.exit(number)

    before = signal.signal(number, handler)
    try:
        with cluster._signals_kept_from_children():
            signal.signal(number, lambda *_: None)  # as Ray does
        assert signal.getsignal(number) is handler
        with pytest.raises(KeyboardInterrupt), cluster._signals_kept_from_children():
            start_ray(number)
        os.kill(os.getpid(), number)  # timeout sends two
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_command_hears_a_second_one_no_more_while_ray_starts(number: signal.Signals) -> None:
    """The first reached it before Ray had its own handler in place, or is one for which Ray has none."""
    before = {other: signal.signal(other, signal.SIG_DFL) for other in cluster.SIGNALS_TO_END}
    try:
        end_as_with_ctrl_c()
        with pytest.raises(KeyboardInterrupt), cluster._signals_kept_from_children():
            receive(number)
        for other in cluster.SIGNALS_TO_END:
            os.kill(os.getpid(), other)
        time.sleep(0.1)
    finally:
        for other, handler in before.items():
            signal.signal(other, handler)


def test_a_process_of_ray_that_was_killed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Node:
        def __init__(self) -> None:
            self.dead: list[tuple[str, Any]] | None = [("log_monitor", None)]

        def dead_processes(self) -> list[tuple[str, Any]]:
            if self.dead is None:
                raise RuntimeError("dictionary changed size during iteration")
            return self.dead

    monkeypatch.setattr(cluster, "_own_node", lambda: None)
    assert cluster.lost_daemon() is None, "of another's cluster nothing is known"
    node = Node()
    monkeypatch.setattr(cluster, "_own_node", lambda: node)
    assert cluster.lost_daemon() is None
    node.dead = [("log_monitor", None), ("raylet", None)]
    assert cluster.lost_daemon() == "raylet"
    node.dead = None
    assert cluster.lost_daemon() is None, "Ray starts or ends a process at this moment"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two that stand for /tmp and /var/tmp, in a shorter place than that of the tests."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    short = [tmp_path / "a", tmp_path / "b"]
    for folder in short:
        folder.mkdir()
    monkeypatch.setattr(cluster, "SHORT_FOLDERS", tuple(map(str, short)))
    monkeypatch.setattr(cluster, "LONGEST_TMPDIR", len(str(short[0])))
    return short


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_folder_with_too_long_a_name_is_replaced(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("TMPDIR", str(folders[0]))
    assert cluster.temporary_folder() is None, "it is fit"
    long = tmp_path / ("x" * 85)
    long.mkdir()
    monkeypatch.setenv(variable, str(long))
    assert cluster.temporary_folder() == folders[0] / f"ray-{os.getuid()}"
    (tmp_path / "l").symlink_to(long)
    monkeypatch.setenv(variable, str(tmp_path / "l"))
    assert cluster.temporary_folder() == folders[0] / f"ray-{os.getuid()}", "it is what the link leads to that counts"


def test_a_temporary_folder_that_is_full_or_not_there_is_replaced(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = {str(folders[0])}
    can_be_written = cluster._can_be_written
    monkeypatch.setattr(cluster, "_can_be_written", lambda folder: str(folder) not in full and can_be_written(folder))
    monkeypatch.setenv("TMPDIR", str(folders[0]))
    assert cluster.temporary_folder() == folders[1] / f"ray-{os.getuid()}"
    monkeypatch.setenv("TMPDIR", "/no/such")
    assert cluster.temporary_folder() == folders[1] / f"ray-{os.getuid()}"
    folders[1].rmdir()
    with pytest.raises(ConfigError, match=r"^No temporary folder can be written, neither /no/such nor .*; set TMPDIR"):
        cluster.temporary_folder()


def test_a_full_disk_is_noticed() -> None:
    assert not cluster._can_be_written(Path("/dev/full"))
    assert not cluster._can_be_written(Path("/proc"))


def test_sockets_of_the_longest_folder_have_names_that_linux_allows() -> None:
    from ray._private.utils import validate_socket_filepath

    longest = f"session_2026-11-27_19-54-41_385621_{2**22}/sockets/plasma_store"
    for folder in (f"/{'x' * (cluster.LONGEST_TMPDIR - 1)}/ray", f"/dev/shm/ray-{2**32}"):
        socket = f"{folder}/{longest}"
        assert len(socket) <= 107, "sun_path has 108 bytes, one of them a null (unix(7))"
        validate_socket_filepath(socket)  # which raises where Ray would refuse it


def test_a_home_that_cannot_be_written_needs_no_token_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(cluster, "temporary_folder", lambda: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    cluster._options_alone()
    assert "RAY_AUTH_TOKEN" not in os.environ, "Ray writes one"
    monkeypatch.setenv("HOME", "/proc/no-such")
    cluster._options_alone()
    assert len(os.environ["RAY_AUTH_TOKEN"]) >= 32
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    cluster._options_alone()
    assert os.environ["RAY_AUTH_TOKEN"] == "mine"


def test_what_ray_says_is_told_whole_in_one_line() -> None:
    error = RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.10.1")
    assert cluster._not_started(error, alone=True) == (
        "Ray cannot be started: Version mismatch: The cluster was started with: Ray: 2.50.0 Python: 3.10.1. "
        "Stop what is left of it (ray stop), and try again."
    )
    assert cluster._not_started(RuntimeError("x" * 999), alone=True).endswith(
        "x. Stop what is left of it (ray stop), and try again."
    )


def test_the_variable_is_named_where_a_cluster_cannot_be_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    said = cluster._not_started(ConnectionError("Could not find any running Ray instance."), alone=False)
    assert said == "The Ray cluster of RAY_ADDRESS=auto cannot be joined: Could not find any running Ray instance."


def test_a_host_that_is_too_busy_to_start_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray then raises Exception itself; errors of this program are not Ray's."""
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for raised, expected in ((Exception("timed out during startup"), RayUnavailable), (KeyError("x"), KeyError)):

        def fail(raised: Exception = raised, **_options: object) -> None:
            raise raised

        monkeypatch.setattr(cluster.ray, "init", fail)
        with pytest.raises(expected, match=r"timed out during startup|x"), cluster.ray_runtime():
            pass
