"""Files that are never half-written: a temporary file is renamed; an object in a store is written at once."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainers.storage.object_store import ObjectPath, Place

LEFTOVER = ".beside-"
"""Prefix of the names of unfinished files."""


@contextmanager
def replacing(path: Place) -> Iterator[Path]:
    """Yield a temporary file beside ``path``; on success it replaces ``path``, otherwise it is removed."""
    if isinstance(path, ObjectPath):
        with tempfile.TemporaryDirectory(prefix="sweeper-put-") as scratch:
            here = Path(scratch) / path.name
            yield here
            path.write_bytes(here.read_bytes())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{LEFTOVER}{path.stem}-{uuid.uuid4().hex[:12]}{path.suffix}")
    beside.touch(exist_ok=False)  # with the permissions of the user's umask
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    """Make a rename survive a power cut, on file systems that support it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def local_copy(path: Place) -> Iterator[Path]:
    """Yield a file on this machine with the content of ``path``.

    Raises:
        FileNotFoundError: ``path`` does not exist.
    """
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="sweeper-get-") as scratch:
        here = Path(scratch) / path.name
        here.write_bytes(path.read_bytes())
        yield here


def write_text(path: Place, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_with(path: Place, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary file, which then replaces ``path``."""
    with replacing(path) as beside:
        write(beside)


def remove_tree(folder: Place) -> None:
    """Remove a folder and its content; errors are ignored."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with suppress(OSError):
        folder.remove_tree()


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files that a killed process left in ``folder``."""
    for path in folder.glob(f"{LEFTOVER}*"):
        path.unlink(missing_ok=True)
