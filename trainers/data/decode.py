"""Encoded images in, their pixels out: into one uint8 tensor, or into whatever takes blocks of them."""

import errno
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from trainers.data.memory import available_memory
from trainers.data.pixels import AS_IT_IS, Pixels, Rendering, read_pixels
from trainers.data.progress import tell
from trainers.data.stored import Images
from trainers.errors import ConfigError

_BLOCK = 256  # images per task of the pool: a task per image would spend more time on tasks than on images
_BLOCK_BYTES = 2**23  # encoded bytes, from which on a block is full before that
_WAITING = 2 * (os.cpu_count() or 1)
"""Blocks that are read ahead, so that memory is bounded however many there are."""

# Encoded bytes. Below about this size Pillow spends its time in Python, where threads only wait for one another: two
# need 1.5 times as long as one for 32 x 32 JPEGs of 0.8 kB, and 0.65 times for 224 x 224 of 11 kB.
_WORTH_THREADS = 8192

NAMED = 5
"""Broken images that an error names."""


_OF_THE_IMAGE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EPERM}
    | {errno.EINVAL}  # a broken file that names a place far beyond its end
)
"""Errors of the system that say something about the image, and not about this machine."""


@dataclass(frozen=True)
class NoImage:
    """What stands in the place of an image that its source lacks.

    Args:
        reason: why there is none, as part of a sentence.
    """

    reason: str


Source = bytes | Path | NoImage
"""An encoded image, the file that holds it, or why there is none."""


