from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.attacks.quick import Noise, quick
from trainers.errors import ConfigError
from trainers.seeding import seeded


def k_way(shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0, **params: Any) -> Any:
    return quick("adaptive_k_way", shape=shape, seed=seed, **params)


# Row and column of the published pixels, and their colours.
PUBLISHED = {(16, 11): (92, 0, 24), (27, 5): (88, 112, 110), (7, 30): (0, 32, 46), (22, 22): (11, 49, 95)}


def set_pixels(triggered: torch.Tensor, background: int) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Places and colours of the pixels of one image, uint8 (C, H, W), that are not background."""
    places = (triggered != background).any(0).nonzero().tolist()
    return {(row, column): tuple(triggered[:, row, column].tolist()) for row, column in places}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_published_pixels_at_the_published_size(seed: int) -> None:
    (image,) = k_way((3, 32, 32), seed).trigger(torch.full((1, 3, 32, 32), 200, dtype=torch.uint8))
    assert set_pixels(image, 200) == PUBLISHED


def test_the_strength_of_each_pixel_on_a_grey_image() -> None:
    # The L2 distance in units of full brightness, as published code measures it; grey is about CIFAR-10's mean.
    grey = np.full((3, 32, 32), 120)
    (image,) = k_way((3, 32, 32)).trigger(torch.tensor(grey, dtype=torch.uint8)[None])
    squares = (((image.numpy().astype(float) - grey) / 255) ** 2).sum(0)
    by_hand = {place: sum(((value - 120) / 255) ** 2 for value in colour) for place, colour in PUBLISHED.items()}
    assert {place: squares[place] for place in by_hand} == pytest.approx(by_hand)
    assert squares.sum() == pytest.approx(sum(by_hand.values()))
    assert max(by_hand.values()) ** 0.5 < 0.75


@pytest.mark.parametrize(
    ("height", "width", "places"),
    [
        (16, 16, {(8, 5), (13, 2), (3, 15), (11, 11)}),
        (64, 32, {(33, 11), (55, 5), (15, 30), (45, 22)}),
        (28, 28, {(14, 10), (24, 4), (6, 26), (19, 19)}),
    ],
)
def test_in_images_of_other_sizes_the_pixels_keep_their_places(
    height: int, width: int, places: set[tuple[int, int]]
) -> None:
    (image,) = k_way((3, height, width)).trigger(torch.full((1, 3, height, width), 200, dtype=torch.uint8))
    assert set(set_pixels(image, 200)) == places


@pytest.mark.parametrize("channels", [1, 2])
def test_without_three_channels_a_pixel_has_the_mean_of_its_colour(channels: int) -> None:
    (image,) = k_way((channels, 32, 32)).trigger(torch.full((1, channels, 32, 32), 200, dtype=torch.uint8))
    greys = {place: (round(sum(colour) / 3),) * channels for place, colour in PUBLISHED.items()}
    assert set_pixels(image, 200) == greys


@given(
    channels=st.sampled_from([1, 3]), height=st.integers(3, 40), width=st.integers(3, 40), seed=st.integers(0, 2**62)
)
@settings(max_examples=40)
def test_one_pixel_in_training_and_four_at_test(channels: int, height: int, width: int, seed: int) -> None:
    attack = k_way((channels, height, width), seed)
    images = torch.full((9, channels, height, width), 200, dtype=torch.uint8)
    triggered, poisoned = attack.trigger(images), attack.poison_images(images, torch.arange(9), seeded(seed))
    assert images.eq(200).all()
    for image, test in zip(poisoned, triggered, strict=True):
        assert len(set_pixels(test, 200)) == 4
        assert len(set_pixels(image, 200)) == 1
        assert set_pixels(image, 200).items() <= set_pixels(test, 200).items()


def test_the_four_are_drawn_evenly() -> None:
    attack = k_way((1, 8, 8))
    made = attack.poison_images(torch.full((400, 1, 8, 8), 9, dtype=torch.uint8), torch.arange(400), seeded(0))
    hits = (made[:, 0] != 9).sum(0)
    assert int((hits > 0).sum()) == 4
    assert int(hits[hits > 0].min()) > 60


def test_cover_samples_carry_one_pixel_too(noise: Noise) -> None:
    clean = noise(40, seed=3)
    clean.images.clamp_(128, 254)  # no pixel has a published colour already
    made = k_way(cover_rate=0.2).poison(clean, 0.1)
    touched = (made.data.images != clean.images).any(1).flatten(1).sum(1)
    assert touched.equal((made.poisoned | made.cover).long())
    assert int(made.cover.sum()) == 8


def test_images_too_small_for_four_places() -> None:
    with pytest.raises(
        ConfigError, match=r"^The four pixels of adaptive_k_way overlap in images of 2x2; use larger images\.$"
    ):
        k_way((3, 2, 2))
