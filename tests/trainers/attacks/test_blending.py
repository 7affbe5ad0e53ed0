from fractions import Fraction

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.attacks.blending import blend, to_pixels
from trainers.seeding import seeded


def test_pixels_are_rounded_to_even_and_clipped() -> None:
    values = [-900.0, -0.6, -0.5, 0.5, 1.5, 2.5, 2.51, 254.5, 254.51, 255.5, 256.0, 1e6]
    pixels = to_pixels(torch.tensor(values))
    assert pixels.dtype == torch.uint8
    assert pixels.tolist() == [0, 0, 0, 0, 2, 2, 3, 254, 255, 255, 255, 255]


def test_every_pixel_value_survives() -> None:
    assert to_pixels(torch.arange(256).float()).tolist() == list(range(256))


@given(st.lists(st.integers(0, 100), min_size=1, max_size=4), st.integers(0, 2**62))
@settings(max_examples=25)
def test_each_image_has_its_own_opacity(percents: list[int], seed: int) -> None:
    generator = seeded(seed)
    images = torch.randint(256, (len(percents), 3, 2, 4), generator=generator, dtype=torch.uint8)
    pattern = torch.randint(256, (3, 2, 4), generator=generator, dtype=torch.uint8)
    before = images.clone(), pattern.clone()
    blended = blend(images, pattern, torch.tensor(percents)[:, None, None, None] / 100)
    assert (images.equal(before[0]), pattern.equal(before[1])) == (True, True)
    assert blended.dtype == torch.uint8
    for image, percent, result in zip(images, percents, blended, strict=True):
        share = Fraction(percent, 100)
        for x, p, got in zip(*(t.flatten().tolist() for t in (image, pattern, result)), strict=True):
            assert abs((1 - share) * x + share * p - got) <= Fraction(1, 2) + Fraction(1, 10000)


def test_each_pixel_may_have_an_opacity() -> None:
    images = torch.full((1, 3, 1, 3), 100, dtype=torch.uint8)
    blended = blend(images, torch.full((3, 1, 3), 200, dtype=torch.uint8), torch.tensor([[0.0, 0.25, 1.0]]))
    assert blended.tolist() == [[[[100, 125, 200]]] * 3]
    assert blend(images, torch.zeros(3, 1, 3, dtype=torch.uint8), 0.5).unique().tolist() == [50]
