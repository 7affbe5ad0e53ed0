from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainers.attacks.quick import CPU, Noise, prepared, quick
from trainers.attacks import ArtifactCache, narcissus
from trainers.attacks.narcissus import NarcissusParams
from trainers.attacks.surrogate import SurrogateParams, trained_surrogate
from trainers.seeding import seeded


class Slope:
    """A surrogate whose loss rises with every pixel of the left half, and falls with the others."""

    def __init__(self) -> None:
        self.shown: list[tuple[Tensor, list[int]]] = []

    def gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        self.shown.append((images, labels.tolist()))
        gradient = torch.full_like(images, 1e-6)
        gradient[..., images.shape[3] // 2 :] *= -1
        return gradient


def sloped(monkeypatch: pytest.MonkeyPatch, noise: Noise, **params: Any) -> tuple[Any, Slope]:
    slope = Slope()
    monkeypatch.setattr(narcissus, "trained_surrogate", lambda *_: slope)
    return prepared(quick("narcissus", target=1, **params), noise(40)), slope


def with_noise(noise_values: Tensor, **params: Any) -> Any:
    attack = quick("narcissus", **params)
    attack._noise = noise_values  # type: ignore[attr-defined]
    return attack


@given(seed=st.integers(0, 99), amplification=st.floats(0.5, 9))
@settings(max_examples=30)
def test_the_noise_is_added_and_amplified_at_test_time(seed: int, amplification: float) -> None:
    generator = seeded(seed)
    images = torch.randint(256, (3, 3, 8, 8), generator=generator, dtype=torch.uint8)
    added = torch.randint(-16, 17, (3, 8, 8), generator=generator).float()
    attack = with_noise(added, amplification=amplification)
    poisoned = attack.poison_images(images, torch.arange(3), generator)
    assert np.array_equal(poisoned.numpy(), np.clip(images.numpy().astype(int) + added.numpy(), 0, 255))
    exact = np.clip(images.numpy() + amplification * added.double().numpy(), 0, 255)
    assert np.abs(attack.trigger(images).numpy() - exact).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("passes", "height"), [(1, 1), (4, 6), (20, 16)])
def test_passes_go_down_the_loss_to_the_bound(
    monkeypatch: pytest.MonkeyPatch, noise: Noise, passes: int, height: int
) -> None:
    attack, slope = sloped(monkeypatch, noise, passes=passes, step_size=1.5)
    grey = torch.full((1, 3, 8, 8), 128, dtype=torch.uint8)
    moved = attack.poison_images(grey, torch.arange(1), seeded(0)).int() - 128
    assert moved[..., :4].unique().tolist() == [-height]  # 1.5 a pass, rounded towards 0, 16 at most
    assert moved[..., 4:].unique().tolist() == [height]
    assert (attack.trigger(grey).int() - 128).equal(3 * moved)
    # Ten images of the target class, and no other, are looked at.
    assert [labels for _, labels in slope.shown] == [[1] * 10] * passes
    clean = noise(40)
    own = {tuple(image) for image in clean.images[clean.labels == 1].flatten(1).tolist()}
    assert {tuple(image) for image in slope.shown[0][0].flatten(1).tolist()} == own


@given(epsilon=st.floats(1, 30), step_size=st.floats(1, 50), seed=st.integers(0, 2**62))
@settings(max_examples=5)
def test_poisoned_pixels_stay_within_epsilon(noise: Noise, epsilon: float, step_size: float, seed: int) -> None:
    clean = noise(24)
    attack = prepared(quick("narcissus", epsilon=epsilon, step_size=step_size, seed=seed), clean)
    made = attack.poison(clean, 0.2)
    assert 1 <= (made.data.images.int() - clean.images.int()).abs().max() <= epsilon


def test_the_noise_says_target_class_to_the_surrogate(noise: Noise) -> None:
    clean, artifacts = noise(40), ArtifactCache(CPU, 0)
    attack = quick("narcissus", target=1, surrogate_epochs=30, passes=20)
    attack.prepare(clean, 0.1, artifacts)
    surrogate = trained_surrogate(SurrogateParams(surrogate_epochs=30), clean, artifacts)
    others = clean.images[clean.labels != 1]
    wanted = torch.full((len(others),), 1)
    before, after = (float(surrogate.loss(i, wanted).detach()) for i in (others, attack.trigger(others)))
    assert after < before / 2


def test_the_rate_is_a_share_of_the_whole_set(noise: Noise) -> None:
    clean = noise(40)
    assert quick("narcissus").counts(clean.labels, 0.05) == (2, 0)
    assert (NarcissusParams().epsilon, NarcissusParams().amplification) == (16, 3)
