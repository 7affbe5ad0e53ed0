import json
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.trainers.data.images import assert_same_bits, plainly_normalised, random_images
from tests.trainers.devices import DEVICES
from tests.trainers.waits import counted, counted_on_cuda
from trainers.data.augmentation import Augmentation, augment, cutout
from trainers.data.batches import Normalizer
from trainers.data.rand_augment import operated
from trainers.errors import ConfigError
from trainers.seeding import seeded


def possible_views(image: torch.Tensor, crop: int, flip: bool) -> list[bytes]:
    """Every crop of the padded image, and its mirror image: uint8 (C, H, W) each, one by one."""
    pixels = image.numpy()
    channels, height, width = pixels.shape
    padded = np.zeros((channels, height + 2 * crop, width + 2 * crop), dtype=np.uint8)
    padded[:, crop : crop + height, crop : crop + width] = pixels
    views = []
    for top in range(2 * crop + 1):
        for left in range(2 * crop + 1):
            view = padded[:, top : top + height, left : left + width]
            views.append(view.tobytes())
            if flip:
                views.append(view[:, :, ::-1].tobytes())
    return views


def pixels_of(images: torch.Tensor) -> list[bytes]:
    return [image.contiguous().numpy().tobytes() for image in images]


@given(
    st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 7), st.integers(1, 7), st.integers(0, 4), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40)
def test_every_view_is_a_crop_of_its_own_image(
    count: int, channels: int, height: int, width: int, crop: int, flip: bool, seed: int
) -> None:
    images = random_images(count, channels, height, width)
    before = images.clone()
    views = augment(images, Augmentation(crop=crop, flip=flip), seeded(seed))
    assert views.dtype == torch.uint8
    assert views.shape == images.shape
    for image, view in zip(images, pixels_of(views), strict=True):
        assert view in possible_views(image, crop, flip)
    assert images.equal(before)


