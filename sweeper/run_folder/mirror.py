"""Copies of run folders in an object store, so that a sweep outlives its machine."""

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread

from sweeper.run_folder.claim import CLAIM, other_driver, refuse_other_driver
from sweeper.run_folder.folder import LOCK_FILE, RunFolder, do_nothing
from trainers.errors import ConfigError
from trainers.storage.files import LEFTOVER, remove_tree
from trainers.storage.object_store import ObjectPath

RUNS = Path("runs")
"""Local folder of run folders that have a place in an object store."""
EVERY_S = 10.0
"""Seconds between copies; records are copied at once."""

log = logging.getLogger(__name__)


class Mirror:
    """Copies what changes in a run folder to its place in the store.

    States are not copied, since trials write them to the store themselves; nor is the study, which is written again
    from the records.

    Args:
        folder: the run folder, with a place in a store.
    """

    def __init__(self, folder: RunFolder):
        assert folder.store is not None
        self._folder, self._store = folder.absolute, folder.store
        self._copied: dict[Path, tuple[int, int]] = {}
        self._lock = Lock()
        self.behind: str | None = None
        """Why the copy is not up to date; null if it is."""

    def push(self) -> None:
        """Copy what has changed, records last: the record of an ended trial implies that its files are there.

        What cannot be copied now is tried again the next time. Nothing is copied while another driver works there.
        """
        with self._lock:
            try:
                other = other_driver(self._store)
                if other is not None:
                    raise OSError(f"it is in use by {other}")
                # Read first: while the other files are copied, more trials may end, whose files would be missing.
                records = {path: self._changed(path) for path in sorted(self._folder.records.glob("*"))}
                for path in sorted(set(self._folder.path.rglob("*")) - set(records)):
                    self._copy(path, self._changed(path))
                for path, changed in records.items():
                    self._copy(path, changed)
                self.behind = None
            except OSError as error:
                if self.behind is None:
                    log.warning("The copy to %s failed, and is tried again: %s", self._store, error)
                self.behind = str(error)

    def record_written(self) -> None:
        """Copy a new record and its files at once, unless the store failed the last time."""
        if self.behind is None:
            self.push()

    def _changed(self, path: Path) -> tuple[tuple[int, int], bytes] | None:
        """Version and content of a file that must be copied; null if there is nothing to copy."""
        try:
            version = self._version(path)
            return None if version in (None, self._copied.get(path)) else (version, path.read_bytes())
        except FileNotFoundError:  # removed just now
            return None

    def _copy(self, path: Path, changed: tuple[tuple[int, int], bytes] | None) -> None:
        if changed is not None:
            version, content = changed
            (self._store / path.relative_to(self._folder.path).as_posix()).write_bytes(content)
            self._copied[path] = version

    def _version(self, path: Path) -> tuple[int, int] | None:
        """Time and size of a file, which change with its content; null if the file is never copied."""
        ours = path.name in (LOCK_FILE, self._folder.live.name) or path.name.startswith(
            (LEFTOVER, self._folder.study.name)
        )
        if ours or not path.is_file():
            return None
        status = path.stat()
        return status.st_mtime_ns, status.st_size


@contextmanager
def mirrored(folder: RunFolder) -> Iterator[Mirror | None]:
    """Keep the copy of a run folder up to date, and complete it at the end; do nothing if there is no store."""
    if folder.store is None:
        yield None
        return
    mirror, ended = Mirror(folder), Event()
    mirror.push()  # hosts check there whether they see the sweep
    folder.record_written = mirror.record_written

    def follow() -> None:
        while not ended.wait(EVERY_S):
            mirror.push()

    thread = Thread(target=follow, name="mirror", daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        ended.set()
        thread.join()
        folder.record_written = do_nothing
        mirror.push()


def copy_results(folder: RunFolder, files: Iterable[Path]) -> str | None:
    """Copy files of a sweep that has ended.

    Nothing is copied for a folder without a store, nor while a driver works on the folder: it copies them itself.

    Args:
        folder: the run folder.
        files: in it.

    Returns:
        A message for the user; null if there is none.
    """
    if folder.store is None or folder.holder() is not None:
        return None
    try:
        other = other_driver(folder.store)
        if other is not None:
            return f"Not copied to {folder.store}, which is in use by {other}."
        for path in files:
            (folder.store / path.relative_to(folder.path).as_posix()).write_bytes(path.read_bytes())
    except (OSError, ValueError) as error:
        return f"The copy to {folder.store} failed: {error}"
    return f"Copy: {folder.store}"


def fetch(store: ObjectPath, runs: Path) -> RunFolder:
    """Fetch a run folder from its copy in an object store.

    Args:
        store: address of the copy.
        runs: the folder that is to hold it, under the copy's name.

    Raises:
        ConfigError: there is no copy, a driver works on it, the store does not answer, or a folder of this name is
            there already.
    """
    target, beside = runs / store.name, runs / f"{LEFTOVER}{store.name}"
    if target.exists():
        raise ConfigError(f"{target} exists already: give it instead of {store}, or move it away.")
    remove_tree(beside)
    began = time.time()
    try:
        if not (store / "sweep.yaml").exists():
            raise ConfigError(f"{store} holds no sweep: sweep.yaml must be there.")
        refuse_other_driver(store)
        for name in store.walk():
            if name != CLAIM and not name.startswith(("states/", "trunks/")):
                if not all(part.strip(".") for part in name.split("/")):  # others may write there too
                    raise ConfigError(f"{store} holds {name!r}, which no run folder does; remove it.")
                path = beside / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes((store / name).read_bytes())
                os.utime(path, (began, began))  # one time for all: the order of fetching makes no report stale
        beside.replace(target)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:  # ValueError: no valid address
        raise ConfigError(f"{store} cannot be read: {error}") from error
    finally:
        remove_tree(beside)
    return RunFolder.open(target)
