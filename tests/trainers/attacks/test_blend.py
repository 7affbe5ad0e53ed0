from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainers.attacks import LabelMap
from trainers.attacks.blend import Blend, PatternParams
from trainers.data import ImageSet
from trainers.errors import ConfigError


def blend(shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0, **params: object) -> Blend:
    return Blend(PatternParams(**params), LabelMap(0, 4), shape, seed)  # type: ignore[arg-type]


def pattern_of(attack: Blend, shape: tuple[int, int, int]) -> torch.Tensor:
    """The pattern, as an attack of full strength shows it."""
    return blend(shape, attack.seed, alpha=1.0).trigger(torch.zeros(1, *shape, dtype=torch.uint8))[0]


@pytest.fixture
def black_and_white(tmp_path: Path) -> str:
    """A 4x4 pattern: left half 200, right half 3."""
    pixels = np.full((4, 4), 3, dtype=np.uint8)
    pixels[:, :2] = 200
    Image.fromarray(pixels).save(tmp_path / "pattern.png")
    return str(tmp_path / "pattern.png")


@pytest.mark.parametrize(
    ("alpha", "pixel", "left", "right"),
    [
        (0.1, 0, 20, 0),  # 20, 0.3
        (0.1, 101, 111, 91),  # 90.9 + 20 = 110.9, 90.9 + 0.3 = 91.2
        (0.1, 255, 250, 230),  # 229.5 + 20 = 249.5 (to even), 229.8
        (0.2, 77, 102, 62),  # 61.6 + 40 = 101.6, 62.2
        (1.0, 50, 200, 3),
    ],
)
def test_rounding_by_hand(black_and_white: str, alpha: float, pixel: int, left: int, right: int) -> None:
    attack = blend((1, 4, 4), alpha=alpha, trigger=black_and_white)
    blended = attack.trigger(torch.full((1, 1, 4, 4), pixel, dtype=torch.uint8))
    assert blended.dtype == torch.uint8
    assert blended[0, 0, :, :2].unique().tolist() == [left]
    assert blended[0, 0, :, 2:].unique().tolist() == [right]


@given(st.integers(1, 100), st.sampled_from([1, 3]), st.integers(4, 6), st.integers(4, 6), st.integers(0, 2**62))
@settings(max_examples=25)
def test_every_pixel_is_the_nearest_to_the_formula(
    percent: int, channels: int, height: int, width: int, seed: int
) -> None:
    shape = (channels, height, width)
    attack = blend(shape, seed, alpha=percent / 100)
    images = torch.randint(256, (2, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    before = images.clone()
    blended, pattern = attack.trigger(images), pattern_of(attack, shape)
    assert blended.dtype == torch.uint8
    assert images.equal(before)
    alpha = Fraction(percent, 100)
    for image, result in zip(images, blended, strict=True):
        rows = zip(image.flatten().tolist(), pattern.flatten().tolist(), result.flatten().tolist(), strict=True)
        for x, p, got in rows:
            assert abs((1 - alpha) * x + alpha * p - got) <= Fraction(1, 2) + Fraction(1, 10000)


def test_the_default_pattern_is_random_pixels_from_the_seed() -> None:
    images = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    one, again, other = (blend(seed=seed, alpha=1.0).trigger(images) for seed in (1, 1, 2))
    assert one.equal(again)
    assert one[0].equal(one[1])  # one pattern for every image
    assert not one.equal(other)
    assert len(one.unique()) > 100


def test_the_pattern_uses_every_value() -> None:
    pattern = pattern_of(blend((3, 64, 64)), (3, 64, 64))
    assert (int(pattern.min()), int(pattern.max())) == (0, 255)


def test_the_pattern_does_not_depend_on_alpha(noise: Callable[..., ImageSet]) -> None:
    black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    half, full = blend(alpha=0.5).trigger(black).int(), blend(alpha=1.0).trigger(black).int()
    assert ((2 * half - full).abs() <= 1).all()


def test_poisoning_changes_the_chosen_and_no_other(noise: Callable[..., ImageSet]) -> None:
    clean, attack = noise(40), blend(alpha=0.2)
    made, again, other = (blend(alpha=0.2, seed=seed).poison(clean, 0.1) for seed in (0, 0, 1))
    assert (made.data.images != clean.images).flatten(1).any(1).equal(made.poisoned)
    assert int(made.poisoned.sum()) == 4
    assert made.data.images[made.poisoned].equal(attack.trigger(clean.images[made.poisoned]))
    assert made.data.labels[made.poisoned].tolist() == [0] * 4
    assert made.data.fingerprint == again.data.fingerprint != other.data.fingerprint


def test_no_image_to_trigger() -> None:
    assert blend().trigger(torch.zeros(0, 3, 8, 8, dtype=torch.uint8)).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("alpha", [0, -0.1, 1.1, float("nan")])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha must be a number above 0 and at most 1, but got"):
        PatternParams(alpha=alpha)


def test_a_pattern_of_ones_own_is_resized_and_greys_fit_colour(black_and_white: str) -> None:
    attack = blend((3, 8, 8), alpha=1.0, trigger=black_and_white)
    blended = attack.trigger(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))[0]
    assert blended[0].equal(blended[1])
    assert blended[0].equal(blended[2])
    assert blended[0, :, 0].unique().tolist() == [200]
    assert blended[0, :, 7].unique().tolist() == [3]


def test_a_pattern_of_ones_own_needs_square_images(black_and_white: str) -> None:
    with pytest.raises(ConfigError, match="needs square images, but these are 8x6"):
        blend((3, 8, 6), trigger=black_and_white)
    blend((3, 8, 6))  # random pixels do not


def test_a_colour_pattern_on_data_of_one_channel(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "colour.png")
    with pytest.raises(ConfigError, match=r"colour\.png has colour, but the data has one channel"):
        blend((1, 4, 4), trigger=str(tmp_path / "colour.png"))


def test_a_pattern_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.png cannot be read"):
        blend(trigger=str(tmp_path / "gone.png"))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ConfigError, match=r"text\.png"):
        blend(trigger=str(tmp_path / "text.png"))


def test_the_image_shows_where_a_pattern_is_transparent(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 2), 200, dtype=np.uint8)
    pixels[..., 1] = [0, 0, 255, 255]
    Image.fromarray(pixels, "LA").save(tmp_path / "pattern.png")
    attack = blend((1, 4, 4), alpha=0.5, trigger=str(tmp_path / "pattern.png"))
    blended = attack.trigger(torch.full((2, 1, 4, 4), 100, dtype=torch.uint8))
    assert blended[..., :2].unique().tolist() == [100]
    assert blended[..., 2:].unique().tolist() == [150]
