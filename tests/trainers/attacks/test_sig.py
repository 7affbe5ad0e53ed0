import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.attacks.quick import Noise, quick
from trainers.attacks.sig import SigParams
from trainers.errors import ConfigError


@given(
    width=st.integers(3, 16),
    height=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    frequency=st.integers(1, 7),
    delta=st.floats(1, 255),
    seed=st.integers(0, 99),
)
@settings(max_examples=50)
def test_the_wave_is_added_to_every_row(
    width: int, height: int, channels: int, frequency: int, delta: float, seed: int
) -> None:
    if frequency >= width / 2:
        message = rf"^frequency must be below half the width of the images \({width} pixels\), but got {frequency}\.$"
        with pytest.raises(ConfigError, match=message):
            quick("sig", shape=(channels, height, width), frequency=frequency, delta=delta)
        return
    attack = quick("sig", shape=(channels, height, width), frequency=frequency, delta=delta)
    images = np.random.default_rng(seed).integers(0, 256, (2, channels, height, width), dtype=np.uint8)
    got = attack.trigger(torch.from_numpy(images)).numpy()
    wave = delta * np.sin(2 * np.pi * np.arange(width) * frequency / width)
    wanted = np.clip(images + wave, 0, 255)
    assert np.abs(got - wanted).max() <= 0.5 + 1e-3


def test_the_defaults_by_hand() -> None:
    # Of 24 columns with 6 periods, each fourth is at 0, at 20, at 0 and at -20.
    images = torch.full((1, 1, 1, 24), 100, dtype=torch.uint8)
    assert quick("sig", shape=(1, 1, 24), frequency=6).trigger(images).flatten().tolist() == [100, 120, 100, 80] * 6
    assert SigParams().as_dict() == {"delta": 20.0, "frequency": 6}
    bright = torch.full((1, 1, 1, 24), 250, dtype=torch.uint8)
    assert quick("sig", shape=(1, 1, 24), frequency=6).trigger(bright).flatten().tolist() == [250, 255, 250, 230] * 6


def test_half_the_width_would_be_no_wave_at_all() -> None:
    assert np.abs(np.sin(2 * np.pi * np.arange(12) * 6 / 12)).max() < 1e-12
    with pytest.raises(
        ConfigError, match=r"frequency must be below half the width of the images \(12 pixels\), but got 6"
    ):
        quick("sig", shape=(1, 12, 12), frequency=6)
    quick("sig", shape=(1, 12, 13), frequency=6)


def test_poison_carries_the_trigger_of_the_test(noise: Noise) -> None:
    clean, attack = noise(40), quick("sig", target=3)
    made = attack.poison(clean, 0.5)
    assert clean.labels[made.poisoned].tolist() == [3] * 5  # half of the target class's ten
    assert made.data.images[made.poisoned].equal(attack.trigger(clean.images[made.poisoned]))
