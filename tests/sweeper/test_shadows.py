"""Packages of others that have the names of ours."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from sweeper.shadows import LIBRARIES, hidden_package

ROOT = Path(__file__).parents[2]


def run(*command: str, path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, *command], env=environment, cwd=cwd, capture_output=True, encoding="utf-8", timeout=120,
        check=False,
    )  # fmt: skip


def other(folder: Path, name: str) -> Path:
    """A package, or a module if the name ends in .py."""
    path = folder / name
    if path.suffix:
        path.write_text("", encoding="utf-8")
    else:
        path.mkdir(parents=True)
        (path / "__init__.py").write_text("", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["trainers", "search_spaces", "trainers.py", "numpy.py", "ray", "yaml", "rich.py"])
def test_the_folder_that_hides_a_package_is_named(tmp_path: Path, name: str) -> None:
    path = other(tmp_path, name)
    done = run("-m", "sweeper", "--help", path=tmp_path, cwd=ROOT.parent)
    assert (done.returncode, done.stdout) == (2, "")
    own = path.stem in ("trainers", "search_spaces")
    what = f"the package {path.stem} of this program" if own else f"the library {path.stem}"
    assert done.stderr == (
        f"{path} hides {what}, since it has the same name: take {tmp_path} out of PYTHONPATH, or start the command in "
        "another folder.\n"
    )


def test_nothing_is_hidden_here_and_every_library_is_known_by_a_file() -> None:
    assert hidden_package() is None
    assert [name for name in LIBRARIES if find_spec(name) is None] == []


def test_the_commands_can_be_imported_whatever_is_hidden(tmp_path: Path) -> None:
    """A program that imports them is not ended by that."""
    other(tmp_path, "numpy.py")
    done = run("-c", "import sweeper.cli; print('went on')", path=tmp_path, cwd=ROOT.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


def test_so_does_the_folder_in_which_the_command_is_started(tmp_path: Path) -> None:
    path = other(tmp_path, "trainers")
    done = run("-m", "sweeper", "--help", path=ROOT, cwd=tmp_path)
    assert (done.returncode, done.stderr.split(" hides ")[0]) == (2, str(path))


def test_the_package_of_the_command_itself_may_be_hidden(tmp_path: Path) -> None:
    """The command is ``sweep:main``, as in pyproject.toml."""
    path = other(tmp_path, "sweeper")
    done = run("-P", "-c", "from sweep import main; main()", path=tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{path} hides the package sweeper of this program")
    assert len(done.stderr.splitlines()) == 1


def test_a_worker_names_it_in_the_last_line(tmp_path: Path) -> None:
    """Which is what :func:`sweeper.cluster.hosts.check_hosts` tells of a host."""
    path = other(tmp_path, "trainers")
    done = run("-c", "import sweeper.running.worker", path=tmp_path, cwd=ROOT.parent)
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {path} hides the package trainers of this program")


def test_the_installed_command_looks_for_the_others_too(tmp_path: Path) -> None:
    path = other(tmp_path, "numpy.py")
    done = run("-P", "-c", "from sweep import main; main()", path=tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stderr.split(" hides ")[0]) == (2, str(path))


def test_a_folder_of_that_name_that_is_no_package_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "trainers").mkdir()
    done = run("-c", "from sweeper.shadows import hidden_package; print(hidden_package())", path=tmp_path, cwd=tmp_path)
    assert done.stdout == "None\n", done.stderr
