import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from tests.trainers.data.images import random_images
from trainers.data.geometry import Affine, Boxes, draw_boxes, resized_crops, warped
from trainers.seeding import seeded


def boxes_of(*rows: tuple[int, int, int, int]) -> Boxes:
    return Boxes(*torch.tensor(rows, dtype=torch.float).unbind(1))


@given(st.data(), st.sampled_from([1, 3]), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
@settings(max_examples=30)
def test_resized_crops_against_torchvision(
    data: st.DataObject, channels: int, height: int, width: int, seed: int
) -> None:
    images = random_images(3, channels, height, width, seed)
    rows = []
    for _ in images:
        tall, wide = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
        rows.append((data.draw(st.integers(0, height - tall)), data.draw(st.integers(0, width - wide)), tall, wide))
    found = resized_crops(images, boxes_of(*rows))
    assert found.dtype == torch.uint8
    assert found.is_contiguous(memory_format=torch.channels_last)
    for image, row, view in zip(images, rows, found, strict=True):
        # Antialiasing must not matter; of images of width 1, torch resizes no height with it.
        expected = v2.functional.resized_crop(image.float(), *row, [height, width], antialias=width > 1)
        # The nearest whole number, where the exact value does not lie halfway between two.
        assert (view - expected).abs().max() < 0.51
    plain = resized_crops(images, boxes_of(*[(0, 0, height, width)] * 3))
    assert plain.equal(images)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 33), (1, 1), (2, 9)])
@pytest.mark.parametrize("area", [(0.08, 1.0), (0.5, 0.5), (1.0, 1.0)])
def test_boxes_have_the_area_and_the_ratio_that_is_allowed(height: int, width: int, area: tuple[float, float]) -> None:
    boxes = draw_boxes(random_images(500, 1, height, width), area, seeded(0))
    top, left, tall, wide = (value.numpy() for value in boxes)
    assert all((value == np.round(value)).all() for value in (top, left, tall, wide))
    assert (tall >= 1).all()
    assert (wide >= 1).all()
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + tall <= height).all()
    assert (left + wide <= width).all()
    if (height, width) == (32, 32):
        # Sides are rounded to whole pixels: half a pixel of each either way.
        assert ((tall + 0.5) * (wide + 0.5) >= area[0] * 1024).all()
        assert ((tall - 0.5) * (wide - 0.5) <= area[1] * 1024).all()
        assert ((wide + 0.5) / (tall - 0.5) >= 3 / 4).all()
        assert ((wide - 0.5) / (tall + 0.5) <= 4 / 3).all()


def test_boxes_are_distributed_as_those_of_torchvision() -> None:
    shape, area, count = (24, 32), (0.1, 0.9), 3000
    theirs = v2.RandomResizedCrop(shape, area)
    some = torch.zeros(1, *shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [theirs.make_params([some]) for _ in range(count)]
    boxes = draw_boxes(some.expand(count, 1, -1, -1), area, seeded(0))
    for key, found in boxes._asdict().items():
        expected = np.array([float(one[key]) for one in drawn])
        deviation = math.sqrt(2) * expected.std() / math.sqrt(count)
        assert abs(float(found.mean()) - expected.mean()) < 5 * deviation, key
        assert float(found.std()) == pytest.approx(expected.std(), rel=0.08), key


@pytest.mark.parametrize("shape", [(4, 40), (40, 4), (5, 31)])
def test_where_no_box_fits_it_is_the_one_of_torchvision_at_the_centre(shape: tuple[int, int]) -> None:
    expected = v2.RandomResizedCrop(shape, (1.0, 1.0)).make_params([torch.zeros(1, *shape)])
    boxes = draw_boxes(torch.zeros(2, 1, *shape), (1.0, 1.0), seeded(0))
    assert [value.tolist() for value in boxes] == [2 * [expected[key]] for key in Boxes._fields]


def affine(count: int, **values: float) -> Affine:
    return Affine(*(torch.full((count,), values.get(name, 0.0)) for name in Affine._fields))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(-4, 4), st.integers(-4, 4))
@settings(max_examples=30)
def test_translations_by_whole_pixels_are_shifts(height: int, width: int, right: int, down: int) -> None:
    images = random_images(2, 3, height, width)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)))
    expected = padded[..., 4 - down : 4 - down + height, 4 - right : 4 - right + width]
    assert np.array_equal(warped(images, affine(2, a1=-right, b1=-down)).numpy(), expected)
    assert warped(images, affine(2)).equal(images)


@pytest.mark.parametrize("size", [1, 4, 7])
def test_a_quarter_turn(size: int) -> None:
    images = random_images(2, 3, size, size)
    # x' = -y, y' = x: the pixel to the right of the centre is seen below it.
    found = warped(images, affine(2, ax=-1, ay=-1, bx=1, by=-1))
    assert found.equal(torch.rot90(images, 1, (2, 3)))


def test_a_large_image_that_is_not_moved_stays_as_it_is() -> None:
    images = random_images(1, 3, 384, 380)
    assert warped(images, affine(1)).equal(images)
    assert resized_crops(images, boxes_of((0, 0, 384, 380))).equal(images)
