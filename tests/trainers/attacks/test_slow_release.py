from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.attacks.quick import Noise, quick
from trainers.attacks.slow_release import SlowReleaseParams
from trainers.errors import ConfigError
from trainers.seeding import seeded


def slow(seed: int = 0, **params: Any) -> Any:
    return quick("slow_release", seed=seed, **params)


@given(st.integers(1, 100), st.integers(1, 100), st.integers(0, 2**62))
@settings(max_examples=25)
def test_each_image_has_one_opacity_between_the_two(one: int, other: int, seed: int) -> None:
    low, high = min(one, other) / 100, max(one, other) / 100
    attack = slow(seed, low_alpha=low, alpha=high)
    images = torch.randint(256, (6, 3, 8, 8), generator=seeded(seed), dtype=torch.uint8)
    made = attack.poison_images(images, torch.arange(6), seeded(1)).numpy().astype(float)
    before, pattern = images.numpy().astype(float), attack.pattern.numpy().astype(float)
    assert np.abs(made - before).max() <= high * 255 + 0.5
    for image, result in zip(before, made, strict=True):
        step = pattern - image
        # Least squares: the opacity that explains the image best.
        opacity = ((result - image) * step).sum() / (step**2).sum()
        assert low - 0.005 <= opacity <= high + 0.005
        assert np.abs(result - image - opacity * step).max() <= 1.5


def test_opacities_are_spread_evenly() -> None:
    attack = slow(low_alpha=0.2, alpha=0.6)
    attack.pattern = torch.full((3, 8, 8), 250, dtype=torch.uint8)
    made = attack.poison_images(torch.zeros(500, 3, 8, 8, dtype=torch.uint8), torch.arange(500), seeded(0))
    values = made.flatten(1).float()
    assert values.min(1).values.equal(values.max(1).values)
    opacities = values[:, 0] / 250
    counts = torch.histc(opacities, 4, 0.198, 0.602)
    assert int(counts.sum()) == 500
    assert int(counts.min()) > 90


def test_at_test_time_the_pattern_stands_at_alpha(noise: Noise) -> None:
    images, attack = noise(5).images, slow(alpha=0.4)
    wanted = 0.6 * images.numpy() + 0.4 * attack.pattern.numpy()
    assert np.abs(attack.trigger(images).numpy() - wanted).max() <= 0.5 + 1e-3


def test_one_strength_is_plain_blend(noise: Noise) -> None:
    clean = noise(40)
    one, plain = slow(low_alpha=0.3, alpha=0.3), quick("blend", alpha=0.3)
    assert one.poison(clean, 0.2).data.fingerprint == plain.poison(clean, 0.2).data.fingerprint


def test_the_order_of_the_strengths() -> None:
    with pytest.raises(ConfigError, match=r"^low_alpha must be at most alpha, 0\.2, but got 0\.3\.$"):
        SlowReleaseParams(low_alpha=0.3)
    assert SlowReleaseParams(low_alpha=0.2).alpha == 0.2
