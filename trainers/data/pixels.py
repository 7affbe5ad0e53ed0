"""One encoded image in, its pixels out: upright, opaque, of 8 bits, grey or in colour."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, ImageColor, ImageOps

from trainers.errors import ConfigError

# EPS would have Ghostscript run a program that came with the data, and IPTC opens whatever it holds, an EPS too; WMF is
# drawn by Windows alone; Pillow only recognises the others.
_NOT_READ = frozenset({"EPS", "IPTC", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
EpsImagePlugin.gs_binary = False  # and should another format come to open one, no Ghostscript is found

WHITE = "white"
BILINEAR = "bilinear"
INTERPOLATIONS = {BILINEAR: Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TRANSPARENT_VALUE = {"L;2": 85, "L;4": 17}
"""Pillow scales grey of 2 and 4 bits to 8, but not the value that is transparent."""
_DEEP_COLOUR = ("RGB;16", "RGBA;16", "LA;16")


@cache
def image_extensions() -> frozenset[str]:
    """The file extensions, lower case and with their dot, of the formats that are read."""
    readable = _formats()
    return frozenset(ext for ext, name in Image.registered_extensions().items() if name in readable)


@cache
def colour(name: str) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of a colour: ``white``, ``#rrggbb``, or whatever else Pillow knows.

    Raises:
        ConfigError: it is no opaque colour.
    """
    problem = ConfigError(f"background must be the name of a colour, e.g. white, or '#rrggbb', but got {name!r}.")
    try:
        rgb = ImageColor.getrgb(name)
    except ValueError as error:
        raise problem from error
    if len(rgb) != 3:
        raise problem
    return rgb


@dataclass(frozen=True)
class Rendering:
    """How pixels are made of what a file holds.

    Args:
        image_size: height and width in pixels to resize to (antialiased); null: as they are.
        background: colour behind transparent parts, as :func:`colour` knows it.
        max_value: what becomes 255; null: the largest value that a pixel can have, 255 or 65535. Larger values become
            255 too. Images of 8 bits stay as they are if it is above 255.
        interpolation: how they are resized, one of :data:`INTERPOLATIONS`.
    """

    image_size: int | None = None
    background: str = WHITE
    max_value: float | None = None
    interpolation: str = BILINEAR


AS_IT_IS = Rendering()


class Pixels(NamedTuple):
    """The pixels of one image, and what its file had beside them.

    Args:
        values: uint8, (H, W) if the image has one channel, else (H, W, 3).
        size: width and height in the file, as its orientation says.
        transparent: whether a background was needed.
        frames: whether there is more than this first frame, or page.
        deep: smallest and largest value, if the file has more than 8 bits or ``max_value`` scales it. Of 16 bits in
            colour that are not scaled, the upper 8 alone are known, and these are the bounds that they give: 0 and 0
            where nothing is known, since these are 0 everywhere, or of what ``max_value`` cannot scale.
    """

    values: NDArray[np.uint8]
    size: tuple[int, int]
    transparent: bool
    frames: bool
    deep: tuple[float, float] | None


def read_pixels(source: bytes | Path, how: Rendering) -> Pixels:
    """Decode one image.

    Of 16 bits the upper 8 are kept, unless ``how.max_value`` says which value becomes 255.

    Args:
        source: the encoded image, or the file that holds it.
        how: to render it.

    Raises:
        Exception: of any kind, as Pillow's decoders raise them; the message says what is wrong.
    """
    with _opened(source) as opened:
        coding = _coding(opened)
        ImageOps.exif_transpose(opened, in_place=True)
        size = opened.size
        image, deep = _eight_bits(opened, source, coding, how.max_value)
        image, transparent = _on_background(image, how.background)
        if how.image_size is not None and image.size != (how.image_size, how.image_size):
            image = image.resize((how.image_size, how.image_size), INTERPOLATIONS[how.interpolation])
        values = np.asarray(image)
        return Pixels(values, size, transparent, _has_more(opened), deep)


@cache
def _formats() -> tuple[str, ...]:
    """The formats that are tried, the common ones first."""
    Image.preinit()
    Image.init()
    return tuple(name for name in Image.ID if name not in _NOT_READ)


def _opened(source: bytes | Path) -> Image.Image:
    return Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=_formats())