class Items(Protocol):
    """Named sources of images. They may be read anew, block by block, each time that they are gone through."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __iter__(self) -> Iterator[tuple[str, Source]]:
        """For each, the name that errors give it, and its source."""
        ...


class Target(Protocol):
    """Where pixels go. It travels to other processes, which write into it."""

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """The place of some images, to be written: uint8 (stop - start, 3, H, W)."""
        ...


@dataclass(frozen=True)
class _InMemory:
    """A target in the memory of this process."""

    pixels: NDArray[np.uint8]

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        return self.pixels[start:stop]


@dataclass
class Notes:
    """What the files of images had beside pixels. Images are known by their place among the items given.

    Args:
        broken: why images could not be read.
        transparent: images with a background that shows.
        frames: images with more frames or pages than the first, which is the one that is read.
        sizes: width and height in the file, of images that were resized and are not square.
        deep: smallest and largest value in the file, as :class:`trainers.data.pixels.Pixels` describes it.
        constant: images of one colour all over.
        largest: the largest pixel value of all images.
        in_colour: whether any image has more than one channel.
    """

    broken: dict[int, str] = field(default_factory=dict)
    transparent: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    deep: dict[int, tuple[float, float]] = field(default_factory=dict)
    constant: list[int] = field(default_factory=list)
    largest: int = 0
    in_colour: bool = False

    def note(self, index: int, pixels: Pixels, resized: bool) -> None:
        """Keep what is unusual about an image."""
        if pixels.transparent:
            self.transparent.append(index)
        if pixels.frames:
            self.frames.append(index)
        if pixels.deep is not None:
            self.deep[index] = pixels.deep
        if resized and pixels.size[0] != pixels.size[1]:
            self.sizes[index] = pixels.size
        lowest, highest = pixels.values.min((0, 1)), pixels.values.max((0, 1))
        if (lowest == highest).all():
            self.constant.append(index)
        self.largest = max(self.largest, int(np.max(highest)))
        self.in_colour |= pixels.values.ndim == 3

    def add(self, block: "Notes") -> None:
        """Add what is known of the next block of images."""
        for name in ("broken", "sizes", "deep"):
            getattr(self, name).update(getattr(block, name))
        for name in ("transparent", "frames", "constant"):
            getattr(self, name).extend(getattr(block, name))
        self.largest = max(self.largest, block.largest)
        self.in_colour |= block.in_colour


@dataclass
class Decoded:
    """Decoded images. Images are known by their place among the items given.

    Args:
        names: of all items.
        notes: what the files had beside pixels.
        images: uint8 (M, C, H, W), in the order of the items; empty if none could be read.
    """

    names: list[str] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)
    images: Images = field(default_factory=lambda: torch.empty((0, 1, 0, 0), dtype=torch.uint8))

    @property
    def broken(self) -> dict[int, str]:
        """Why images could not be read."""
        return self.notes.broken

    @cached_property
    def kept(self) -> Tensor:
        """Which items could be read: int64 (M,), ascending."""
        there = torch.ones(len(self.names), dtype=torch.bool)
        there[list(self.broken)] = False
        return there.nonzero().squeeze(1)

    def all_images(self) -> Images:
        """The images, of which none may be broken: uint8 (N, C, H, W).

        Raises:
            ConfigError: some are; the first few are named and all are counted.
        """
        if not self.broken:
            return self.images
        first, *others = sorted(self.broken)
        text = f"Cannot read the image {self.names[first]}: {self.broken[first]}."
        if others:
            shown = ", ".join(self.names[index] for index in others[: NAMED - 1])
            more = ", ..." if len(self.broken) > NAMED else ""
            text += f" {len(others):,} more of {len(self.names):,} cannot be read: {shown}{more}."
        raise ConfigError(text)


def decode(items: Items, how: Rendering = AS_IT_IS) -> Decoded:
    """Decode every image that Pillow reads (EPS and WMF excepted), upright as its EXIF orientation says, into memory.

    The result has one channel if every image has one (8 or 16 bits or black and white), and RGB otherwise. Of an
    animation the first frame counts. Unless the first image is small, as many threads work as torch has been given.
    Images that are truncated, unreadable or so large that they may be decompression bombs are broken.

    Args:
        items: per image, the name that errors give it, and its encoded bytes, the file that holds them, or why there
            is none.
        how: to make pixels of what a file holds.

    Raises:
        ConfigError: no items; images of several sizes without ``how.image_size``; more than memory holds; this machine
            fails to read (too many open files, a broken disk), which says nothing about the image.
    """
    made: list[Tensor] = []

    def target(height: int, width: int) -> Target:
        made.append(_allocate(len(items), height, width))
        return _InMemory(made[0].numpy())

    decoded = decode_into(items, how, target, lambda first: ThreadPoolExecutor(_threads(first)))
    if not made:
        return decoded
    images = made.pop()
    if decoded.broken:
        for at, index in enumerate(decoded.kept.tolist()):  # in place: a copy would take as much memory again
            images[at] = images[index]
    images = images[: len(decoded.kept)]
    decoded.images = images if decoded.notes.in_colour else images[:, :1].contiguous()
    return decoded


def decode_into(
    items: Items,
    how: Rendering,
    target: Callable[[int, int], Target],
    pool: Callable[[Source], Executor],
) -> Decoded:
    """Decode as :func:`decode` does, into a place of the caller's, block by block.

    Of the rows of images that are broken, nothing is said; images of one channel have it three times, since whether
    any image has colour is known only at the end, and decoding twice costs more than two channels.

    Args:
        items: as for :func:`decode`.
        how: likewise.
        target: makes the place, given height and width of the first image; not called if none can be read.
        pool: makes what decodes blocks, given the source of that image.

    Returns:
        What is known of the images, without the images.

    Raises:
        ConfigError: as :func:`decode`.
    """
    if not len(items):
        raise ConfigError("There is no image to read.")
    decoded = Decoded()
    with ready_to_read():
        blocks, first = _blocks(items), None
        for start, block in blocks:
            decoded.names += [name for name, _ in block]
            first = _first_readable(block, how)
            if first is not None:
                break
            decoded.notes.add(_fill(start, block, how, None, None))
        if first is not None:
            name, source, height, width = first
            place, like = target(height, width), (name, height, width)
            with pool(source) as workers:
                end = start + len(block)
                waiting = deque([(end, workers.submit(_fill, start, block, how, like, place))])
                try:
                    for start, block in blocks:
                        decoded.names += [name for name, _ in block]
                        end = start + len(block)
                        waiting.append((end, workers.submit(_fill, start, block, how, like, place)))
                        while len(waiting) > _WAITING or (waiting and waiting[0][1].done()):
                            _finish(waiting, decoded, len(items))
                    while waiting:
                        _finish(waiting, decoded, len(items))
                except BaseException:
                    workers.shutdown(wait=True, cancel_futures=True)
                    raise
    return decoded


def _finish(waiting: deque[tuple[int, Future[Notes]]], decoded: Decoded, total: int) -> None:
    """Wait for the first block, and tell that all images up to its end are decoded."""
    end, block = waiting.popleft()
    decoded.notes.add(block.result())
    tell(end, total)


@contextmanager
def ready_to_read() -> Iterator[None]:
    """Have Pillow's warnings as images need them."""
    with warnings.catch_warnings():
        # The filters belong to the whole process, so this is set here and not in the threads.
        warnings.filterwarnings("ignore", module="PIL")  # of metadata that is damaged, say
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def size_of_first(items: Items, how: Rendering) -> tuple[int, int] | None:
    """Height and width of the first image that can be read; null if none can.

    Raises:
        ConfigError: this machine fails to read.
    """
    with ready_to_read():
        for _, block in _blocks(items):
            first = _first_readable(block, how)
            if first is not None:
                return first[2:]
    return None


