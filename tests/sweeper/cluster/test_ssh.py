"""Hosts of a cluster file are looked at through ssh; a script stands in its place here."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeper.cli.main import app
from sweeper.cluster.ssh import examine_hosts
from trainers.errors import ConfigError

FILE = """
provider: {{type: {kind}, head_ip: {head}, worker_ips: [{workers}]}}
auth: {{ssh_user: sweeper, ssh_private_key: {key}}}
"""
ANSWERS = {
    "fine": "echo 3.12",
    "old": "echo 3.9",
    "bare": "echo none; echo no-venv; echo no-rsync",
    "lacking": "echo 3.12; echo no-venv; echo no-rsync",
    "other": "echo 3.11",
    "up": "echo 3.12; echo ray-2.60.0",
    "behind": "echo 3.12; echo ray-2.59.0",
    "stranger": "echo 'Warning: x' >&2; echo 'sweeper@stranger: Permission denied (publickey).' >&2; exit 255",
    "away": "echo 'ssh: connect to host away port 22: Connection refused' >&2; exit 255",
}


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a user on whose path ssh answers as the name of the host says."""
    cases = "\n".join(f"*@{name}) {answer} ;;" for name, answer in ANSWERS.items())
    script = tmp_path / "bin" / "ssh"
    script.parent.mkdir()
    asked = f'echo "$@" >> {tmp_path}/asked\nfor last; do before=$host; host=$last; done'
    script.write_text(f"#!/bin/sh\n{asked}\ncase $before in\n{cases}\nesac\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    path = tmp_path / "key"
    path.write_text("")
    return path


def cluster_file(tmp_path: Path, key: Path, *hosts: str, kind: str = "local") -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(FILE.format(kind=kind, head=hosts[0], workers=", ".join(hosts[1:]), key=key))
    return path


def test_each_host_gets_a_sentence_of_its_own(tmp_path: Path, key: Path) -> None:
    path = cluster_file(tmp_path, key, "fine", "old", "bare", "lacking", "other", "stranger", "away", "up", "behind")
    found = {finding.what: (finding.fine, finding.found) for finding in examine_hosts(path)}
    assert found == {
        "fine": (True, "sweeper may log in; Python 3.12, venv and rsync are there"),
        "old": (False, "its python3 is 3.9"),
        "bare": (False, "it has no python3"),
        "lacking": (False, "it lacks venv and rsync"),
        "other": (False, "its Python is 3.11, that of others 3.12"),
        "up": (True, "sweeper may log in; Python 3.12, venv and rsync are there"),
        "behind": (False, "its Ray is 2.59.0, that of others 2.60.0"),
        "stranger": (False, f"it refuses sweeper with {key}"),
        "away": (False, "it cannot be reached: ssh: connect to host away port 22: Connection refused"),
    }
    asked = (tmp_path / "asked").read_text()
    assert asked.count(f"-i {key} ") == 9
    assert "BatchMode=yes" in asked, "or it would ask for a password"


def test_from_the_command_line(tmp_path: Path, key: Path) -> None:
    fine = CliRunner().invoke(app, ["doctor", "--cluster", str(cluster_file(tmp_path, key, "fine", "fine"))])
    assert fine.exit_code == 0
    ill = CliRunner().invoke(app, ["doctor", "--cluster", str(cluster_file(tmp_path, key, "fine", "stranger"))])
    assert ill.exit_code == 2
    assert ill.output.splitlines()[1].startswith("NOT OK stranger: it refuses sweeper with ")


def test_without_ssh_nothing_is_seen(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="ssh is not installed"):
        list(examine_hosts(cluster_file(tmp_path, key, "fine")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "provider: {type: aws}\nauth: {ssh_user: x}",
            "only hosts of provider local can be checked, not aws",
        ),
        ("provider: {type: local}\nauth: {ssh_user: x}", "is no cluster file"),
        ("- 1", "is no cluster file"),
        ("{", "is no cluster file"),
        ("provider: {type: local, head_ip: 192.0.2.1}\nauth: {ssh_user: x}", "192.0.2.1 are examples"),
        (
            "provider: {type: local, head_ip: 10.0.0.1}\nauth: {ssh_user: x, ssh_private_key: /nowhere/key}",
            "the key /nowhere/key does not exist",
        ),
    ],
)
def test_a_file_that_is_not_filled_in_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        list(examine_hosts(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        list(examine_hosts(tmp_path / "absent.yaml"))
