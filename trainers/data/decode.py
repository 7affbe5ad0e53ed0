"""Encoded images in, one uint8 tensor out."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from trainers.data.memory import available_memory
from trainers.errors import ConfigError

# EPS would have Ghostscript run a program that came with the data, and IPTC opens whatever it holds, an EPS too; WMF is
# drawn by Windows alone; Pillow only recognises the others.
_NOT_READ = frozenset({"EPS", "IPTC", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
EpsImagePlugin.gs_binary = False  # and should another format come to open one, no Ghostscript is found

_BLOCK = 256  # images per task of the thread pool: a task per image would spend more time on tasks than on images

# Encoded bytes. Below about this size Pillow spends its time in Python, where threads only wait for one another: two
# need 1.5 times as long as one for 32 x 32 JPEGs of 0.8 kB, and 0.65 times for 224 x 224 of 11 kB.
_WORTH_THREADS = 8192


@cache
def image_extensions() -> frozenset[str]:
    """The file extensions, lower case and with their dot, of the formats that `decode` reads."""
    readable = _formats()
    return frozenset(ext for ext, name in Image.registered_extensions().items() if name in readable)


def decode(items: Sequence[tuple[str, bytes | Path]], image_size: int | None) -> Tensor:
    """Decode every image that Pillow reads (EPS and WMF excepted), upright as its EXIF orientation says.

    The result has one channel if every image has one (8 or 16 bits or black and white; of 16 bits the upper 8 are
    kept), and RGB otherwise. Transparency is dropped. Of an animation the first frame counts. Unless the first
    image is small, as many threads work as torch has been given.

    Args:
        items: per image, the name that errors give it, and its encoded bytes or the file that holds them.
        image_size: height and width in pixels to resize to (bilinear, antialiased); None: as they are.

    Returns:
        uint8 (N, C, H, W), C of 1 or 3, in the order of ``items``.

    Raises:
        ConfigError: no items; images that are truncated, unreadable or so large that they may be decompression bombs,
            of which the first is named and the others are counted; images of several sizes without an ``image_size``;
            more than memory holds.
    """
    if not items:
        raise ConfigError("There is no image to read.")
    with warnings.catch_warnings():
        # The filters belong to the whole process, so this is set here and not in the threads.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        broken: dict[int, ConfigError] = {}

        def read(index: int) -> NDArray[np.uint8] | None:
            try:
                return _read(*items[index], image_size)
            except ConfigError as error:
                broken[index] = error
                return None

        known = next(((index, image) for index in range(len(items)) if (image := read(index)) is not None), None)
        if known is None:
            raise _unreadable(items, broken)
        first, (height, width) = known[0], known[1].shape[:2]
        # Whether any image has colour is known only at the end, and decoding twice costs more than two channels.
        images = _allocate(len(items), height, width)
        pixels = images.numpy()

        def fill(start: int) -> bool:
            has_colour = False
            for index in range(start, min(start + _BLOCK, len(items))):
                image = read(index)
                if image is None:
                    continue
                if image.shape[:2] != (height, width):
                    raise ConfigError(
                        f"All images must have the same size, but {items[first][0]} is {width} x {height} and "
                        f"{items[index][0]} is {image.shape[1]} x {image.shape[0]}; "
                        "data.image_size (of train: --image-size) resizes them."
                    )
                has_colour |= image.ndim == 3
                pixels[index] = image.transpose(2, 0, 1) if image.ndim == 3 else image
            return has_colour

        with ThreadPoolExecutor(_threads(items[0][1])) as pool:
            # A list: any() alone would stop at the first block with colour and drop the others.
            in_colour = any(list(pool.map(fill, range(0, len(items), _BLOCK))))
        if broken:
            raise _unreadable(items, broken)
    return images if in_colour else images[:, :1].contiguous()


def _unreadable(items: Sequence[tuple[str, bytes | Path]], broken: dict[int, ConfigError]) -> ConfigError:
    """Names the first of the images that cannot be read, and says how many more there are."""
    first, *others = sorted(broken)
    text = str(broken[first])
    if others:
        text += f" {len(others)} more cannot be read: {items[others[0]][0]}{' and so on' if len(others) > 1 else ''}."
    return ConfigError(text)


@cache
def _formats() -> tuple[str, ...]:
    """The formats that are tried, the common ones first."""
    Image.preinit()
    Image.init()
    return tuple(name for name in Image.ID if name not in _NOT_READ)


def _threads(first: bytes | Path) -> int:
    size = len(first) if isinstance(first, bytes) else first.stat().st_size
    return torch.get_num_threads() if size >= _WORTH_THREADS else 1


def _allocate(count: int, height: int, width: int) -> Tensor:
    # A small file may hold a huge image, and where memory is promised without being there, the whole process is killed.
    if count * 3 * height * width > available_memory():
        size = f"{count} images of {width} x {height}"
        raise ConfigError(f"{size} do not fit into memory; data.image_size makes them smaller.")
    return torch.empty((count, 3, height, width), dtype=torch.uint8)


def _read(name: str, source: bytes | Path, image_size: int | None) -> NDArray[np.uint8]:
    """One image: (H, W) if it has one channel, else (H, W, 3)."""
    try:
        file = BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=_formats()) as opened:
            ImageOps.exif_transpose(opened, in_place=True)
            image = _eight_bits(opened)
        if image_size is not None and image.size != (image_size, image_size):
            image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
        return np.asarray(image)
    except UnidentifiedImageError as error:
        raise ConfigError(f"Cannot read the image {name}: it is in no known image format.") from error
    except Exception as error:  # Pillow's decoders raise errors of many kinds on broken files
        raise ConfigError(f"Cannot read the image {name}: {str(error).rstrip('.')}.") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """``image`` in mode L or RGB."""
    if image.mode in ("L", "1"):
        return image.convert("L")
    if image.mode.startswith("I"):  # convert() would clip at 255; mode "I" is where Pillow puts 16-bit PGM
        values = np.asarray(image)
        if values.min() < 0 or values.max() >= 1 << 16:
            raise ValueError(f"its values lie in {values.min()}..{values.max()}, but 16 bits are the most that is read")
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its values are floating-point numbers, whose range no file states")
    if image.has_transparency_data:  # by way of RGBA, as Pillow warns when a palette loses its transparency
        image = image.convert("RGBA")
    return image.convert("RGB")