def _blocks(items: Items) -> Iterator[tuple[int, list[tuple[str, Source]]]]:
    """The items in order, some at a time, with the place of the first of them."""
    start, block, size = 0, [], 0
    for item in items:
        block.append(item)
        size += len(item[1]) if isinstance(item[1], bytes) else 0
        if len(block) == _BLOCK or size >= _BLOCK_BYTES:
            yield start, block
            start, block, size = start + len(block), [], 0
    if block:
        yield start, block


def _first_readable(block: list[tuple[str, Source]], how: Rendering) -> tuple[str, Source, int, int] | None:
    """Name, source, height and width of the first image of a block that can be read."""
    for name, source in block:
        pixels = _read(name, source, how)
        if isinstance(pixels, Pixels):
            return name, source, pixels.values.shape[0], pixels.values.shape[1]
    return None


def _fill(
    start: int, block: list[tuple[str, Source]], how: Rendering, like: tuple[str, int, int] | None, place: Target | None
) -> Notes:
    """Decode a block of images.

    Args:
        start: place of the first of them among all items.
        block: the items.
        how: to make pixels of what a file holds.
        like: name, height and width of the image whose size all must have; null: none can be read so far.
        place: where pixels go; null likewise.

    Returns:
        What is known of them.

    Raises:
        ConfigError: as :func:`decode`.
    """
    found = Notes()
    rows = None if place is None else place.rows(start, start + len(block))
    for at, (name, source) in enumerate(block):
        pixels = _read(name, source, how)
        if isinstance(pixels, str):
            found.broken[start + at] = pixels
            continue
        assert like is not None, "the first that can be read was looked for"
        assert rows is not None, "and its place made"
        values = pixels.values
        if values.shape[:2] != like[1:]:
            raise ConfigError(
                f"All images must have the same size, but {like[0]} is {like[2]} x {like[1]} and "
                f"{name} is {values.shape[1]} x {values.shape[0]}; "
                "data.image_size (of train: --image-size) resizes them."
            )
        found.note(start + at, pixels, how.image_size is not None)
        rows[at] = values.transpose(2, 0, 1) if values.ndim == 3 else values
    return found


def _read(name: str, source: Source, how: Rendering) -> Pixels | str:
    """The pixels of an image, or why it cannot be read.

    Raises:
        ConfigError: this machine fails to read.
    """
    if isinstance(source, NoImage):
        return source.reason
    try:
        return read_pixels(source, how)
    except Exception as error:  # Pillow's decoders raise errors of many kinds on broken files
        reason = _reason(source, error)
        if _is_of_this_machine(error):
            raise ConfigError(
                f"Cannot read the image {name}: {reason}. It is this machine that fails, so the image is not left out."
            ) from error
        return reason


def _is_of_this_machine(error: Exception) -> bool:
    """Whether reading failed for want of memory, of files or of a disk, and not for the image."""
    if isinstance(error, OSError):  # Pillow's own has no number
        return error.errno is not None and error.errno not in _OF_THE_IMAGE
    return isinstance(error, MemoryError)


def _reason(source: Source, error: Exception) -> str:
    """Why an image cannot be read, as part of a sentence."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, UnidentifiedImageError):
        return "it is empty" if _size(source) == 0 else "it is in no known image format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__


def _size(source: Source) -> int:
    """Encoded bytes; 0 for a file that is gone."""
    if isinstance(source, Path):
        try:
            return source.stat().st_size
        except OSError:
            return 0
    return len(source) if isinstance(source, bytes) else 0


def _threads(first: Source) -> int:
    return torch.get_num_threads() if _size(first) >= _WORTH_THREADS else 1


def _allocate(count: int, height: int, width: int) -> Tensor:
    # A small file may hold a huge image, and where memory is promised without being there, the whole process is killed.
    if count * 3 * height * width > available_memory():
        size = f"{count} images of {width} x {height}"
        raise ConfigError(f"{size} do not fit into memory; data.image_size makes them smaller.")
    return torch.empty((count, 3, height, width), dtype=torch.uint8)
