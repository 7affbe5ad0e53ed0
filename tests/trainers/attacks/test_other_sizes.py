"""Every attack at 32 pixels, where its trigger is defined, and in larger images, where it is enlarged."""

import hashlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainers.attacks.quick import MAY_COVER, MUST_COVER, TRAINED, prepared, quick
from trainers.attacks import ATTACKS
from trainers.attacks.dynamic import Generator
from trainers.data import ImageSet
from trainers.seeding import seeded

LARGE = ((64, 2), (224, 7))
"""Sides of images, and by what triggers for 32x32 are enlarged there."""
AT_32 = {
    "badnets": "2da39b64ab147bad",
    "blend": "fb8f0c0f29503d80",
    "adaptive_blend": "7b84935f8b63394b",
    "adaptive_patch": "7fd8e2311a386e30",
    "adaptive_k_way": "3602b7285bd9a6b4",
    "tact": "ac67c4b529187438",
    "laundry": "e4d0563428c26717",
    "slow_release": "c0bbcc4220e77dc4",
}
"""First digits of the SHA-256 of triggered images, poisoned images and labels, from before triggers were enlarged.
Waves, warps and what is trained depend on a processor's rounding: their own tests hold their formulas."""


def attack_at(name: str, side: int, **params: Any) -> Any:
    return quick(name, shape=(3, side, side), seed=5, **({"frequency": 6} if name == "sig" else {}), **params)


def random_set(side: int, count: int = 60) -> ImageSet:
    images = torch.randint(256, (count, 3, side, side), generator=seeded(7), dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 4, tuple("abcd"))


def grey(side: int, count: int = 1, value: int = 120) -> Tensor:
    return torch.full((count, 3, side, side), value, dtype=torch.uint8)


@pytest.mark.parametrize("name", AT_32)
def test_at_32_pixels_the_bytes_are_those_of_earlier_versions(name: str) -> None:
    clean = random_set(32)
    attack = attack_at(name, 32, **({"cover_rate": 0.2} if name in MUST_COVER else {}))
    made = attack.poison(clean, 0.2).data
    digest = hashlib.sha256()
    for tensor in (attack.trigger(clean.images), made.images, made.labels):
        digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest()[:16] == AT_32[name]


@pytest.mark.parametrize(("side", "factor"), LARGE)
@pytest.mark.parametrize("name", ["badnets", "tact", "cl", "blend", "laundry", "adaptive_patch", "adaptive_k_way"])
def test_a_trigger_of_pixels_is_that_of_32_enlarged(name: str, side: int, factor: int) -> None:
    small, large = (attack_at(name, s).trigger(grey(s)).numpy() for s in (32, side))
    assert (small != 120).any()
    assert np.array_equal(large, small.repeat(factor, 2).repeat(factor, 3))


@pytest.mark.parametrize(("side", "factor"), LARGE)
@pytest.mark.parametrize("name", ["adaptive_blend", "adaptive_patch", "adaptive_k_way", "slow_release"])
def test_what_training_images_show_is_that_of_32_enlarged(name: str, side: int, factor: int) -> None:
    small, large = (
        attack_at(name, s).poison_images(grey(s, 12), torch.arange(12), seeded(3)).numpy() for s in (32, side)
    )
    assert np.array_equal(large, small.repeat(factor, 2).repeat(factor, 3))


@pytest.mark.parametrize("side", [64, 224])
def test_a_wave_has_as_many_periods_whatever_the_size(side: int) -> None:
    row = attack_at("sig", side).trigger(grey(side))[0, 0, 0].double() - 120
    strength = torch.fft.rfft(row).abs() / (side / 2)
    assert int(strength.argmax()) == 6
    assert float(strength[6]) == pytest.approx(20, abs=0.2)


@pytest.mark.parametrize("side", [64, 224])
def test_a_warp_moves_the_same_share_of_the_image(side: int) -> None:
    # The corners of the image are control points at any size.
    small, large = (attack_at("wanet", s).flow for s in (32, side))
    for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert torch.allclose(small[i, j], large[i, j], atol=1e-6)
    assert float(large.abs().mean()) == pytest.approx(float(small.abs().mean()), rel=0.1)


@pytest.mark.parametrize(("side", "factor"), LARGE)
def test_the_noise_of_warped_covers_comes_in_squares_and_reaches_as_far(side: int, factor: int) -> None:
    # A ramp of whole steps says how far across each pixel was read: half the width is 1 in grid coordinates.
    step = 255 // (side - 1)
    ramp = (step * torch.arange(side)).to(torch.uint8).expand(4, 1, side, side)
    attack = quick("wanet", shape=(1, side, side), strength=1e-6)
    moved = attack.cover_images(ramp, torch.arange(4), seeded(0)).double() - ramp.double()
    inner = moved[..., factor:-factor, factor:-factor]
    reach = step * (side - 1) / 2 / 32
    assert float(inner.abs().max()) == pytest.approx(reach, abs=0.5)
    squares = inner.unfold(2, factor, factor).unfold(3, factor, factor).flatten(4)
    spread = squares.amax(4) - squares.amin(4)
    assert float(spread.max()) <= 1  # rounding
    assert float(squares.mean(4).std()) > reach / 3


@pytest.mark.parametrize(("side", "factor"), LARGE)
def test_generators_see_averages_and_what_they_make_is_enlarged(side: int, factor: int) -> None:
    images = torch.rand(2, 3, side, side, generator=seeded(1))
    plain, large = Generator(3, 3), Generator(3, 3, factor)
    large.load_state_dict(plain.state_dict())
    averages = images.reshape(2, 3, 32, factor, 32, factor).mean((3, 5))
    made, wanted = large(images), plain(averages)
    assert torch.allclose(made, functional.interpolate(wanted, scale_factor=factor, mode="nearest"), atol=1e-5)


def test_generators_cover_images_that_are_no_multiple_of_32() -> None:
    attack: Any = quick("dynamic", shape=(3, 70, 75))
    images = torch.randint(256, (2, 3, 70, 75), generator=seeded(1), dtype=torch.uint8)
    attack._mask, attack._pattern = attack._generators(0)
    assert attack.trigger(images).shape == images.shape


# Those left out train long; they are Blend, and the generators above.
@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in ("dynamic", "entropy_aware")])
def test_attacks_poison_images_of_64_pixels(name: str) -> None:
    clean = random_set(64, 24)
    params = {"cover_rate": 0.2} if name in (*MUST_COVER, *MAY_COVER) else {}
    made = prepared(attack_at(name, 64, **TRAINED.get(name, {}), **params), clean).poison(clean, 0.2)
    differ = (made.data.images != clean.images).flatten(1).any(1)
    assert differ.equal(made.poisoned | made.cover)


@pytest.mark.parametrize("side", [64, 224])
def test_adaptive_patches_are_a_quarter_wide(side: int) -> None:
    changed = (attack_at("adaptive_patch", side).trigger(grey(side)) != 120).any(1)[0]
    columns = changed.any(0).nonzero().flatten().tolist()
    assert (columns[0], columns[-1] + 1) == (0, side // 4)
    rows = changed.any(1).nonzero().flatten().tolist()
    assert [b for a, b in pairwise(rows) if b > a + 1] == [side - side // 4]
