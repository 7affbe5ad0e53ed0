"""Where the states of one trial lie, and whose they are: a retry may run elsewhere while an earlier attempt computes.

Each attempt has a number and writes files of its own, so that none can write over another's. Who hands the trial out
gives the number, and writes it down as the owner's; a later attempt goes on from the latest state of the earlier ones,
and one that finds itself overtaken writes nothing more.
"""

import time
from typing import Any

from safetensors import SafetensorError

from trainers.errors import TrialError
from trainers.storage.files import write_text
from trainers.storage.object_store import Place
from trainers.storage.state import StateError, load_state, save_state

OWNER_FILE = "owner.txt"
"""In the folder of a trial's states: the number of the attempt that owns it."""


class SupersededError(TrialError):
    """Another attempt has taken over."""


class StateStore:
    """States of one trial: where a retry goes on.

    Args:
        folder: of the trial's states; made when the first one is written.
        every_s: seconds between states within a stage.
        attempt: number of this attempt, from :func:`new_attempt`; 0: there is but one, and nobody is asked who owns the
            folder.
    """

    def __init__(self, folder: Place, every_s: float = 60.0, attempt: int = 0):
        self.folder = folder
        self.attempt = attempt
        self._every_s = every_s
        self._saved_at = time.monotonic()

    def begin(self, host: str) -> None:
        """Write down where this attempt runs.

        Raises:
            SupersededError: another attempt has taken over.
        """
        self.check_owner()
        write_text(_began(self.folder, self.attempt), host)

    def check_owner(self) -> None:
        """See whether the folder is still this attempt's.

        Raises:
            SupersededError: it is another's, or the trial has ended.
        """
        if self.attempt and attempts(self.folder) != self.attempt:
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
        write_text(_crashed(self.folder, self.attempt), reason)

    def _saved(self, run: int) -> list[Place]:
        """Files of a run, this attempt's first, then earlier ones, the latest first."""
        numbers = {path: int(path.suffixes[0][1:]) for path in self.folder.glob(f"run-{run}.*.safetensors")}
        known = [path for path, number in numbers.items() if number <= self.attempt]
        return sorted(known, key=lambda path: -numbers[path])


def new_attempt(folder: Place) -> int:
    """Give the folder to a new attempt; returns its number, from 1. One process alone may do so."""
    number = attempts(folder) + 1
    write_text(folder / OWNER_FILE, str(number))
    return number


def attempts(folder: Place) -> int:
    """How often the trial whose states lie in ``folder`` was handed out."""
    return int(_read(folder / OWNER_FILE) or 0)


def host_of(folder: Place, attempt: int) -> str | None:
    """Where an attempt runs, or ran; null if it has not begun."""
    return _read(_began(folder, attempt))


def crash_reason(folder: Place, attempt: int) -> str | None:
    """Why an attempt crashed; null if it left no word."""
    return _read(_crashed(folder, attempt))


def _began(folder: Place, attempt: int) -> Place:
    return folder / f"began.{attempt}.txt"


def _crashed(folder: Place, attempt: int) -> Place:
    return folder / f"crashed.{attempt}.txt"


def _read(path: Place) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
