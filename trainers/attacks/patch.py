"""Patches: small squares of pixels at fixed places.

Sizes and insets are in pixels of images of 32x32. Larger images have them enlarged; see :mod:`trainers.attacks.scale`.
"""

import torch
from torch import Tensor

from trainers.attacks.scale import enlarged, enlargement
from trainers.errors import ConfigError

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")


def corner(name: str, size: int, inset: int, shape: tuple[int, int, int]) -> tuple[slice, slice]:
    """Rows and columns of a square of ``size``, ``inset`` away from the borders, in images of ``shape``, (C, H, W).

    Raises:
        ConfigError: the square does not fit.
    """
    _, height, width = shape
    unit = enlargement(shape)
    side, gap = size * unit, inset * unit
    if side + gap > min(height, width):
        raise ConfigError(f"A patch of size {size} with inset {inset} does not fit {_images_of(shape)}.")
    vertical, horizontal = name.split("_")
    top = gap if vertical == "top" else height - gap - side
    left = gap if horizontal == "left" else width - gap - side
    return slice(top, top + side), slice(left, left + side)


def four_corners(size: int, shape: tuple[int, int, int]) -> list[tuple[slice, slice]]:
    """Rows and columns of a square of ``size`` in each of the four corners of images of ``shape``, (C, H, W).

    Raises:
        ConfigError: the squares overlap.
    """
    largest = min(shape[1:]) // (2 * enlargement(shape))
    if size > largest:
        raise ConfigError(
            f"Patches of size {size} in four corners overlap in {_images_of(shape)}; allowed is {largest} or less."
        )
    return [corner(name, size, 0, shape) for name in CORNERS]


def checkerboard(size: int, shape: tuple[int, int, int]) -> Tensor:
    """White and black squares, ``size`` in a row, white first, for images of ``shape``, (C, H, W): uint8 (C, S, S)."""
    steps = torch.arange(size)
    board = ((steps[:, None] + steps[None, :]) % 2 == 0).to(torch.uint8) * 255
    return enlarged(board, enlargement(shape)).expand(shape[0], -1, -1).clone()


def _images_of(shape: tuple[int, int, int]) -> str:
    """The images, and what a size of 1 is in them if they are large."""
    unit = enlargement(shape)
    return f"images of {shape[1]}x{shape[2]}" + (f", where a size of 1 is {unit} pixels" if unit > 1 else "")
