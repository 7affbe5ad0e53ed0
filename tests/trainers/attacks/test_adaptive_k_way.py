from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.attacks.quick import Noise, prepared, quick
from trainers.data import ImageSet
from trainers.errors import ConfigError
from trainers.seeding import seeded


def k_way(shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0, **params: Any) -> Any:
    return quick("adaptive_k_way", shape=shape, seed=seed, **params)


@given(
    channels=st.sampled_from([1, 3]), height=st.integers(2, 11), width=st.integers(2, 11), seed=st.integers(0, 2**62)
)
@settings(max_examples=40)
def test_one_pixel_in_training_and_four_at_test(channels: int, height: int, width: int, seed: int) -> None:
    attack = k_way((channels, height, width), seed)
    images = torch.full((9, channels, height, width), 100, dtype=torch.uint8)
    triggered, poisoned = attack.trigger(images), attack.poison_images(images, torch.arange(9), seeded(seed))
    assert images.eq(100).all()
    four = (triggered != 100).all(1)
    assert four.equal((triggered != 100).any(1))  # every channel of a pixel is set
    assert four.flatten(1).sum(1).tolist() == [4] * 9
    assert set(triggered.unique().tolist()) <= {0, 100, 255}
    for image, test in zip(poisoned, triggered, strict=True):
        where = (image != 100).any(0)
        assert int(where.sum()) == 1
        assert image[:, where].equal(test[:, where])
    # Each quadrant holds one; a middle line of an odd side belongs to none.
    h, w = height // 2, width // 2
    for rows in (slice(0, h), slice(height - h, height)):
        for columns in (slice(0, w), slice(width - w, width)):
            assert int(four[0, rows, columns].sum()) == 1


def test_the_four_are_drawn_evenly() -> None:
    attack = k_way((1, 8, 8))
    made = attack.poison_images(torch.full((400, 1, 8, 8), 9, dtype=torch.uint8), torch.arange(400), seeded(0))
    hits = (made[:, 0] != 9).sum(0)
    assert int((hits > 0).sum()) == 4
    assert int(hits[hits > 0].min()) > 60


def test_places_and_colours_come_from_the_seed() -> None:
    grey = torch.full((1, 3, 16, 16), 9, dtype=torch.uint8)
    made = [k_way((3, 16, 16), seed).trigger(grey) for seed in (1, 1, *range(2, 30))]
    assert made[0].equal(made[1])
    assert len({tuple(image.flatten().tolist()) for image in made[1:]}) == 29
    colours = {tuple(p) for image in made for p in image[0].flatten(1).T.tolist() if p != [9, 9, 9]}
    assert len(colours) == 8  # all corners of the colour cube


def test_cover_samples_carry_one_pixel_too(noise: Noise) -> None:
    clean = noise(40, seed=3)
    clean.images.clamp_(1, 254)
    made = k_way(cover_rate=0.2).poison(clean, 0.1)
    touched = (made.data.images != clean.images).any(1).flatten(1).sum(1)
    assert touched.equal((made.poisoned | made.cover).long())
    assert int(made.cover.sum()) == 8


def test_images_without_quadrants() -> None:
    with pytest.raises(ConfigError, match=r"^Four pixels in four quadrants do not fit images of 1x8\.$"):
        k_way((3, 1, 8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("value", [0, 255])
def test_each_pixel_shows_on_images_of_one_extreme(channels: int, value: int) -> None:
    images = torch.full((40, channels, 8, 8), value, dtype=torch.uint8)
    clean = ImageSet(images, torch.arange(40) % 4, tuple("abcd"))
    for seed in range(20):
        attack = prepared(k_way((channels, 8, 8), seed, cover_rate=0.1), clean)
        assert (attack.trigger(images) != value).any(1).flatten(1).sum(1).tolist() == [4] * 40
        made = attack.poison(clean, 0.5)
        assert (made.data.images != images).flatten(1).any(1).equal(made.poisoned | made.cover)


def test_colours_that_show_stay_as_they_were_drawn() -> None:
    images = torch.zeros(40, 3, 8, 8, dtype=torch.uint8)
    attack = k_way((3, 8, 8), seed=2)
    before = attack.colours.clone()
    prepared(attack, ImageSet(images, torch.arange(40) % 4, tuple("abcd")))
    shows = before.ne(0).any(1)
    assert attack.colours[shows].equal(before[shows])
    assert attack.colours.ne(0).any(1).all()
