"""Patches: small squares of pixels at fixed places."""

import torch
from torch import Tensor

from trainers.errors import ConfigError

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")


def corner(name: str, size: int, inset: int, shape: tuple[int, int, int]) -> tuple[slice, slice]:
    """Rows and columns of a square of ``size`` pixels, ``inset`` pixels from the borders, in images of ``shape``.

    Raises:
        ConfigError: the square does not fit.
    """
    _, height, width = shape
    if size + inset > min(height, width):
        raise ConfigError(f"A patch of size {size} with inset {inset} does not fit images of {height}x{width}.")
    vertical, horizontal = name.split("_")
    top = inset if vertical == "top" else height - inset - size
    left = inset if horizontal == "left" else width - inset - size
    return slice(top, top + size), slice(left, left + size)


def four_corners(size: int, shape: tuple[int, int, int]) -> list[tuple[slice, slice]]:
    """Rows and columns of a square of ``size`` pixels in each of the four corners.

    Raises:
        ConfigError: the squares overlap.
    """
    _, height, width = shape
    if 2 * size > min(height, width):
        raise ConfigError(
            f"Patches of size {size} in four corners overlap in images of {height}x{width}; "
            f"allowed is {min(height, width) // 2} or less."
        )
    return [corner(name, size, 0, shape) for name in CORNERS]


def checkerboard(size: int, channels: int) -> Tensor:
    """White and black squares of one pixel, white first: uint8 (channels, size, size)."""
    steps = torch.arange(size)
    board = ((steps[:, None] + steps[None, :]) % 2 == 0).to(torch.uint8) * 255
    return board.expand(channels, -1, -1).clone()
