import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeper.run_folder import provenance as module
from sweeper.run_folder.provenance import (
    PACKAGES,
    code_digest,
    git_commit,
    numeric_format,
    package_versions,
    provenance,
)
from tests.sweeper.small import sweep_with


def test_what_a_figure_depends_on() -> None:
    found = provenance()
    assert set(found) == {"created", "git_commit", "python", "versions", "machine"}
    assert set(found["versions"]) == set(PACKAGES)
    assert all(found["versions"].values())
    assert yaml.safe_load(yaml.safe_dump(found)) == found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "float32 on CPUs"),
        ({"amp": "on"}, "bfloat16 autocast on CPUs"),
        ({"resources": {"gpu": 0.5}, "device": "auto"}, "bfloat16 autocast on CUDA"),
        ({"resources": {"gpu": 0.5}, "device": "cuda", "amp": "off"}, "float32 on CUDA"),
        ({"resources": {"gpu": 0.5}, "device": "cpu"}, "float32 on CPUs"),
    ],
)
def test_device_and_format_are_named(changes: dict[str, Any], expected: str) -> None:
    assert numeric_format(sweep_with(**changes)["preset"]) == expected


def test_a_package_that_is_not_there_is_left_out() -> None:
    assert list(package_versions(["torch", "no-such-package"])) == ["torch"]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "code.py"
    file.write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.setattr(module, "__file__", str(file))
    commit = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    assert git_commit() == commit
    (tmp_path / "untracked").write_text("")
    assert git_commit() == commit
    file.write_text("2")
    assert git_commit() == commit + "+"


def test_outside_a_checkout_and_without_git_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "code.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


def test_the_code_has_a_name_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    first = code_digest()
    assert first == code_digest()
    monkeypatch.setattr(module, "version", lambda _: "9.9")
    assert code_digest() != first
