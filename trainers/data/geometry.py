"""Random resized crops and affine maps of a batch, each image by its own box or map; bilinear, as torchvision's."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

TRIES = 10
"""Boxes drawn for an image before it is cropped at its centre (torchvision)."""
RATIOS = (3 / 4, 4 / 3)
"""Smallest and largest width of a box as a share of its height (torchvision)."""


class Boxes(NamedTuple):
    """A window of each image, in whole pixels: float (N,) each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def draw_boxes(images: Tensor, area: tuple[float, ...], generator: torch.Generator) -> Boxes:
    """Draw a window of each image as torchvision's ``RandomResizedCrop`` does.

    Its area is uniform between two shares of the image's, its ratio of width to height uniform in the logarithm. The
    first of ten tries that fits is taken. If none fits, the window is the largest at the centre whose ratio is allowed.

    Args:
        images: (N, C, H, W); only the shape counts.
        area: smallest and largest share of the image's area.
        generator: on the device of ``images``.
    """
    count, _, height, width = images.shape

    def drawn(*size: int) -> Tensor:
        return torch.rand(size, device=images.device, generator=generator)

    low, high = (math.log(ratio) for ratio in RATIOS)
    pixels = height * width * (area[0] + (area[1] - area[0]) * drawn(count, TRIES))
    root = (low + (high - low) * drawn(count, TRIES)).mul_(0.5).exp_()  # of the ratio
    wide, tall = (pixels.sqrt() * root).round_(), (pixels.sqrt() / root).round_()
    fits = (wide >= 1) & (wide <= width) & (tall >= 1) & (tall <= height)
    first, some = fits.int().argmax(1, keepdim=True), fits.any(1)
    most_wide = min(width, round(height * RATIOS[1]))
    most_tall = min(height, round(width / RATIOS[0]))
    wide = torch.where(some, wide.gather(1, first).squeeze(1), most_wide)
    tall = torch.where(some, tall.gather(1, first).squeeze(1), most_tall)

    def start(length: int, of_box: Tensor) -> Tensor:
        room = length - of_box
        at_random = (drawn(count) * (room + 1)).floor_().minimum(room)  # a product may be rounded up to room + 1
        return torch.where(some, at_random, (room / 2).floor_())

    return Boxes(start(height, tall), start(width, wide), tall, wide)


def resized_crops(images: Tensor, boxes: Boxes) -> Tensor:
    """The windows of the images, each resized to the size of the image.

    Pixels outside a window are not seen. No window is larger than the result, so antialiasing would change nothing.

    Args:
        images: uint8 (N, C, H, W).
        boxes: a window of each.

    Returns:
        uint8 (N, C, H, W), channels last.
    """

    def places(length: int, start: Tensor, of_box: Tensor) -> Tensor:
        scale, last = (of_box / length)[:, None], (of_box - 1)[:, None]
        inside = (torch.arange(length, device=images.device) + 0.5) * scale - 0.5
        return inside.clamp_(min=0).minimum(last) + start[:, None]

    rows = places(images.shape[2], boxes.top, boxes.height)
    columns = places(images.shape[3], boxes.left, boxes.width)
    return _sampled(images, columns[:, None, :], rows[:, :, None])


class Affine(NamedTuple):
    """Where each pixel of a result lies in its image: ``x + ax x + ay y + a1``, ``y + bx x + by y + b1``.

    Pixels are counted from the centre of the image, x to the right and y downwards. What all are 0 for stays as it is.
    Float (N,) each.
    """

    ax: Tensor
    ay: Tensor
    a1: Tensor
    bx: Tensor
    by: Tensor
    b1: Tensor


def warped(images: Tensor, how: Affine) -> Tensor:
    """Images seen through affine maps, with black where they end.

    Args:
        images: uint8 (N, C, H, W).
        how: the map of each.

    Returns:
        uint8 (N, C, H, W), channels last.
    """
    height, width = images.shape[2:]
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]
    ax, ay, a1, bx, by, b1 = (value[:, None, None] for value in how)
    columns = x + (ax * x + ay * y + a1) + (width - 1) / 2
    rows = y + (bx * x + by * y + b1) + (height - 1) / 2
    return _sampled(images, columns, rows)


def _sampled(images: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Images at places between their pixels, bilinear, 0 outside: uint8 (N, C, H, W), channels last.

    Args:
        images: uint8 (N, C, H, W).
        columns, rows: float, broadcast to (N, H, W): places in pixels, 0 at the centre of the first.
    """
    height, width = images.shape[2:]
    grid = torch.stack(torch.broadcast_tensors((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=3)
    found = functional.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found.round_().clamp_(0, 255).to(torch.uint8, memory_format=torch.channels_last)
