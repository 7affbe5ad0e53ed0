"""The page of a sweep, and what of its folder is served."""

import html
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.report import live
from sweeper.report.server import serve_sweep
from sweeper.run_folder.folder import RunFolder
from tests.sweeper.report.watched import Watched
from trainers.errors import ConfigError
from trainers.storage.network import THIS_MACHINE

PATHS = ("", "live.json", "live.json?seen=x", "report.html")


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(live, "AGAIN_AFTER_S", -1.0)
    watched = Watched(tmp_path / "run", search={"trials": 1})
    watched.trial(0, val_asr=0.1)
    watched.folder.report.write_text("<p>the report</p>")
    return watched


@pytest.fixture
def address(watched: Watched) -> Iterator[str]:
    with serve_sweep(watched.folder, 0) as address:
        yield address


def get(address: str, method: str = "GET", **headers: str) -> bytes:
    request = urllib.request.Request(address, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        content: bytes = answer.read()
        return content


def test_a_sweep_that_runs_is_served_live_and_then_as_its_report(watched: Watched, address: str) -> None:
    assert address.startswith(f"http://{THIS_MACHINE}:")
    with RunFolder(watched.folder.path).lock():
        assert b"Why others ended early" in get(address)
        assert json.loads(get(address + "live.json"))["word"] == "running"
        assert get(address + "report.html") == b"<p>the report</p>"
    assert get(address) == b"<p>the report</p>"


def test_the_page_is_there_before_the_folder_was_read(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "read_status", None)
    assert b"Why others ended early" in get(address)


def test_after_the_block_nothing_is_served(watched: Watched) -> None:
    with serve_sweep(watched.folder, 0) as address:
        get(address)
    with pytest.raises(urllib.error.URLError):
        get(address)


def test_nothing_else_of_the_folder_is_handed_out(watched: Watched, address: str) -> None:
    watched.folder.report.unlink()
    for other in (
        "sweep.yaml", "trials.parquet", "records/t0000.json", "../", "report.html/../sweep.yaml", "%2e%2e/sweep.yaml",
        "report.html", "live.json/../sweep.yaml",
    ):  # fmt: skip
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(address + other)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_is_answered(address: str, method: str) -> None:
    for path in PATHS:
        with pytest.raises(urllib.error.HTTPError, match="501"):
            get(address + path, method)


def test_a_page_elsewhere_cannot_read_along(address: str) -> None:
    """By a name of its own that leads to this machine."""
    port = address.rstrip("/").rpartition(":")[2]
    for path in PATHS:
        for host in (f"localhost:{port}", f"127.0.0.1:{port}"):
            assert get(address + path, Host=host)
        for host in (f"evil.example:{port}", "evil.example", "127.0.0.1.evil.example", ""):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                get(address + path, Host=host)


def test_a_damaged_folder_is_no_traceback(watched: Watched, address: str, capfd: pytest.CaptureFixture[str]) -> None:
    watched.folder.sweep.write_text("[")
    assert "cannot be read" in json.loads(get(address + "live.json"))["error"]
    with pytest.raises(urllib.error.HTTPError, match="503"):
        get(address)
    assert capfd.readouterr().err == ""


def test_what_no_one_foresaw_is_503_in_one_sentence(
    address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("WEIRD")

    get(address + "live.json")
    monkeypatch.setattr(live, "read_status", fail)
    for path in ("live.json", ""):
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            get(address + path)
        assert "The run folder cannot be read: 'WEIRD'" in html.unescape(caught.value.read().decode())
    assert capfd.readouterr().err == ""


def test_what_is_no_address_is_400(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    port = int(address.rstrip("/").rpartition(":")[2])
    for line, host in (("/", "["), ("http://[/", "localhost")):
        with socket.create_connection((THIS_MACHINE, port), timeout=60) as asking:
            asking.sendall(f"GET {line} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            assert b" 400 " in asking.makefile("rb").readline()
    assert capfd.readouterr().err == ""


def test_a_port_that_is_taken_is_a_sentence(watched: Watched) -> None:
    with socket.socket() as taken:
        taken.bind((THIS_MACHINE, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"Port {port} cannot be used"), serve_sweep(watched.folder, port):
            pass
