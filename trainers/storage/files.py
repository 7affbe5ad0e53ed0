"""Files that are whole or not there: written beside, then renamed; in an object store, put there at once."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainers.storage.object_store import ObjectPath, Place

LEFTOVER = ".beside-"
"""How the names of files begin that are not finished."""


@contextmanager
def replacing(path: Place) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it takes the place of ``path``, else it is removed."""
    if isinstance(path, ObjectPath):
        with tempfile.TemporaryDirectory(prefix="sweeper-put-") as scratch:
            here = Path(scratch) / path.name
            yield here
            path.write_bytes(here.read_bytes())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{LEFTOVER}{path.stem}-{uuid.uuid4().hex[:12]}{path.suffix}")
    beside.touch(exist_ok=False)  # readable for whom the user's mask says
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    """Make a rename outlive a power cut; some file systems cannot, and then it is as safe as they are."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def local_copy(path: Place) -> Iterator[Path]:
    """Yield the name of a file on this machine with the content of ``path``.

    Raises:
        FileNotFoundError: it is not there.
    """
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="sweeper-get-") as scratch:
        here = Path(scratch) / path.name
        here.write_bytes(path.read_bytes())
        yield here


def write_text(path: Place, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all; bytes of file names that are no text become escapes."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_with(path: Place, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill the file that becomes ``path``."""
    with replacing(path) as beside:
        write(beside)


def remove_tree(folder: Place) -> None:
    """Remove a folder with all that is in it, as far as that can be done."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with suppress(OSError):
        folder.remove_tree()


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had begun to write in ``folder`` and never renamed."""
    for path in folder.glob(f"{LEFTOVER}*"):
        path.unlink(missing_ok=True)
