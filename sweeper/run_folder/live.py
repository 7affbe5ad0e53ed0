"""``live.json``: what a sweep trains at this moment, which its records do not say before a training ends.

A driver writes it every few seconds and removes it when the sweep ends. It is for whoever watches: the sweep itself
does not read it. One that a killed driver left is older than the lock of whoever works on the folder now, and counts as
none.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import RunKey
from trainers.storage.files import write_text
from trainers.text import printable


@dataclass(frozen=True)
class RunningTraining:
    """A training that runs.

    Args:
        trial_id: of its trial or control.
        scenario: its scenario.
        seed: its seed.
        host: address of its host; null before it has reported an epoch.
        epoch: epochs that it has trained.
        stage: of its last epoch; null before there is one.
    """

    trial_id: str
    scenario: str
    seed: int
    host: str | None
    epoch: int
    stage: str | None

    @property
    def key(self) -> tuple[str, RunKey]:
        """Its trial, and which of the trial's trainings it is."""
        return self.trial_id, (self.scenario, self.seed)


_KINDS = {"trial_id": str, "scenario": str, "seed": int, "host": str | None, "epoch": int, "stage": str | None}


def write_live(folder: RunFolder, running: Iterable[RunningTraining]) -> None:
    """Write ``live.json``, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_text(folder.live, json.dumps([asdict(training) for training in running]))


def read_live(folder: RunFolder) -> list[RunningTraining] | None:
    """The trainings that run, by ``live.json``; null if there is no such file, if it is damaged, or if it is older than
    the lock of the folder, so that a driver that was killed left it.
    """
    try:
        with folder.live.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mtime < folder.held_since():
                return None
            content = json.loads(file.read())
        return [_training(entry) for entry in content]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _training(entry: dict[str, object]) -> RunningTraining:
    for name, kind in _KINDS.items():
        if not isinstance(entry[name], kind):
            raise ValueError(f"its {name} is damaged")
    values = {known.name: entry[known.name] for known in fields(RunningTraining)}
    shown = {name: printable(value) if isinstance(value, str) else value for name, value in values.items()}
    return RunningTraining(**shown)  # type: ignore[arg-type]
