import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from sweeper.tracking import ui
from sweeper.tracking.ui import HOST, serve
from tests.sweeper.small import fresh_store
from trainers.errors import ConfigError


def get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=10) as answer:
        content: bytes = answer.read()
        return content


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text("<p>the page</p>")
    (tmp_path / "sweep.yaml").write_text("secret: 1")
    return path


def test_report_and_runs_are_served_on_this_machine_alone(tmp_path: Path, report: Path) -> None:
    with serve(report, fresh_store(tmp_path / "mlflow.db"), 0, 0) as (page, runs):
        assert page.startswith(f"http://{HOST}:")
        assert runs.startswith(f"http://{HOST}:")
        assert get(page) == get(page + "report.html") == b"<p>the page</p>"
        assert b"MLflow" in get(runs)
    with pytest.raises(urllib.error.URLError):
        get(page)
    with pytest.raises(urllib.error.URLError):
        get(runs)


def test_nothing_but_the_report_is_handed_out(report: Path) -> None:
    with serve(report, "http://somewhere:5000", 0, 0) as (page, runs):
        assert runs == "http://somewhere:5000", "a server that runs already is not started again"
        for other in ("sweep.yaml", "../", "report.html/../sweep.yaml", "%2e%2e/sweep.yaml"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(page + other)
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(urllib.request.Request(page + other, method="HEAD"), timeout=10)


def test_a_page_elsewhere_cannot_read_along(report: Path) -> None:
    """By a name of its own that leads to this machine."""
    with serve(report, "http://somewhere:5000", 0, 0) as (page, _):
        port = page.rstrip("/").rpartition(":")[2]
        for host, fine in ((f"localhost:{port}", True), (f"127.0.0.1:{port}", True), (f"evil.example:{port}", False)):
            request = urllib.request.Request(page, headers={"Host": host})
            if fine:
                assert urllib.request.urlopen(request, timeout=10).status == 200
            else:
                with pytest.raises(urllib.error.HTTPError, match="403"):
                    urllib.request.urlopen(request, timeout=10)


@pytest.mark.parametrize("which", ["report", "mlflow"])
def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path, report: Path, which: str) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = (port, 0) if which == "mlflow" else (0, port)
        with (
            pytest.raises(ConfigError, match=rf"Port {port} cannot be used"),
            serve(report, f"sqlite:///{tmp_path}/mlflow.db", *ports),
        ):
            pass


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(
    tmp_path: Path, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "intern.example")
    with serve(report, fresh_store(tmp_path / "mlflow.db"), 0, 0) as (page, runs):
        assert get(page) == b"<p>the page</p>"
        assert b"MLflow" in get(runs)


def test_what_does_not_start_in_time_is_ended_with_all_that_it_started(
    tmp_path: Path, report: Path, monkeypatch: pytest.MonkeyPatch
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
    with pytest.raises(ConfigError, match="did not start"), serve(report, f"sqlite:///{tmp_path}/m.db", 0, 0):
        pass
    monkeypatch.undo()
    found = subprocess.run(["ps", "-e", "-o", "pgid=,stat="], check=True, capture_output=True, text=True).stdout
    group = [line.split()[1] for line in found.splitlines() if int(line.split()[0]) == started[0]]
    assert all(state.startswith("Z") for state in group), "what has ended may wait for whoever asks for its status"
