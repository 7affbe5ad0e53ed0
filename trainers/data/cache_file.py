"""A file of decoded images: the pixels, which are mapped into memory, and a description of them behind."""

import fcntl
import hashlib
import json
import mmap
import os
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.data.decode import Notes
from trainers.data.stored import CacheFile

VERSION = 1
"""Of the layout, and of how pixels are made of encoded images: files of another version are made anew."""
SUFFIX = ".images"
_MAGIC = b"robustness-sweeper images\n"
_DIGEST = 32
_COMPACTED = 256
"""Images that are moved at a time."""


class DamagedCache(Exception):
    """The file is not what its name says. The message says why, as part of a sentence."""


@dataclass(frozen=True)
class Target:
    """The pixels of a file that is being made; it travels to other processes, which write into it.

    Args:
        path: of the file.
        count, height, width: of the images, three channels each.
    """

    path: Path
    count: int
    height: int
    width: int

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return self.count * 3 * self.height * self.width

    def reserve(self) -> None:
        """Make the file as long as it must be, so that writing to a full disk fails here, and not where it is mapped.

        Raises:
            OSError: there is no room.
        """
        with self.path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, self.nbytes)

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Pixels of some images, to be written: uint8 (stop - start, 3, H, W)."""
        image = (3, self.height, self.width)
        at = start * int(np.prod(image))
        return np.memmap(self.path, np.uint8, "r+", offset=at, shape=(stop - start, *image))

    def finish(self, key: str, notes: Notes) -> None:
        """Close up the images that were read, in one channel if none has colour, and write the description.

        Raises:
            OSError: the file cannot be written.
        """
        channels = 3 if notes.in_colour else 1
        kept = [index for index in range(self.count) if index not in notes.broken]
        if len(kept) < self.count or channels == 1:
            self._close_up(np.array(kept), channels)
        shape = [len(kept), channels, self.height, self.width]
        description = json.dumps({"version": VERSION, "key": key, "shape": shape, "notes": asdict(notes)}).encode()
        with self.path.open("rb+") as file:
            file.truncate(int(np.prod(shape)))
            file.seek(0, os.SEEK_END)
            file.write(description)
            file.write(hashlib.sha256(description).digest() + len(description).to_bytes(8, "little") + _MAGIC)

    def _close_up(self, kept: NDArray[np.int64], channels: int) -> None:
        size = channels * self.height * self.width
        for start in range(0, len(kept), _COMPACTED):
            chosen = kept[start : start + _COMPACTED]
            first = int(chosen[0])
            moved = self.rows(first, int(chosen[-1]) + 1)[chosen - first, :channels].copy()
            # What is written lies before what was read, or where it was.
            place = np.memmap(self.path, np.uint8, "r+", offset=start * size, shape=moved.shape)
            place[:] = moved


def read_description(path: Path) -> dict[str, Any]:
    """What a file says of itself: version, key, shape and notes.

    Raises:
        DamagedCache: it is damaged, or of another program.
        OSError: it cannot be read.
    """
    end = _DIGEST + 8 + len(_MAGIC)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < end:
            raise DamagedCache("it is too short")
        file.seek(size - end)
        digest, length, magic = file.read(_DIGEST), int.from_bytes(file.read(8), "little"), file.read()
        if magic != _MAGIC or length > size - end:
            raise DamagedCache("its end is not that of such a file")
        file.seek(size - end - length)
        text = file.read(length)
    if hashlib.sha256(text).digest() != digest:
        raise DamagedCache("its description is damaged")
    description: dict[str, Any] = json.loads(text)
    if description.get("version") != VERSION:
        raise DamagedCache("an other version of this program made it")
    if int(np.prod(description["shape"])) + length + end != size:
        raise DamagedCache("its length is not what its description says")
    return description


def notes_of(description: dict[str, Any]) -> Notes:
    """The notes on images of a description."""
    notes = description["notes"]
    for name in ("broken", "sizes", "deep"):  # JSON made the keys text, and pairs lists
        known = notes[name].items()
        notes[name] = {int(index): tuple(value) if isinstance(value, list) else value for index, value in known}
    return Notes(**notes)


def map_images(file: CacheFile) -> tuple[Tensor, Notes]:
    """The images of a file, and the notes on them; marks the file as used now.

    As long as a process has them, :mod:`trainers.data.cache_folder` does not remove the file.

    Returns:
        uint8 (M, C, H, W), which must not be written to, and the notes.

    Raises:
        DamagedCache: the file is damaged, or of other images.
        OSError: it cannot be read.
    """
    description = read_description(file.path)
    if description["key"] != file.key:
        raise DamagedCache("it holds other images")
    shape = description["shape"]
    with file.path.open("rb") as opened:
        with suppress(OSError):  # where locks are not supported
            fcntl.flock(opened, fcntl.LOCK_SH)
        with suppress(OSError):
            os.utime(opened.fileno())
        # The mapping has a handle of its own to the same open file, and with it the lock.
        pages = mmap.mmap(opened.fileno(), int(np.prod(shape)), access=mmap.ACCESS_READ)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        images = torch.from_numpy(np.frombuffer(pages, np.uint8).reshape(shape))
    return images, notes_of(description)
