"""RandAugment (arXiv 1909.13719): operations of one strength, drawn for each image.

Operations, their range and the scale of the magnitude, 0 to 30, are torchvision's. Shears, translations and rotations
are bilinear, with black where the image ends (torchvision: the nearest pixel, unless told otherwise).
"""

import math

import torch
from torch import Tensor

from trainers.data import colour
from trainers.data.geometry import Affine, warped

STRONGEST = 30
"""Largest magnitude."""
OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip


def rand_augment(images: Tensor, operations: int, magnitude: int, generator: torch.Generator) -> Tensor:
    """Change each image by operations drawn for it, one after the other.

    Args:
        images: uint8 (N, C, H, W).
        operations: number of operations on each image; one may come up again.
        magnitude: strength of all operations, 0 to 30. At 0 only autocontrast and equalize, which have no strength,
            change an image.
        generator: on the device of ``images``.

    Returns:
        uint8 (N, C, H, W).
    """
    for _ in range(operations):
        drawn = torch.randint(len(OPERATIONS), (len(images),), device=images.device, generator=generator)
        upward = torch.rand(len(images), device=images.device, generator=generator) < 0.5
        images = operated(images, drawn, upward, magnitude)
    return images


def operated(images: Tensor, drawn: Tensor, upward: Tensor, magnitude: int) -> Tensor:
    """One operation on each image.

    Every operation is computed for the whole batch, with no effect on the images that did not draw it: to pick them out
    the host would have to wait for the device.

    Args:
        images: uint8 (N, C, H, W).
        drawn: int64 (N,), places in :data:`OPERATIONS`.
        upward: bool (N,), the sign of the strength where the operation has one.
        magnitude: 0 to 30.

    Returns:
        uint8 (N, C, H, W), channels last.
    """
    strength = magnitude / STRONGEST
    sign = torch.where(upward, 1.0, -1.0)
    is_drawn = {name: drawn == place for place, name in enumerate(OPERATIONS)}
    changed = _recoloured(images, is_drawn, strength, sign)
    return warped(changed, _maps(images, is_drawn, strength, sign))


def _recoloured(images: Tensor, is_drawn: dict[str, Tensor], strength: float, sign: Tensor) -> Tensor:
    """Images after the operation on colours that each has drawn."""
    device, factor = images.device, 1 + 0.9 * strength * sign
    bits = round(8 - 4 * strength)
    # torchvision's 255 at magnitude 0 would turn white pixels black.
    threshold = 255 * (1 - strength) if strength else 256
    tables = colour.unchanged(device)
    for name, made in (
        ("brightness", colour.brightness(factor)),
        ("contrast", colour.contrast(images, factor)),
        ("posterize", colour.posterize(bits, device)),
        ("solarize", colour.solarize(threshold, device)),
        ("autocontrast", colour.autocontrast(images)),
        ("equalize", colour.equalize(images)),
    ):
        tables = torch.where(is_drawn[name][:, None, None], made, tables)
    images = colour.looked_up(images, tables)
    images = colour.saturated(images, torch.where(is_drawn["color"], factor, 1.0))
    return colour.sharpened(images, torch.where(is_drawn["sharpness"], factor, 1.0))


def _maps(images: Tensor, is_drawn: dict[str, Tensor], strength: float, sign: Tensor) -> Affine:
    """The shear, translation or rotation that each image has drawn; else the map that changes nothing."""
    height, width = images.shape[2:]

    def where(name: str, value: Tensor | float) -> Tensor:
        return torch.where(is_drawn[name], value, 0.0)

    shear, angle = 0.3 * strength * sign, math.radians(30 * strength)
    right, down = (int(150 / 331 * length * strength) * sign for length in (width, height))
    # Shears leave the top or the left edge in place, rotations (to the left where the sign is positive) the centre.
    turn, sine = where("rotate", math.cos(angle) - 1), math.sin(angle) * sign
    shear_x, shear_y = where("shear_x", shear), where("shear_y", shear)
    return Affine(
        ax=turn,
        ay=shear_x - where("rotate", sine),
        a1=shear_x * (height / 2) - where("translate_x", right),
        bx=shear_y + where("rotate", sine),
        by=turn,
        b1=shear_y * (width / 2) - where("translate_y", down),
    )
