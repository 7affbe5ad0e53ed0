"""Generated images: ten kinds of shape, each at a random place, size, rotation and colour, on a noisy background.

With this set a sweep runs on any machine in minutes. Its classes are meant to be harder to learn than a trigger: after
a few dozen steps a network is still uncertain of the shapes, and already certain of a trigger. Three choices were found
to help: a shape is as often darker as brighter than its background; shapes are small; and there is little noise, since
noise hides a faint trigger. ``benchmarks/RESULTS.md`` has the figures; a faint trigger is not always detected there.
"""

import math

import torch
from torch import Tensor

from trainers.data.image_set import ImageSet, Splits
from trainers.seeding import derive_seed, seeded

CLASS_NAMES = (
    "disc", "ring", "square", "frame", "triangle", "cross", "bar", "crescent", "star", "dots"
)  # fmt: skip
SUPERSAMPLING = 2
"""Pixels are averaged over this many samples a side, so that edges are smooth."""
RADIUS = (0.35, 0.6)
"""Lowest and highest radius of a shape, as a share of half the image's side."""
NOISE = 0.03
"""Standard deviation of the pixel noise, as a share of full brightness."""


def make_shapes(train_size: int, test_size: int, seed: int, image_size: int = 16, held_out_size: int = 0) -> Splits:
    """Draw all splits; the same arguments give the same bytes.

    Args:
        train_size, test_size: images per split, the classes in turn.
        seed: seeds every random draw.
        image_size: height and width in pixels.
        held_out_size: images held out for defenses that use unlabelled ones; 0: none.
    """
    return Splits(
        _draw(train_size, derive_seed(seed, "shapes", "train"), image_size),
        _draw(test_size, derive_seed(seed, "shapes", "test"), image_size),
        _draw(held_out_size, derive_seed(seed, "shapes", "held out"), image_size) if held_out_size else None,
    )


def _draw(count: int, seed: int, size: int) -> ImageSet:
    generator = seeded(seed)
    labels = torch.arange(count) % len(CLASS_NAMES)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    # Coordinates in the shape's own frame, in which its radius is 1.
    side = size * SUPERSAMPLING
    grid = (torch.arange(side) + 0.5) / side * 2 - 1
    radius, angle = uniform(*RADIUS), uniform(0, 2 * math.pi)
    reach = 1 - radius
    centre = uniform(-1, 1, 2) * reach[:, None]
    y = (grid[None, :, None] - centre[:, 0, None, None]) / radius[:, None, None]
    x = (grid[None, None, :] - centre[:, 1, None, None]) / radius[:, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u, v = cos * x + sin * y, cos * y - sin * x

    inside = torch.zeros(count, side, side)
    for label, shape in enumerate(_SHAPES):
        members = labels == label
        inside[members] = shape(u[members], v[members]).float()
    coverage = torch.nn.functional.avg_pool2d(inside[:, None], SUPERSAMPLING)

    bright, dark = uniform(0.55, 1.0, 3, 1, 1), uniform(0.0, 0.35, 3, 1, 1)
    inverted = uniform(0, 1, 1, 1, 1) < 0.5
    shape_colour, background = torch.where(inverted, dark, bright), torch.where(inverted, bright, dark)
    noise = torch.randn(count, 3, size, size, generator=generator) * NOISE
    pixels = background + coverage * (shape_colour - background) + noise
    return ImageSet((pixels * 255).round().clamp(0, 255).to(torch.uint8), labels, CLASS_NAMES)


def _disc(u: Tensor, v: Tensor) -> Tensor:
    return u**2 + v**2 < 0.8


def _ring(u: Tensor, v: Tensor) -> Tensor:
    r = (u**2 + v**2).sqrt()
    return (r < 1) & (r > 0.55)


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) < 0.72


def _frame(u: Tensor, v: Tensor) -> Tensor:
    edge = torch.maximum(u.abs(), v.abs())
    return (edge < 0.85) & (edge > 0.5)


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return (v > -0.5) & (v < 1 - math.sqrt(3) * u.abs())


def _cross(u: Tensor, v: Tensor) -> Tensor:
    return (torch.minimum(u.abs(), v.abs()) < 0.28) & (torch.maximum(u.abs(), v.abs()) < 0.95)


def _bar(u: Tensor, v: Tensor) -> Tensor:
    return (u.abs() < 0.3) & (v.abs() < 1)


def _crescent(u: Tensor, v: Tensor) -> Tensor:
    return (u**2 + v**2 < 1) & ((u - 0.55) ** 2 + v**2 > 0.7)


def _star(u: Tensor, v: Tensor) -> Tensor:
    # Three thin bars through the middle, at 60 degrees.
    arms = [(u * math.cos(a) + v * math.sin(a)).abs() < 0.18 for a in (0, math.pi / 3, 2 * math.pi / 3)]
    return (arms[0] | arms[1] | arms[2]) & (u**2 + v**2 < 1)


def _dots(u: Tensor, v: Tensor) -> Tensor:
    return ((u.abs() - 0.6) ** 2 + v**2) < 0.14


_SHAPES = (_disc, _ring, _square, _frame, _triangle, _cross, _bar, _crescent, _star, _dots)
