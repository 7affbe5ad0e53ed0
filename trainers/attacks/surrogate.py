"""The attacker's own classifier, trained on the clean set, with its loss and gradients."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainers.attacks.artifact_cache import ArtifactCache
from trainers.compute import Compute
from trainers.data.batches import Normalizer, shuffled_batches
from trainers.data.image_set import ImageSet
from trainers.models import ModelConfig, Network, build_model, check_network
from trainers.optim import Descent, OptimizerParams
from trainers.params import Parameters, changed, param
from trainers.placement import Sent, ahead, placed
from trainers.seeding import seeded

AT_ONCE = 500
"""Number of images in one gradient computation, which limits the memory for activations."""
TRAINING = OptimizerParams(lr=0.05, batch_size=64, schedule="cosine")
"""How a surrogate is trained: our choice, quick on small sets."""


@dataclass(frozen=True)
class SurrogateParams(Parameters):
    """The attacker's own network."""

    surrogate: str = param("tiny", check=check_network, doc="network of the attacker's surrogate")
    surrogate_epochs: int = param(10, ge=1, doc="passes over the clean set that train the surrogate")


class Surrogate:
    """A trained classifier of clean images, in eval mode, with its normalisation.

    Args:
        network: the classifier.
        normalise: turns pixel values, uint8 or float in [0, 255], into the network's input.
        compute: where to compute.
    """

    def __init__(self, network: Network, normalise: Normalizer, compute: Compute):
        self._network = network.eval()
        self._normalise = normalise
        self._compute = compute

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy summed over ``images``, float (M, C, H, W) in [0, 255]: a scalar, differentiable in them."""
        device = self._compute.device
        with self._compute.autocast():
            logits = self._network(self._normalise(images.to(device))).logits
        return functional.cross_entropy(logits.float(), labels.to(device), reduction="sum")

    def gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        """Gradient of each image's loss in its pixels: float (M, C, H, W)."""
        gradients = []
        for some, own in zip(images.split(AT_ONCE), labels.split(AT_ONCE), strict=True):
            some = some.detach().requires_grad_()
            gradients += torch.autograd.grad(self.loss(some, own), some)
        return torch.cat(gradients)


def trained_surrogate(params: SurrogateParams, clean: ImageSet, artifacts: ArtifactCache) -> Surrogate:
    """A surrogate for ``clean``: from the cache, or trained now."""
    compute = artifacts.compute
    model = ModelConfig(params.surrogate)
    images = placed(clean.images, compute)
    normalise = Normalizer.fit(clean.images, compute.device)

    def make(seed: int) -> dict[str, Tensor]:
        network = build_model(model, clean.shape, clean.num_classes, seed)
        compute.place(network)
        _train(network, images, clean.labels.to(compute.device), normalise, params.surrogate_epochs, compute, seed)
        return dict(network.state_dict())

    own = changed(SurrogateParams, {key: getattr(params, key) for key in SurrogateParams.keys()})
    parts = [own, clean.fingerprint]
    network = build_model(model, clean.shape, clean.num_classes, 0)
    network.load_state_dict(artifacts.made("surrogate", parts, make))
    network.to(compute.device)
    return Surrogate(network, normalise, compute)


def _train(
    network: Network,
    images: Tensor | Sent,
    labels: Tensor,
    normalise: Normalizer,
    epochs: int,
    compute: Compute,
    seed: int,
) -> None:
    generator = seeded(seed, compute.device)
    descent = Descent(network, TRAINING.new_optimizer(network, TRAINING.lr, fused=compute.fused), TRAINING.lr)
    everything = torch.arange(len(images), device=compute.device)
    descent.train()
    for epoch in range(epochs):
        descent.set_lr(TRAINING.lr_at(epoch, epochs))
        for batch in ahead(images, list(shuffled_batches(everything, TRAINING.batch_size, generator))):
            with compute.autocast():
                logits = network(normalise(images[batch])).logits
            loss = functional.cross_entropy(logits.float(), labels[batch])
            descent.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            descent.step()
