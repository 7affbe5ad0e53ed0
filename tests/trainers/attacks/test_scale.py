import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.attacks.scale import covering, enlarged, enlargement, random_pixels
from trainers.seeding import seeded

FACTORS = {1: 1, 16: 1, 28: 1, 32: 1, 47: 1, 48: 2, 64: 2, 79: 2, 80: 3, 96: 3, 160: 5, 224: 7, 256: 8, 384: 12}


@pytest.mark.parametrize(("side", "factor"), FACTORS.items())
def test_the_factor_is_a_32nd_of_the_shorter_side(side: int, factor: int) -> None:
    assert enlargement((3, side, side)) == factor
    assert enlargement((1, side, side + 100)) == enlargement((1, side + 100, side)) == factor


@given(st.integers(48, 2000))
def test_a_trigger_keeps_its_share_of_the_side_within_a_third(side: int) -> None:
    assert 0.75 <= enlargement((3, side, side)) * 32 / side <= 4 / 3


def test_every_value_becomes_a_square() -> None:
    assert enlarged(torch.tensor([[[1, 2]]]), 2).tolist() == [[[1, 1, 2, 2], [1, 1, 2, 2]]]
    values = torch.rand(2, 3, 4, 5)
    assert enlarged(values, 1).equal(values)


@pytest.mark.parametrize("side", [16, 32, 47])
def test_random_pixels_of_small_images_are_drawn_one_by_one(side: int) -> None:
    shape = (3, side, side)
    assert random_pixels(shape, seeded(5)).equal(torch.randint(256, shape, generator=seeded(5), dtype=torch.uint8))


@pytest.mark.parametrize(("height", "width", "factor"), [(64, 64, 2), (224, 224, 7), (70, 75, 2), (225, 230, 7)])
def test_random_pixels_of_large_images_are_squares(height: int, width: int, factor: int) -> None:
    pixels = random_pixels((3, height, width), seeded(1))
    assert (pixels.shape, pixels.dtype) == ((3, height, width), torch.uint8)
    rows, columns = covering((3, height, width))
    drawn = torch.randint(256, (3, rows, columns), generator=seeded(1), dtype=torch.uint8)
    for i in (0, 1, factor, height // 2, height - 1):
        for j in (0, factor - 1, factor, width // 3, width - 1):
            assert pixels[:, i, j].equal(drawn[:, i // factor, j // factor])
