from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.nn import functional

from tests.trainers.data.images import random_images
from trainers.data import colour

CPU = torch.device("cpu")
PIL = Image.Image


def varied_images(channels: int, height: int = 24, width: int = 20) -> Tensor:
    """Noise, a dark image without contrast, one of a single colour, and a smooth one: uint8 (4, C, H, W)."""
    noise, dark, smooth = random_images(3, channels, height, width).split(1)
    coarse = functional.interpolate(smooth[..., :4, :4].float(), (height, width), mode="bicubic")
    return torch.cat([noise, 90 + dark // 5, torch.full_like(noise, 77), coarse.clamp(0, 255).byte()])


def through_pillow(images: Tensor, operation: Callable[[PIL], PIL]) -> Tensor:
    made = []
    for image in images:
        values = image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()
        found = np.array(operation(Image.fromarray(values)))
        made.append(torch.from_numpy(found).view(*image.shape[1:], len(image)).permute(2, 0, 1))
    return torch.stack(made)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.1, 0.73, 1.0, 1.27, 1.9])
@pytest.mark.parametrize(
    ("operation", "pillows"),
    [
        (lambda images, factor: colour.looked_up(images, colour.brightness(factor)), ImageEnhance.Brightness),
        (lambda images, factor: colour.looked_up(images, colour.contrast(images, factor)), ImageEnhance.Contrast),
        (colour.saturated, ImageEnhance.Color),
        (colour.sharpened, ImageEnhance.Sharpness),
    ],
    ids=["brightness", "contrast", "saturated", "sharpened"],
)
def test_what_has_a_factor_against_pillow(
    channels: int, factor: float, operation: Callable[..., Tensor], pillows: Callable[[PIL], ImageEnhance._Enhance]
) -> None:
    images = varied_images(channels)
    before = images.clone()
    found = operation(images, torch.full((len(images),), factor))
    expected = through_pillow(images, lambda image: pillows(image).enhance(factor))
    assert found.dtype == torch.uint8
    assert (found.int() - expected.int()).abs().max() <= 1
    assert images.equal(before)
    if factor == 1:
        assert found.equal(images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("table", "pillows"),
    [
        *((lambda _, bits=bits: colour.posterize(bits, CPU), lambda image, bits=bits: ImageOps.posterize(image, bits))
          for bits in (1, 4, 7, 8)),
        *((lambda _, at=at: colour.solarize(at, CPU), lambda image, at=at: ImageOps.solarize(image, at))
          for at in (0, 100, 178.5, 256)),
        (colour.equalize, ImageOps.equalize),
    ],
)  # fmt: skip
def test_tables_are_pillows(channels: int, table: Callable[[Tensor], Tensor], pillows: Callable[[PIL], PIL]) -> None:
    images = varied_images(channels)
    assert colour.looked_up(images, table(images)).equal(through_pillow(images, pillows))


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_is_pillows_within_a_level(channels: int) -> None:
    images = varied_images(channels)
    found = colour.looked_up(images, colour.autocontrast(images))
    # Pillow rounds a floating-point number down that may lie a little below a whole one.
    assert (found.int() - through_pillow(images, ImageOps.autocontrast).int()).abs().max() <= 1
    assert found[2].equal(images[2]), "one colour"
    assert found[1].flatten(1).aminmax(dim=1).max.eq(255).all()
    assert found[1].flatten(1).aminmax(dim=1).min.eq(0).all()


@given(
    st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.floats(0, 2), st.integers(0, 255), st.integers(0, 99)
)
@settings(max_examples=50)
def test_laws(channels: int, height: int, width: int, factor: float, threshold: int, seed: int) -> None:
    images = random_images(2, channels, height, width, seed)
    factors, ones = torch.full((2,), factor), torch.ones(2)

    def through(table: Tensor, of: Tensor = images) -> Tensor:
        return colour.looked_up(of, table)

    assert through(colour.unchanged(CPU)).equal(images)
    assert through(colour.posterize(8, CPU)).equal(images)
    assert through(colour.solarize(256, CPU)).equal(images)
    assert through(colour.brightness(ones)).equal(images)
    assert through(colour.contrast(images, ones)).equal(images)
    assert colour.saturated(images, ones).equal(images)
    assert colour.sharpened(images, ones).equal(images)
    inverted = through(colour.solarize(0, CPU))
    assert inverted.equal(255 - images)
    kept = images < threshold
    solarized = through(colour.solarize(threshold, CPU))
    assert solarized[kept].equal(images[kept])
    assert solarized[~kept].equal(255 - images[~kept])
    stretched = through(colour.autocontrast(images))
    assert through(colour.autocontrast(stretched), stretched).equal(stretched)
    grey = images[:, :1].expand(-1, channels, -1, -1)
    if channels != 3:  # with three, rounded weights may give the grey of grey one level less
        assert colour.saturated(grey, factors).equal(grey)
    blurred = colour.sharpened(images, factors)
    edges = torch.ones(height, width, dtype=torch.bool)
    edges[1:-1, 1:-1] = False
    assert blurred[..., edges].equal(images[..., edges])


def test_each_image_has_a_factor_and_tables_of_its_own() -> None:
    images, factors = random_images(3, 3, 8, 8), torch.tensor([0.2, 1.0, 1.7])
    whole = [
        colour.looked_up(images, colour.brightness(factors)),
        colour.looked_up(images, colour.contrast(images, factors)),
        colour.saturated(images, factors),
        colour.sharpened(images, factors),
        colour.looked_up(images, colour.equalize(images)),
    ]
    for place in range(3):
        image, factor = images[place : place + 1], factors[place : place + 1]
        alone = [
            colour.looked_up(image, colour.brightness(factor)),
            colour.looked_up(image, colour.contrast(image, factor)),
            colour.saturated(image, factor),
            colour.sharpened(image, factor),
            colour.looked_up(image, colour.equalize(image)),
        ]
        assert all(made[place].equal(one[0]) for made, one in zip(whole, alone, strict=True))
