"""Where the states of one trial lie, and whose they are: a retry may run elsewhere while an earlier attempt computes.

Each attempt has a number and writes files of its own, so that none can write over another's. A later attempt goes on
from the latest state of the earlier ones. An attempt that finds itself overtaken writes nothing more.
"""

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from safetensors import SafetensorError

from trainers.errors import TrialError
from trainers.files import write_text
from trainers.object_store import Place
from trainers.state import StateError, load_state, save_state

OWNER_FILE = "owner.json"
"""In the folder of a trial's states: which attempt owns it."""
CRASH_FILE = "crash.txt"
"""Beside it: why the last attempt ended."""


class SupersededError(TrialError):
    """Another attempt has taken over."""


@dataclass(frozen=True)
class Owner:
    """The attempt that a trial's states belong to.

    Args:
        attempt: its number, from 1; 0 before the first.
        host: where it runs; empty if nobody said.
    """

    attempt: int = 0
    host: str = ""


class StateStore:
    """States of one trial: where a retry goes on.

    Args:
        folder: of the trial's states; made when the first one is written.
        every_s: seconds between states within a stage.
    """

    def __init__(self, folder: Place, every_s: float = 60.0):
        self.folder = folder
        self.attempt = 0
        """0 until :meth:`begin`, and where there is but one attempt: then nobody is asked who owns the folder."""
        self._every_s = every_s
        self._saved_at = time.monotonic()

    def begin(self, host: str = "") -> int:
        """Take the folder over for a new attempt, and forget why the last one ended; returns its number."""
        self.attempt = attempts(self.folder) + 1
        write_text(self.folder / OWNER_FILE, json.dumps(asdict(Owner(self.attempt, host))))
        (self.folder / CRASH_FILE).unlink(missing_ok=True)
        return self.attempt

    def check_owner(self) -> None:
        """See whether the folder is still this attempt's.

        Raises:
            SupersededError: it is another's, or the trial has ended.
        """
        owner = attempts(self.folder)
        if self.attempt and owner != self.attempt:
            raise SupersededError(f"Attempt {self.attempt} was cut off, and another went on with the trial.")

    def path(self, run: int) -> Place:
        """File of a run, counted as in ``TrialConfig.runs()``, by this attempt."""
        return self.folder / f"run-{run}.{self.attempt}.safetensors"

    def due(self, stage_ended: bool) -> bool:
        """Whether to save now: at stage ends, and whenever ``every_s`` seconds have passed."""
        return stage_ended or time.monotonic() - self._saved_at >= self._every_s

    def save(self, run: int, state: dict[str, Any]) -> None:
        """Write the state of a run.

        Raises:
            SupersededError: another attempt has taken over.
        """
        self.check_owner()
        save_state(self.path(run), state)
        for earlier in self._saved(run)[1:]:
            earlier.unlink(missing_ok=True)
        self._saved_at = time.monotonic()

    def load(self, run: int) -> dict[str, Any] | None:
        """The latest state of a run, by this attempt or an earlier one; null if there is none that can be read."""
        for path in self._saved(run):
            try:
                return load_state(path)
            except (FileNotFoundError, SafetensorError, StateError):
                continue
        return None

    def note_crash(self, reason: str) -> None:
        """Write down why this attempt ends; the driver is told that it crashed, not why.

        Raises:
            SupersededError: another attempt has taken over.
        """
        self.check_owner()
        write_text(self.folder / CRASH_FILE, reason)

    def _saved(self, run: int) -> list[Place]:
        """Files of a run, this attempt's first, then earlier ones, the latest first."""
        numbers = {path: int(path.suffixes[0][1:]) for path in self.folder.glob(f"run-{run}.*.safetensors")}
        known = [path for path, number in numbers.items() if number <= self.attempt]
        return sorted(known, key=lambda path: -numbers[path])


def attempts(folder: Place) -> int:
    """How often the trial whose states lie in ``folder`` was begun."""
    return owner_of(folder).attempt


def owner_of(folder: Place) -> Owner:
    """Whose the states in ``folder`` are."""
    try:
        return Owner(**json.loads((folder / OWNER_FILE).read_text()))
    except FileNotFoundError:
        return Owner()


def crash_reason(folder: Place) -> str | None:
    """Why the last attempt ended; null if it left no word."""
    try:
        return (folder / CRASH_FILE).read_text()
    except FileNotFoundError:
        return None
