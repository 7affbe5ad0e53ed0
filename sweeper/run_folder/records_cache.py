"""Records of a sweep that is watched: of thousands, only those that changed are read again."""

import os
from pathlib import Path

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord

Version = tuple[int, int, int]


def version_of(path: Path) -> Version | None:
    """File number, time and size of a file, one of which changes when another file is renamed to its name; null if it
    is not there.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


class RecordsCache:
    """The records of a run folder, with the figures of each training's last epoch alone.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder):
        self._folder = folder
        self._known: dict[str, tuple[Version, TrialRecord | None]] = {}

    def read(self) -> dict[str, TrialRecord]:
        """All records by their ids. What vanishes meanwhile, or is damaged, is left out."""
        found: dict[str, tuple[Version, TrialRecord | None]] = {}
        for trial_id, version in sorted(self._versions().items()):
            before = self._known.get(trial_id)
            found[trial_id] = before if before is not None and before[0] == version else (version, self._read(trial_id))
        self._known = found
        return {trial_id: record for trial_id, (_, record) in found.items() if record is not None}

    @property
    def newest(self) -> Version | None:
        """The version of the record that was written last, as last read; null: there is none."""
        return max((version for version, _ in self._known.values()), key=lambda version: version[1], default=None)

    def _read(self, trial_id: str) -> TrialRecord | None:
        record = self._folder.read_record(trial_id)
        if record is not None:
            record.forget_curves()
        return record

    def _versions(self) -> dict[str, Version]:
        """The version of each record's file, by trial id."""
        found = {}
        try:
            with os.scandir(self._folder.records) as entries:
                for entry in entries:
                    if entry.name.endswith(".json") and not entry.name.startswith("."):
                        version = version_of(Path(entry.path))
                        if version is not None:
                            found[entry.name.removesuffix(".json")] = version
        except OSError:  # no trial has begun, or the folder is away
            return found
        return found
