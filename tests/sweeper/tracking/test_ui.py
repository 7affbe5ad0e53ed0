import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from sweeper.tracking import ui
from sweeper.tracking.ui import serve_mlflow
from tests.servers import PATIENCE_S
from tests.sweeper.small import fresh_store
from trainers.errors import ConfigError
from trainers.storage.network import THIS_MACHINE


def get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=10) as answer:
        content: bytes = answer.read()
        return content


def test_runs_are_served_on_this_machine_alone_and_no_proxy_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "intern.example")
    monkeypatch.setattr(ui, "SECONDS_TO_START", PATIENCE_S)
    with serve_mlflow(fresh_store(tmp_path / "mlflow.db"), 0) as runs:
        assert runs.startswith(f"http://{THIS_MACHINE}:")
        assert b"MLflow" in get(runs)
    with pytest.raises(urllib.error.URLError):
        get(runs)


def test_a_server_that_runs_already_is_not_started_again() -> None:
    with serve_mlflow("http://somewhere:5000", 0) as runs:
        assert runs == "http://somewhere:5000"


def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((THIS_MACHINE, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=rf"Port {port} cannot be used"),
            serve_mlflow(f"sqlite:///{tmp_path}/mlflow.db", port),
        ):
            pass


def test_what_does_not_start_in_time_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own process waits for others, and may not obey while it starts."""
    started: list[int] = []
    popen = subprocess.Popen

    def stubborn(command: list[str], **options: Any) -> Any:
        inner = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        outer = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {inner!r}]); {inner}"
        process = popen([sys.executable, "-c", outer], **options)
        started.append(process.pid)
        return process

    monkeypatch.setattr(ui.subprocess, "Popen", stubborn)
    monkeypatch.setattr(ui, "SECONDS_TO_START", 2)
    monkeypatch.setattr(ui, "SECONDS_TO_END", 0.5)
    with pytest.raises(ConfigError, match="did not start"), serve_mlflow(f"sqlite:///{tmp_path}/m.db", 0):
        pass
    monkeypatch.undo()
    found = subprocess.run(["ps", "-e", "-o", "pgid=,stat="], check=True, capture_output=True, text=True).stdout
    group = [line.split()[1] for line in found.splitlines() if int(line.split()[0]) == started[0]]
    assert all(state.startswith("Z") for state in group), "what has ended may wait for whoever asks for its status"
