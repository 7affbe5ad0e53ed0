"""Encoded images in, one uint8 tensor out."""

import errno
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from trainers.data.memory import available_memory
from trainers.data.pixels import AS_IT_IS, Pixels, Rendering, read_pixels
from trainers.errors import ConfigError

_BLOCK = 256  # images per task of the thread pool: a task per image would spend more time on tasks than on images

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


@dataclass
class Decoded:
    """Decoded images, and what their files had beside pixels. Images are known by their place among the items given.

    Args:
        names: of all items.
        images: uint8 (M, C, H, W), in the order of the items; empty if none could be read.
        kept: int64 (M,), ascending: which items they are.
        broken: why the others could not be read.
        transparent: images with a background that shows.
        frames: images with more frames or pages than the first, which is the one that is read.
        sizes: width and height in the file, of images that were resized and are not square.
        deep: smallest and largest value in the file, as :class:`trainers.data.pixels.Pixels` describes it.
    """

    names: list[str]
    images: Tensor = field(default_factory=lambda: torch.empty((0, 1, 0, 0), dtype=torch.uint8))
    kept: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    broken: dict[int, str] = field(default_factory=dict)
    transparent: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    deep: dict[int, tuple[float, float]] = field(default_factory=dict)

    def all_images(self) -> Tensor:
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


def decode(items: Sequence[tuple[str, Source]], how: Rendering = AS_IT_IS) -> Decoded:
    """Decode every image that Pillow reads (EPS and WMF excepted), upright as its EXIF orientation says.

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
    if not items:
        raise ConfigError("There is no image to read.")
    decoded = Decoded([name for name, _ in items])
    with warnings.catch_warnings():
        # The filters belong to the whole process, so this is set here and not in the threads.
        warnings.filterwarnings("ignore", module="PIL")  # of metadata that is damaged, say
        warnings.simplefilter("error", Image.DecompressionBombWarning)

        def read(index: int) -> Pixels | None:
            name, source = items[index]
            if isinstance(source, NoImage):
                decoded.broken[index] = source.reason
                return None
            try:
                pixels = read_pixels(source, how)
            except Exception as error:  # Pillow's decoders raise errors of many kinds on broken files
                reason = _reason(source, error)
                if _is_of_this_machine(error):
                    raise ConfigError(
                        f"Cannot read the image {name}: {reason}. It is this machine that fails, so the image is not "
                        "left out."
                    ) from error
                decoded.broken[index] = reason
                return None
            decoded.note(index, pixels, how.image_size is not None)
            return pixels

        known = next(((index, image) for index in range(len(items)) if (image := read(index)) is not None), None)
        if known is None:
            return decoded
        first, (height, width) = known[0], known[1].values.shape[:2]
        # Whether any image has colour is known only at the end, and decoding twice costs more than two channels.
        images = _allocate(len(items), height, width)
        pixels = images.numpy()

        def fill(start: int) -> bool:
            has_colour = False
            for index in range(start, min(start + _BLOCK, len(items))):
                image = known[1] if index == first else None if index in decoded.broken else read(index)
                if image is None:
                    continue
                values = image.values
                if values.shape[:2] != (height, width):
                    raise ConfigError(
                        f"All images must have the same size, but {items[first][0]} is {width} x {height} and "
                        f"{items[index][0]} is {values.shape[1]} x {values.shape[0]}; "
                        "data.image_size (of train: --image-size) resizes them."
                    )
                has_colour |= values.ndim == 3
                pixels[index] = values.transpose(2, 0, 1) if values.ndim == 3 else values
            return has_colour

        with ThreadPoolExecutor(_threads(items[first][1])) as pool:
            # A list: any() alone would stop at the first block with colour and drop the others.
            in_colour = any(list(pool.map(fill, range(0, len(items), _BLOCK))))
    kept = [index for index in range(len(items)) if index not in decoded.broken]
    if decoded.broken:
        for at, index in enumerate(kept):  # in place: a copy would take as much memory again
            images[at] = images[index]
    images = images[: len(kept)]
    decoded.images, decoded.kept = images if in_colour else images[:, :1].contiguous(), torch.tensor(kept)
    decoded.transparent.sort()  # threads end in any order
    decoded.frames.sort()
    return decoded


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
