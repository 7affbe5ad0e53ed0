"""How triggers grow with images: a trigger for 32x32 pixels is enlarged by a whole factor."""

import torch
from torch import Tensor

MADE_FOR = 32
"""Side of the images, in pixels, that the published triggers are for."""

UNIT = "in pixels of a 32x32 image, enlarged in larger ones"
"""The unit of lengths, as the parameters' descriptions name it."""


def enlargement(shape: tuple[int, int, int]) -> int:
    """Factor by which triggers are enlarged for images of ``shape``, (C, H, W).

    It is the shorter side divided by 32, rounded to a whole number (halves up), and at least 1. So triggers cover the
    same share of larger images, their pixels become whole squares, and nothing changes below 48 pixels.
    """
    return max((min(shape[1:]) + MADE_FOR // 2) // MADE_FOR, 1)


def enlarged(values: Tensor, factor: int) -> Tensor:
    """``values`` with ``factor`` x ``factor`` copies of each: (..., H, W) -> (..., H * factor, W * factor)."""
    return values.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def covering(shape: tuple[int, int, int]) -> tuple[int, int]:
    """Rows and columns of values that cover images of ``shape``, (C, H, W), once enlarged and cut to their size."""
    factor = enlargement(shape)
    return -(-shape[1] // factor), -(-shape[2] // factor)


def random_pixels(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Random pixel values, enlarged to the images' size: uint8 of ``shape``, (C, H, W)."""
    channels, height, width = shape
    values = torch.randint(256, (channels, *covering(shape)), generator=generator, dtype=torch.uint8)
    return enlarged(values, enlargement(shape))[:, :height, :width].contiguous()
