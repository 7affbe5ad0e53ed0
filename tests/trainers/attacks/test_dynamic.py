from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.trainers.attacks.quick import CPU, Noise, prepared, quick
from trainers.attacks import ArtifactCache
from trainers.attacks.dynamic import DynamicParams, Generator, diversity_loss
from trainers.data import ImageSet
from trainers.errors import ConfigError
from trainers.seeding import seeded


class Told(nn.Module):
    """A generator by formula."""

    def __init__(self, formula: Callable[[Tensor], Tensor]):
        super().__init__()
        self.formula = formula

    def forward(self, images: Tensor) -> Tensor:
        return self.formula(images)


def told(donors: Tensor) -> Any:
    attack = quick("dynamic", shape=(3, 8, 8))
    attack._mask = Told(lambda x: x[:, :1] - 0.3)  # type: ignore[attr-defined]
    attack._pattern = Told(lambda x: 4 * x.flip(3) - 2)  # type: ignore[attr-defined]
    attack._donors = donors  # type: ignore[attr-defined]
    return attack


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1 / (1 + np.exp(-values))
    return result


def composite(image: Tensor, donor: Tensor) -> NDArray[np.float64]:
    """``x + m (p - x)``, with mask and pattern of the donor: (C, H, W) each."""
    x, d = image.numpy().astype(float), donor.numpy() / 255
    mask, pattern = sigmoid(10 * (d[:1] - 0.3)), 255 * sigmoid(4 * d[:, :, ::-1] - 2)
    result: NDArray[np.float64] = x + mask * (pattern - x)
    return result


def explained(made: Tensor, image: Tensor, donor: Tensor) -> bool:
    return bool(np.abs(made.numpy() - composite(image, donor)).max() <= 0.5 + 1e-3)


def test_at_test_time_each_image_gets_its_own_trigger_by_formula(noise: Noise) -> None:
    clean = noise(6)
    triggered = told(clean.images).trigger(clean.images)
    for image, made in zip(clean.images, triggered, strict=True):
        assert explained(made, image, image)


def test_more_images_than_a_chunk(noise: Noise) -> None:
    images = noise(1001, size=4, channels=3).images
    triggered = told(images).trigger(images)
    assert len(triggered) == 1001
    assert explained(triggered[1000], images[1000], images[1000])


def test_cover_samples_carry_the_trigger_of_another_image(noise: Noise) -> None:
    clean = noise(12)
    attack = told(clean.images)
    for seed in range(10):
        attack.seed = seed
        made = attack.poison(clean, 0.2)
        (i,) = made.cover.nonzero().flatten().tolist()  # a tenth of twelve
        donors = [j for j in range(12) if explained(made.data.images[i], clean.images[i], clean.images[j])]
        assert len(donors) == 1
        assert donors != [i]
        assert made.data.labels[i] == clean.labels[i]


def test_every_other_image_may_be_the_donor(noise: Noise) -> None:
    images = noise(4).images
    attack, seen = told(images), set()
    for seed in range(40):
        made = attack.cover_images(images[2:3], torch.tensor([2]), seeded(seed))[0]
        seen |= {j for j in range(4) if explained(made, images[2], images[j])}
    assert seen == {0, 1, 3}


def test_the_diversity_loss_by_hand() -> None:
    images = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]).view(2, 1, 2, 2)
    made = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.2, 0.2, 0.2, 0.6]]).view(2, 1, 2, 2)
    # Root mean squares: sqrt(2 / 4) between the images, sqrt(0.16 / 4) = 0.2 between what is made of them.
    loss = diversity_loss(images, images.roll(1, 0), made, made.roll(1, 0))
    assert float(loss) == pytest.approx(np.sqrt(0.5) / (0.2 + 1e-4), rel=1e-5)


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**62))
@settings(max_examples=25)
def test_the_diversity_loss_by_formula(count: int, channels: int, seed: int) -> None:
    generator = seeded(seed)
    images, others = (torch.rand(count, channels, 4, 5, generator=generator) for _ in range(2))
    made, others_made = (torch.rand(count, 1, 4, 5, generator=generator) for _ in range(2))
    quotients = [
        np.sqrt(((a - b).double().numpy() ** 2).mean()) / (np.sqrt(((c - d).double().numpy() ** 2).mean()) + 1e-4)
        for a, b, c, d in zip(images, others, made, others_made, strict=True)
    ]
    assert float(diversity_loss(images, others, made, others_made)) == pytest.approx(np.mean(quotients), rel=1e-4)


def test_images_that_occur_twice_do_not_spoil_the_generators(noise: Noise) -> None:
    # The root's slope is infinite at 0, and infinity times 0 would be NaN.
    once = noise(2)
    clean = ImageSet(once.images[:1].repeat(20, 1, 1, 1), torch.arange(20) % 2, once.class_names)
    attack = prepared(quick("dynamic"), clean)
    for module in (attack._mask, attack._pattern):
        assert all(weight.isfinite().all() for weight in module.state_dict().values())


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 7), (9, 6), (14, 14)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_generators_take_any_size(height: int, width: int, outputs: int) -> None:
    images = torch.rand(2, 3, height, width, generator=seeded(0))
    assert Generator(3, outputs)(images).shape == (2, outputs, height, width)


def test_images_that_are_too_small() -> None:
    with pytest.raises(ConfigError, match=r"^dynamic needs images of 4x4 pixels or more, but these are 3x8\.$"):
        quick("dynamic", shape=(3, 3, 8))


def density(attack: Any, images: Tensor) -> float:
    with torch.no_grad():
        return float(torch.sigmoid(10 * attack._mask(images.float() / 255)).mean())


def test_the_mask_learns_to_be_sparse_and_the_pattern_to_differ(noise: Noise) -> None:
    clean = noise(40)
    dense, sparse = (prepared(quick("dynamic", density_weight=w, mask_epochs=60), clean) for w in (0.0, 100.0))
    assert density(sparse, clean.images) < min(0.1, density(dense, clean.images) / 2)
    patterns = [sparse.trigger(clean.images[i : i + 1]).int() - clean.images[i : i + 1].int() for i in range(5)]
    assert all(not patterns[i].equal(patterns[j]) for i in range(5) for j in range(i))


class OneSeed(ArtifactCache):
    def made(self, what: str, parts: list[Any], make: Callable[[int], dict[str, Tensor]]) -> dict[str, Tensor]:
        return make(5)


def test_training_follows_the_target(noise: Noise, tmp_path: Path) -> None:
    clean, triggered = noise(24), []
    for target in (0, 0, 1, None):
        attack = quick("dynamic", target)
        # A step takes as many of a batch for itself: with one seed only their labels differ.
        attack.prepare(clean, 0.2, OneSeed(CPU, 0))
        triggered.append(attack.trigger(clean.images))
        attack.prepare(clean, 0.2, ArtifactCache(CPU, 0, tmp_path))
    assert triggered[0].equal(triggered[1])
    assert not triggered[0].equal(triggered[2])
    assert not triggered[0].equal(triggered[3])
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_bad_parameters() -> None:
    assert (DynamicParams().cover_rate, DynamicParams().diversity_weight) == (0.1, 1.0)
    with pytest.raises(ConfigError, match=r"backdoor_share must be a number above 0 and below 0\.5, but got 0\.5"):
        DynamicParams(backdoor_share=0.5)