def _coding(image: Image.Image) -> str:
    """How the file lays out its pixels, in Pillow's words, e.g. ``RGB;16B``; empty if Pillow does not say."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else None
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _has_more(image: Image.Image) -> bool:
    """Whether there are more frames or pages. A JPEG of a camera may hold more pictures, but shows the first alone."""
    with suppress(Exception):  # the first frame has been read, and the others are not wanted
        return bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    return True


def _eight_bits(
    image: Image.Image, source: bytes | Path, coding: str, max_value: float | None
) -> tuple[Image.Image, tuple[float, float] | None]:
    """The image in mode L, LA, RGB or RGBA, and what :class:`Pixels` calls ``deep``."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        grey = Image.fromarray(_scaled(values, max_value))
        if "transparency" in image.info:
            grey.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
        return grey, (float(values.min()), float(values.max()))
    if coding.startswith(_DEEP_COLOUR):
        return _deep_colour(image, source, coding, max_value)
    if "transparency" in image.info and coding in _TRANSPARENT_VALUE:
        image.info["transparency"] *= _TRANSPARENT_VALUE[coding]
    mode = _plain_mode(image)
    plain = image if image.mode == mode else image.convert(mode)
    if max_value is not None and max_value < 255 and image.mode != "1":
        held = np.asarray(plain)[..., :3] if plain.mode.startswith("RGB") else np.asarray(plain.getchannel("L"))
        scaled = _scaled(np.arange(256), max_value).tolist()
        table = [value for band in plain.getbands() for value in (range(256) if band == "A" else scaled)]
        return plain.point(table), (float(held.min()), float(held.max()))
    return plain, None


def _plain_mode(image: Image.Image) -> str:
    grey = image.mode in ("1", "L", "LA", "La")
    return ("L" if grey else "RGB") + ("A" if image.has_transparency_data else "")


def _scaled(values: NDArray[Any], max_value: float | None) -> NDArray[np.uint8]:
    """``values`` so that ``max_value`` becomes 255, or the upper 8 of 16 bits of each."""
    low, high = values.min(), values.max()
    if max_value is None:
        if values.dtype.kind == "f":
            raise ValueError("its values are floating-point numbers, whose range no file states; data.max_value does")
        if low < 0 or high >= 1 << 16:
            raise ValueError(
                f"its values lie in {low}..{high}, but 16 bits are the most that is read unless data.max_value says "
                "what becomes white"
            )
        return (values >> 8).astype(np.uint8)
    if not low >= 0 or not np.isfinite(high):
        raise ValueError(f"its values lie in {low}..{high}, but must lie in 0..{max_value:g} (data.max_value)")
    scaled: NDArray[np.uint8] = np.rint(values * (255 / max_value)).clip(0, 255).astype(np.uint8)
    return scaled


def _deep_colour(
    image: Image.Image, source: bytes | Path, coding: str, max_value: float | None
) -> tuple[Image.Image, tuple[float, float]]:
    """An image of more than one channel and 16 bits each, of which Pillow reads the upper 8."""
    if "transparency" in image.info:
        image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    upper = np.asarray(image)
    colours = upper[..., :3]
    if coding.startswith("LA"):
        if max_value is not None:
            raise ValueError("data.max_value scales no grey images of 16 bits with transparency; store them as RGBA")
        return image.convert("LA"), (0.0, 0.0)
    if max_value is None:
        low, high = float(colours.min()), float(colours.max())
        return image, (low * 256, high * 256 + 255 if high else 0.0)
    # Read as if the bytes of each value stood the other way round, the upper 8 bits are the lower ones.
    with _opened(source) as again:
        swapped = coding[:-1] + ("B" if coding.endswith("L" if sys.byteorder == "big" else ("L", "N")) else "L")
        again.tile = [  # type: ignore[attr-defined]  # of images that come from files
            tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
            for tile in again.tile  # type: ignore[attr-defined]
        ]
        ImageOps.exif_transpose(again, in_place=True)
        lower = np.asarray(again)[..., :3]
    values = colours.astype(np.uint16) << 8 | lower
    made = Image.fromarray(_scaled(values, max_value))
    if image.mode == "RGBA":
        made.putalpha(image.getchannel("A"))
    return made, (float(values.min()), float(values.max()))


def _on_background(image: Image.Image, background: str) -> tuple[Image.Image, bool]:
    """An image of mode L or RGB, and whether there was anything to see through."""
    if image.mode in ("L", "RGB"):
        return image, False
    alpha = image.getchannel("A")
    opaque = image.convert(image.mode[:-1])
    if alpha.getextrema() == (255, 255):
        return opaque, False
    behind = colour(background)
    if opaque.mode == "L" and len(set(behind)) == 1:
        return Image.composite(opaque, Image.new("L", image.size, behind[0]), alpha), True
    return Image.composite(opaque.convert("RGB"), Image.new("RGB", image.size, behind), alpha), True