def plainly_augmented(images: torch.Tensor, how: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """The draws and the crop, by indexing: uint8 (N, C, H, W), channels last."""
    count, _, height, width = images.shape
    rows, columns = (torch.arange(length, device=images.device).expand(count, -1) for length in (height, width))
    if how.flip:
        flipped = torch.rand(count, device=images.device, generator=generator) < 0.5
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
    if how.crop:
        images = functional.pad(images, (how.crop,) * 4)
        shift = torch.randint(2 * how.crop + 1, (2, count, 1), device=images.device, generator=generator)
        rows, columns = rows + shift[0], columns + shift[1]
    sample = torch.arange(count, device=images.device)[:, None, None]
    return images[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@given(
    st.integers(0, 5), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.booleans(),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
@example(count=1, channels=1, height=1, width=1, crop=3, flip=True, channels_last=False, seed=0)
@example(count=1, channels=3, height=15, width=13, crop=2, flip=True, channels_last=False, seed=0)
@example(count=4, channels=3, height=32, width=32, crop=4, flip=True, channels_last=True, seed=0)
@settings(max_examples=60)
@pytest.mark.parametrize("device", DEVICES)
def test_views_have_the_bits_and_the_draws_of_the_plain_formulas(
    device: str, count: int, channels: int, height: int, width: int, crop: int, flip: bool, channels_last: bool,
    seed: int,
) -> None:  # fmt: skip
    images = random_images(count, channels, height, width, seed).to(device)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    how, here, there = Augmentation(crop, flip), seeded(seed, images.device), seeded(seed, images.device)
    normalise = Normalizer.fit(random_images(3, channels, 5, 5).to(device))
    for _ in range(2):
        found = normalise(augment(images, how, here))
        expected = plainly_augmented(images, how, there)
        assert_same_bits(found, plainly_normalised(expected, normalise.mean, normalise.std))
        assert here.get_state().equal(there.get_state())


@pytest.mark.parametrize(("crop", "flip", "possible"), [(1, True, 18), (1, False, 9), (0, True, 2)])
def test_every_possible_view_comes_up_about_as_often(crop: int, flip: bool, possible: int) -> None:
    image = random_images(1, 3, 5, 4)
    views = pixels_of(augment(image.expand(3600, -1, -1, -1), Augmentation(crop=crop, flip=flip), seeded(0)))
    every = possible_views(image[0], crop, flip)
    assert len(set(every)) == possible
    counts = np.array([views.count(view) for view in every])
    mean = 3600 / possible
    assert (np.abs(counts - mean) < 5 * np.sqrt(mean)).all()


def test_each_image_has_a_draw_of_its_own() -> None:
    image = random_images(1, 3, 8, 8)
    views = pixels_of(augment(image.expand(50, -1, -1, -1), Augmentation(), seeded(0)))
    assert len(set(views)) > 25


def test_the_generator_decides() -> None:
    images = random_images(6, 3, 8, 8)
    one, again, other = (augment(images, Augmentation(), seeded(seed)) for seed in (1, 1, 2))
    assert one.equal(again)
    assert not one.equal(other)


def test_no_augmentation_changes_nothing_and_draws_nothing() -> None:
    images, generator = random_images(4, 3, 8, 8), seeded(0)
    before = generator.get_state()
    assert augment(images, Augmentation(crop=0, flip=False), generator).equal(images)
    assert generator.get_state().equal(before)


def test_views_are_channels_last_in_memory() -> None:
    # Normalisation would otherwise copy each batch once more.
    views = augment(random_images(4, 3, 8, 6), Augmentation(), seeded(0))
    assert views.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_cutout_blackens_a_square_around_any_pixel(size: int) -> None:
    images = torch.full((3000, 3, 5, 4), 9, dtype=torch.uint8)
    cut = cutout(images, size, seeded(0))
    assert cut.dtype == torch.uint8
    assert images.eq(9).all()
    found = [view.tobytes() for view in cut.numpy()]
    possible = []
    for row in range(5):
        for column in range(4):
            view = np.full((3, 5, 4), 9, dtype=np.uint8)
            top, left = row - size // 2, column - size // 2
            view[:, max(top, 0) : top + size, max(left, 0) : left + size] = 0
            possible.append(view.tobytes())
    assert set(found) <= set(possible)
    for view in set(possible):
        expected = 3000 * possible.count(view) / 20
        assert abs(found.count(view) - expected) < 5 * np.sqrt(expected)


def test_no_cutout_changes_nothing_and_draws_nothing() -> None:
    images, generator = random_images(4, 3, 8, 8), seeded(0)
    before = generator.get_state()
    assert cutout(images, 0, generator).equal(images)
    assert generator.get_state().equal(before)


ALL = Augmentation(resized_crop=(0.2, 1.0), randaugment=2, magnitude=20)


@given(
    st.integers(0, 5), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 30), st.integers(0, 99),
)  # fmt: skip
@example(count=1, channels=1, height=1, width=1, magnitude=30, seed=0)
@example(count=4, channels=3, height=32, width=32, magnitude=9, seed=0)
@settings(max_examples=30)
def test_views_of_any_size(count: int, channels: int, height: int, width: int, magnitude: int, seed: int) -> None:
    images = random_images(count, channels, height, width, seed)
    before = images.clone()
    how = Augmentation(resized_crop=(0.08, 1), randaugment=3, magnitude=magnitude)
    one, again = (augment(images, how, seeded(seed)) for _ in range(2))
    assert one.dtype == torch.uint8
    assert one.shape == images.shape
    assert one.is_contiguous(memory_format=torch.channels_last)
    assert one.equal(again)
    assert images.equal(before)


@pytest.mark.parametrize("how", [ALL, Augmentation(0, False, resized_crop=(0.2, 1)), Augmentation(0, randaugment=1)])
def test_each_image_has_draws_of_its_own_by_the_generator(how: Augmentation) -> None:
    images = random_images(1, 3, 16, 16).expand(50, -1, -1, -1)
    one, other = (augment(images, how, seeded(seed)) for seed in (1, 2))
    assert not one.equal(other)
    assert len(set(pixels_of(one))) > (15 if how.resized_crop is None else 40)


def test_a_resized_crop_takes_the_place_of_a_crop() -> None:
    images = random_images(4, 3, 8, 8)
    views = [augment(images, Augmentation(crop, resized_crop=(0.2, 0.5)), seeded(0)) for crop in (0, 4)]
    assert views[0].equal(views[1])


def test_the_whole_image_as_the_only_crop_is_the_image_or_its_mirror() -> None:
    images = random_images(40, 3, 12, 12)
    plain = augment(images, Augmentation(resized_crop=(1, 1), flip=False), seeded(0))
    for image, view in zip(images, plain, strict=True):
        # A ratio other than 1 does not fit, unless it is rounded to it.
        assert view.equal(image)


@pytest.mark.parametrize("device", DEVICES)
def test_no_view_waits_for_the_device(device: str) -> None:
    images, generator = random_images(8, 3, 16, 16).to(device), seeded(0, device)
    augment(images, ALL, generator)  # the first use of a kernel may wait
    if device == "cuda":
        with counted_on_cuda() as warned:
            augment(images, ALL, generator)
        assert not warned
    with counted() as waits:
        augment(images, ALL, generator)
    assert not waits.counts


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_operations_on_a_card_are_those_on_a_cpu() -> None:
    images = random_images(28, 3, 24, 20)
    drawn, upward = torch.arange(28) % 14, torch.arange(28) < 14
    found = operated(images.cuda(), drawn.cuda(), upward.cuda(), 17).cpu()
    assert (found.int() - operated(images, drawn, upward, 17).int()).abs().max() <= 1


def test_what_is_not_used_leaves_keys_as_they_were() -> None:
    assert Augmentation(crop=4, flip=True).changed() == {}
    assert Augmentation(crop=2, flip=False).changed() == {"crop": 2, "flip": False}
    assert Augmentation(resized_crop=[0.5, 1]).changed() == {"resized_crop": (0.5, 1.0)}
    assert Augmentation(**json.loads(json.dumps(ALL.as_dict()))) == ALL
    assert Augmentation(**yaml.safe_load(yaml.safe_dump(ALL.as_dict()))) == ALL


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resized_crop": [0.5]}, r"resized_crop must be the smallest and the largest share .* but got \[0\.5\]"),
        (
            {"resized_crop": [1, 0.5]},
            r"resized_crop must be .* e\.g\. \[0\.08, 1\] \(or null\), but got \[1\.0, 0\.5\]",
        ),
        ({"resized_crop": 0.5}, "resized_crop must be a list above 0 and at most 1"),
        ({"resized_crop": [0, 1]}, "resized_crop must be a number above 0 and at most 1, but got 0"),
        ({"randaugment": -1}, "randaugment must be a whole number at least 0, but got -1"),
        ({"randaugment": True}, "randaugment must be a whole number"),
        ({"magnitude": 31}, "magnitude must be a whole number at least 0 and at most 30, but got 31"),
        ({"magnitude": 9.5}, "magnitude must be a whole number"),
    ],
)
def test_bad_values(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Augmentation(**fields)
