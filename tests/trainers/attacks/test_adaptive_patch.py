from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.attacks.quick import Noise, quick
from trainers.attacks.adaptive_patch import AdaptivePatchParams
from trainers.errors import ConfigError
from trainers.seeding import seeded


def adaptive(shape: tuple[int, int, int] = (3, 10, 9), seed: int = 0, **params: Any) -> Any:
    return quick("adaptive_patch", shape=shape, seed=seed, **params)


def corners(size: int, height: int, width: int) -> list[tuple[slice, slice]]:
    """Top left, top right, bottom left, bottom right."""
    vertical = slice(0, size), slice(height - size, height)
    return [(rows, columns) for rows in vertical for columns in (slice(0, size), slice(width - size, width))]


@given(size=st.integers(1, 4), channels=st.sampled_from([1, 3]), seed=st.integers(0, 2**62))
@settings(max_examples=25)
def test_each_training_image_gets_one_patch_at_its_opacity(size: int, channels: int, seed: int) -> None:
    attack = adaptive((channels, 10, 9), seed, size=size)
    images = torch.randint(256, (12, channels, 10, 9), generator=seeded(seed), dtype=torch.uint8)
    made = attack.poison_images(images, torch.arange(12), seeded(seed)).numpy()
    before, pattern = images.numpy(), attack._pattern.numpy()
    for image, result in zip(before, made, strict=True):
        fits = []
        for (rows, columns), alpha in zip(corners(size, 10, 9), (0.5, 0.2, 0.5, 0.3), strict=True):
            wanted = image.astype(float)
            wanted[:, rows, columns] = (1 - alpha) * image[:, rows, columns] + alpha * pattern[:, rows, columns]
            fits.append(bool(np.abs(result - wanted).max() <= 0.5 + 1e-3))
        assert any(fits)


def test_the_four_patches_are_drawn_evenly_each_with_its_own_opacity() -> None:
    attack = adaptive((1, 10, 9), size=4, alphas=(0.1, 0.2, 0.6, 1))
    attack._pattern = torch.full((1, 10, 9), 250, dtype=torch.uint8)
    made = attack.poison_images(torch.zeros(400, 1, 10, 9, dtype=torch.uint8), torch.arange(400), seeded(0))
    counts = []
    for (rows, columns), value in zip(corners(4, 10, 9), (25, 50, 150, 250), strict=True):
        inside = made[:, 0, rows, columns].flatten(1)
        assert ((inside == 0).all(1) | (inside == value).all(1)).all()
        counts.append(int((inside == value).all(1).sum()))
    assert sum(counts) == 400
    assert min(counts) > 60


@pytest.mark.parametrize(("test_alpha", "value"), [(1.0, 200), (0.5, 100)])
def test_at_test_time_there_are_two_patches(test_alpha: float, value: int) -> None:
    attack = adaptive(size=4, test_alpha=test_alpha)
    attack._pattern = torch.full((3, 10, 9), 200, dtype=torch.uint8)
    triggered = attack.trigger(torch.zeros(2, 3, 10, 9, dtype=torch.uint8))
    expected = torch.zeros(2, 3, 10, 9, dtype=torch.uint8)
    # Those at the strongest opacities of training: top and bottom left.
    expected[:, :, 0:4, 0:4] = value
    expected[:, :, 6:10, 0:4] = value
    assert triggered.equal(expected)


def test_the_patches_are_random_pixels_from_the_seed(noise: Noise) -> None:
    images = noise(2).images
    one, again, other = (adaptive((3, 8, 8), seed).trigger(images) for seed in (1, 1, 2))
    assert one.equal(again)
    assert not one.equal(other)
    assert len(one[0, :, :, :4].unique()) > 50


def test_cover_samples_carry_one_patch_too(noise: Noise) -> None:
    clean = noise(40, size=10)
    made = adaptive((3, 10, 10), cover_rate=0.2).poison(clean, 0.1)
    for where in (made.poisoned, made.cover):
        differ = (made.data.images != clean.images)[where].any(1)
        touched = torch.stack([differ[:, rows, columns].flatten(1).any(1) for rows, columns in corners(4, 10, 10)])
        assert touched.sum(0).tolist() == [1] * len(differ)
        assert differ.flatten(1).sum(1).max() <= 16


@pytest.mark.parametrize(("side", "size"), [(32, 8), (16, 4), (28, 7), (3, 1)])
def test_patches_are_a_quarter_of_the_image_wide(side: int, size: int) -> None:
    attack = adaptive((3, side, side + 1))
    attack._pattern = torch.full((3, side, side + 1), 200, dtype=torch.uint8)
    (image,) = attack.trigger(torch.zeros(1, 3, side, side + 1, dtype=torch.uint8))
    expected = torch.zeros(3, side, side + 1, dtype=torch.uint8)
    expected[:, :size, :size], expected[:, side - size :, :size] = 200, 200
    assert image.equal(expected)


def test_the_strength_of_the_trigger_at_the_published_size() -> None:
    images = torch.randint(256, (200, 3, 32, 32), generator=seeded(1), dtype=torch.uint8)
    triggered = adaptive((3, 32, 32)).trigger(images)
    distances = np.sqrt((((triggered.numpy().astype(float) - images.numpy()) / 255) ** 2).sum((1, 2, 3)))
    # Two patches of 8 x 8 pixels and three channels; two even draws from 0 to 255 differ by (256^2 - 1) / 6 in square.
    expected = np.sqrt(2 * 8 * 8 * 3 * (256**2 - 1) / 6) / 255
    assert distances.mean() == pytest.approx(expected, rel=0.05)


def test_bad_parameters() -> None:
    defaults = AdaptivePatchParams()
    assert (defaults.alphas, defaults.test_alpha, defaults.cover_rate) == ((0.5, 0.2, 0.5, 0.3), 1.0, 0.006)
    for alphas in ((), (0.5,), (0.5,) * 5):
        message = rf"^alphas must list four opacities, one for each patch, but lists {len(alphas)}\.$"
        with pytest.raises(ConfigError, match=message):
            AdaptivePatchParams(alphas=alphas)
    with pytest.raises(ConfigError, match=r"alphas must be a number above 0 and at most 1, but got 1\.5"):
        AdaptivePatchParams(alphas=(0.5, 0.5, 0.5, 1.5))
    with pytest.raises(
        ConfigError, match=r"^Patches of size 5 in four corners overlap in images of 10x9; allowed is 4 "
    ):
        adaptive(size=5)
