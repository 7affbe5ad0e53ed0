"""States of one trial and their owner: a retry may run elsewhere while an earlier attempt still computes.

Each attempt has a number and writes files of its own, so no attempt overwrites the files of another. The driver assigns
the number and records it as the owner's. A later attempt continues from the latest state of the earlier ones, and an
attempt that was superseded writes nothing more.
"""

import time
from typing import Any

from safetensors import SafetensorError

from trainers.errors import TrialError
from trainers.storage.files import write_text
from trainers.storage.object_store import Place
from trainers.storage.state import StateError, load_state, save_state

OWNER_FILE = "owner.txt"
"""File in the folder of a trial's states: the number of the attempt that owns the folder."""


class SupersededError(TrialError):
    """Another attempt has taken over."""


class StateStore:
    """States of one trial, from which a retry continues.

    Args:
        folder: folder of the trial's states; created with the first state.
        every_s: seconds between states within a stage.
        attempt: number of this attempt, from :func:`new_attempt`; 0: there is only one attempt, and the owner of the
            folder is not checked.
    """

    def __init__(self, folder: Place, every_s: float = 60.0, attempt: int = 0):
        self.folder = folder
        self.attempt = attempt
        self._every_s = every_s
        self._saved_at = time.monotonic()

    def begin(self, host: str) -> None:
        """Record the host that this attempt runs on.

        Raises:
            SupersededError: another attempt has taken over.
        """
        self.check_owner()
        write_text(_began(self.folder, self.attempt), host)

    def check_owner(self) -> None:
        """Check that this attempt still owns the folder.

        Raises:
            SupersededError: another attempt owns it, or the trial has ended.
        """
        if self.attempt and attempts(self.folder) != self.attempt:
            raise SupersededError(f"Attempt {self.attempt} was cut off, and another went on with the trial.")

    def path(self, run: int) -> Place:
        """State file of a run, numbered as in ``TrialConfig.runs()``, by this attempt."""
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
        """Record why this attempt crashes; the driver learns only that it crashed.

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
    """Make a new attempt the owner of ``folder``; returns its number, from 1. Only one process may call this."""
    number = attempts(folder) + 1
    write_text(folder / OWNER_FILE, str(number))
    return number


def attempts(folder: Place) -> int:
    """Number of attempts so far of the trial whose states are in ``folder``."""
    return int(_read(folder / OWNER_FILE) or 0)


def host_of(folder: Place, attempt: int) -> str | None:
    """Host that an attempt runs or ran on; null if the attempt has not begun."""
    return _read(_began(folder, attempt))


def crash_reason(folder: Place, attempt: int) -> str | None:
    """Reason that an attempt recorded for its crash; null if it recorded none."""
    return _read(_crashed(folder, attempt))


def _began(folder: Place, attempt: int) -> Place:
    return folder / f"began.{attempt}.txt"


def _crashed(folder: Place, attempt: int) -> Place:
    return folder / f"crashed.{attempt}.txt"


def _read(path: Place) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
