from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainers.attacks.quick import CPU, Noise
from trainers.attacks import ArtifactCache
from trainers.attacks.surrogate import Surrogate, SurrogateParams, trained_surrogate
from trainers.data import ImageSet
from trainers.data.batches import Normalizer
from trainers.errors import ConfigError
from trainers.models import ModelOutput
from trainers.params import param
from trainers.seeding import seeded


class Linear(nn.Module):
    """Logits are one matrix times the pixels; the batch-norm before it would show if it were left in training mode."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(features, affine=False)
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> ModelOutput:
        return ModelOutput(self.head(self.norm(images.flatten(1))), images)


def linear(images: Tensor, classes: int = 3) -> tuple[Surrogate, Linear]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Linear(images[0].numel(), classes)
    return Surrogate(network, Normalizer.fit(images), CPU), network  # type: ignore[arg-type]


def test_loss_and_gradient_of_a_linear_network_by_formula() -> None:
    images = torch.randint(256, (5, 3, 4, 4), generator=seeded(0), dtype=torch.uint8)
    labels = torch.tensor([0, 2, 1, 1, 0])
    surrogate, network = linear(images)
    weight, bias = network.head.weight.detach().double().numpy(), network.head.bias.detach().double().numpy()
    pixels = images.numpy() / 255
    mean, deviation = pixels.mean((0, 2, 3), keepdims=True), pixels.std((0, 2, 3), keepdims=True)
    shrink = 1 / np.sqrt(1 + network.norm.eps)  # running statistics that were never updated
    logits = ((pixels - mean) / deviation * shrink).reshape(5, -1) @ weight.T + bias
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    hit = np.eye(3)[labels.numpy()]
    assert float(surrogate.loss(images, labels).detach()) == pytest.approx(
        -np.log((shares * hit).sum(1)).sum(), rel=1e-5
    )
    slope = ((shares - hit) @ weight).reshape(images.shape) * shrink / (255 * deviation)
    before = images.float()
    gradient = surrogate.gradient(before, labels)
    assert np.allclose(gradient.numpy(), slope, atol=1e-7, rtol=1e-4)
    assert before.equal(images.float())
    assert not before.requires_grad
    assert all(p.grad is None for p in network.parameters())


def test_it_learns_an_easy_set_and_an_image_s_gradient_is_its_own() -> None:
    labels = torch.arange(60) % 2
    images = torch.randint(60, (60, 1, 8, 8), generator=seeded(1), dtype=torch.uint8)
    images[labels == 1, :, :, 4:] += 150
    clean = ImageSet(images, labels, ("a", "b"))
    surrogate = trained_surrogate(SurrogateParams(surrogate_epochs=30), clean, ArtifactCache(CPU, 0))
    untrained = trained_surrogate(SurrogateParams(surrogate_epochs=1), clean, ArtifactCache(CPU, 0))
    losses = [float(surrogate.loss(images[i : i + 1], labels[i : i + 1]).detach()) for i in range(60)]
    assert max(losses) < np.log(2)  # each is classified rightly
    assert sum(losses) < float(untrained.loss(images, labels).detach()) / 2
    assert float(surrogate.loss(images, labels).detach()) == pytest.approx(sum(losses), rel=1e-4)
    some, their = images[:6].float(), labels[:6]
    alone = torch.cat([surrogate.gradient(some[i : i + 1], their[i : i + 1]) for i in range(6)])
    assert surrogate.gradient(some, their).allclose(alone, rtol=1e-3, atol=1e-8)


def test_the_cache_s_seed_decides_its_weights(noise: Noise) -> None:
    clean = noise(24)
    losses = [
        float(trained_surrogate(SurrogateParams(surrogate_epochs=1), clean, ArtifactCache(CPU, seed)).loss(
            clean.images, clean.labels).detach())
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert losses[0] == losses[1] != losses[2]


def test_the_cache_tells_surrogates_apart(noise: Noise, tmp_path: Path) -> None:
    clean, artifacts = noise(24), ArtifactCache(CPU, 0, tmp_path)
    for epochs in (1, 2, 1):
        trained_surrogate(SurrogateParams(surrogate_epochs=epochs), clean, artifacts)
    assert len(list(tmp_path.glob("surrogate-*.safetensors"))) == 2


def test_attacks_share_a_surrogate_whatever_else_their_parameters_say(noise: Noise, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Longer(SurrogateParams):
        surrogate_epochs: int = param(2)
        steps: int = param(1)

    clean, artifacts = noise(24), ArtifactCache(CPU, 0, tmp_path)
    for params in (Longer(), Longer(steps=2), SurrogateParams(surrogate_epochs=2)):
        trained_surrogate(params, clean, artifacts)
    assert len(list(tmp_path.glob("surrogate-*.safetensors"))) == 1
    trained_surrogate(Longer(surrogate_epochs=10), clean, artifacts)
    trained_surrogate(SurrogateParams(), clean, artifacts)
    assert len(list(tmp_path.glob("surrogate-*.safetensors"))) == 2


def test_the_last_batch_may_be_of_one_image(noise: Noise) -> None:
    # 65 images are a batch of 64 and one more, which batch-norm could not train on alone.
    clean = noise(65)
    surrogate = trained_surrogate(SurrogateParams(surrogate_epochs=1), clean, ArtifactCache(CPU, 0))
    assert surrogate.gradient(clean.images.float(), clean.labels).isfinite().all()


def test_bad_parameters() -> None:
    with pytest.raises(ConfigError, match="surrogate must be one of "):
        SurrogateParams(surrogate="oracle")
    with pytest.raises(ConfigError, match="surrogate_epochs must be a whole number at least 1, but got 0"):
        SurrogateParams(surrogate_epochs=0)
