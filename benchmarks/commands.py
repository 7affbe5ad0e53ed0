"""Commands of the program on inputs made for them: how they are started and ended, and what they show."""

import copy
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from sweeper.tracking.store import set_short_timeouts

ROOT = Path(__file__).resolve().parents[1]
PRESET: dict[str, Any] = {
    "name": "odd",
    "data": {"source": "shapes", "train_size": 100, "test_size": 40},
    "model": {"name": "tiny", "width": 4},
    "augment": {"crop": 0, "flip": False},
    "defense": {"name": "none", "lr": {"float": [0.01, 0.1]}, "epochs": 1, "batch_size": 32},
    "control": {"epochs": 1, "batch_size": 32, "lr": 0.05},
    "scenarios": [{"attack": "badnets", "poison_rate": 0.1, "target": 0}],
    "seeds": [0],
    "search": {"sampler": "random", "trials": 2, "workers": 1},
    "device": "cpu",
}
IMAGES = {"source": "folder:images"}
OURS = ("RAY_", "MLFLOW_", "OPTUNA_", "AWS_", "SWEEPER_", "LC_", "LANG", "TMPDIR", "PYTHONPATH")
"""Beginnings of variables that a command does not take from whoever runs this."""
PATIENCE = 300.0


@dataclass(frozen=True)
class Command:
    """A command, in the folder that holds its input.

    Args:
        words: after ``sweeper``.
        environment: variables that are set, shown before the command.
        before: a program that starts it, with its arguments, e.g. ``timeout 40``.
        ended_by: a signal for all of its processes, sent once ``ready``; null: it ends by itself.
        ready: whether it is far enough, by what it has shown.
        kept: what must live as long as the command does.
    """

    words: str
    environment: dict[str, str] = field(default_factory=dict)
    before: str = ""
    ended_by: signal.Signals | None = None
    ready: Callable[[str], bool] = bool
    kept: object = None

    def shown(self) -> str:
        """The command as a user would type it."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join(filter(None, [*variables, self.before, "sweeper", self.words]))


@dataclass(frozen=True)
class Case:
    """An odd input or circumstance.

    Args:
        name: of the case, for ``--only``.
        kind: what it is one of, as the list calls it.
        made: makes the input in a folder, and returns the commands to run there.
        relevant: regular expression of the lines that are listed, of what the commands show.
        ours: whether it is not in the list, but one more of its kind.
    """

    name: str
    kind: str
    made: Callable[[Path], Sequence[Command]]
    relevant: str
    ours: bool = False


@dataclass(frozen=True)
class Seen:
    """What a command did.

    Args:
        command: as typed.
        code: exit code; null: it was killed after :data:`PATIENCE` seconds.
        seconds: that it took.
        lines: those of its output that matter.
    """

    command: str
    code: int | None
    seconds: float
    lines: tuple[str, ...]


def observe(case: Case) -> list[Seen]:
    """Make the input of a case in a temporary folder, run its commands there, and return what was seen."""
    # A short name: Ray's sockets lie below.
    with tempfile.TemporaryDirectory(prefix="odd-", ignore_cleanup_errors=True) as made:
        place = Path(made)
        for name in ("home", "tmp", "runs"):
            (place / name).mkdir()
        shutil.copy(_empty_store(), place / "runs" / "mlflow.db")
        try:
            return [_observe(command, place, re.compile(case.relevant)) for command in case.made(place)]
        finally:
            for path in place.rglob("*"):
                if path.is_symlink():
                    continue
                with suppress(OSError):  # what Ray has left may go by itself
                    path.chmod(0o700)  # else only root could remove it


def write_preset(place: Path, **changes: Any) -> str:
    """Write the preset of a sweep of seconds, with keys replaced; returns its name."""
    content = copy.deepcopy(PRESET) | changes
    (place / "preset.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return "preset.yaml"


def without_privileges() -> str:
    """A program that takes from root what permissions do not stop; nothing for others, whom they stop anyway."""
    return "setpriv --inh-caps=-all --bounding-set=-all" if os.geteuid() == 0 else ""


def _observe(command: Command, place: Path, relevant: re.Pattern[str]) -> Seen:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OURS) and not name.lower().endswith("_proxy")
    }
    environment |= {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "OMP_NUM_THREADS": "1"}
    environment |= command.environment
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [command.environment.get("PYTHONPATH"), str(ROOT)]))
    words = [*shlex.split(command.before), sys.executable, "-m", "sweeper", *shlex.split(command.words)]
    output = place / "output.txt"
    began = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(
            words, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    signalled = None
    while process.poll() is None and time.monotonic() < began + PATIENCE:
        time.sleep(0.1)
        if command.ended_by and signalled is None and command.ready(_text(output)):
            signalled = time.monotonic()
            os.killpg(process.pid, command.ended_by)
    ended = time.monotonic()
    code = process.poll()
    with suppress(ProcessLookupError):  # whatever is left of it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    lines = [" ".join(line.split()) for line in _relative(_text(output), place).splitlines() if relevant.search(line)]
    if signalled is not None and command.ended_by:
        lines.append(f"({command.ended_by.name} to all of its processes; it ended {ended - signalled:.1f} s later)")
    return Seen(_relative(command.shown(), place), code, ended - began, tuple(lines))


def _relative(text: str, place: Path) -> str:
    return text.replace(f"{place.resolve()}/", "").replace(str(place.resolve()), ".")


def _text(output: Path) -> str:
    return output.read_text(encoding="utf-8", errors="replace")


@cache
def _empty_store() -> Path:
    """An empty MLflow store, which takes seconds to make."""
    set_short_timeouts()
    path = Path(_ours().name) / "empty.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@cache
def _ours() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="odd-store-")  # removed at exit
