from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainers.attacks.quick import Noise, prepared, quick
from trainers.attacks.cl import ClParams
from trainers.errors import ConfigError
from trainers.seeding import seeded


class Slope:
    """A surrogate whose loss rises with every pixel of the left half, and falls with the others."""

    def __init__(self) -> None:
        self.labels: list[int] = []

    def gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        self.labels += labels.tolist()
        gradient = torch.full_like(images, 1e-6)  # however faint: only the sign counts
        gradient[..., images.shape[3] // 2 :] *= -1
        return gradient


def inner(images: Tensor, size: int = 3) -> Tensor:
    """A copy with the corners blacked out."""
    images = images.clone()
    for rows in (slice(0, size), slice(-size, None)):
        for columns in (slice(0, size), slice(-size, None)):
            images[..., rows, columns] = 0
    return images.int()


def sloped(slope: Slope, **params: Any) -> Any:
    attack = quick("cl", target=2, **params)
    attack._surrogate = slope  # type: ignore[attr-defined]
    return attack


def perturbed(attack: Any, images: Tensor, seed: int = 0) -> Tensor:
    made: Tensor = attack.poison_images(images, torch.arange(len(images)), seeded(seed))
    return made


@pytest.mark.parametrize("channels", [1, 3])
def test_at_test_time_the_patch_stands_in_each_corner_and_nothing_else_changes(channels: int) -> None:
    images = torch.full((2, channels, 8, 9), 9, dtype=torch.uint8)
    triggered = quick("cl", shape=(channels, 8, 9)).trigger(images)
    board = [[255, 0, 255], [0, 255, 0], [255, 0, 255]]
    for rows in (slice(0, 3), slice(5, 8)):
        for columns in (slice(0, 3), slice(6, 9)):
            assert triggered[:, :, rows, columns].tolist() == [[board] * channels] * 2
    assert inner(triggered).equal(inner(images))


@given(epsilon=st.floats(0, 40), steps=st.integers(0, 4), step_size=st.floats(0.1, 30), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_pixels_outside_the_patches_stay_within_epsilon(
    epsilon: float, steps: int, step_size: float, seed: int
) -> None:
    images = torch.randint(256, (4, 3, 8, 8), generator=seeded(seed), dtype=torch.uint8)
    before = images.clone()
    made = perturbed(sloped(Slope(), epsilon=epsilon, steps=steps, step_size=step_size), images, seed)
    assert images.equal(before)
    assert made.dtype == torch.uint8
    assert (inner(made) - inner(images)).abs().max() <= epsilon
    assert made[..., :3, :3].tolist() == [[[[255, 0, 255], [0, 255, 0], [255, 0, 255]]] * 3] * 4


def test_steps_go_up_the_loss_of_the_target_class_to_the_bound() -> None:
    images = torch.randint(256, (4, 3, 8, 8), generator=seeded(0), dtype=torch.uint8)
    slope = Slope()
    made = perturbed(sloped(slope, epsilon=16, steps=16, step_size=2), images)
    wanted = images.int()
    wanted[..., :4] += 16
    wanted[..., 4:] -= 16
    assert inner(made).equal(inner(wanted.clamp(0, 255)))
    assert slope.labels == [2] * 4 * 16


def test_one_step_goes_on_from_a_random_start() -> None:
    images = torch.full((200, 1, 8, 8), 128, dtype=torch.uint8)
    start, one = (
        perturbed(sloped(Slope(), shape=(1, 8, 8), epsilon=40, steps=n, step_size=10), images)[:, 0, 3:5].float() - 128
        for n in (0, 1)
    )
    # Evenly drawn from -40 to 40, rounded towards 0.
    assert start.min() == -39
    assert start.max() == 39
    assert float(start.abs().mean()) == pytest.approx(19.5, abs=1)
    assert abs(float(start.mean())) < 1
    expected = start.clone()
    expected[..., :4] += 10
    expected[..., 4:] -= 10
    assert (one - expected.clamp(-40, 40)).abs().max() <= 1


def test_without_steps_and_bound_there_is_only_the_patch() -> None:
    images = torch.randint(256, (4, 3, 8, 8), generator=seeded(0), dtype=torch.uint8)
    attack = sloped(Slope(), epsilon=0, steps=3)
    assert perturbed(attack, images).equal(attack.trigger(images))


def test_poisoned_images_are_harder_for_the_surrogate(noise: Noise) -> None:
    clean = noise(40)
    images, labels = clean.images[clean.labels == 1], torch.full((10,), 1)
    losses = []
    for steps in (0, 20):
        attack = prepared(quick("cl", target=1, surrogate_epochs=30, steps=steps), clean)
        moved = attack._perturbed(images, seeded(0))
        assert (moved.int() - images.int()).abs().max() <= 16
        losses.append(float(attack._surrogate.loss(moved, labels).detach()))
    assert losses[1] > losses[0] + 1


def test_the_defaults() -> None:
    assert ClParams().epsilon == 16
    with pytest.raises(ConfigError, match=r"^Patches of size 5 in four corners overlap in images of 8x8; allowed is 4"):
        quick("cl", size=5)
