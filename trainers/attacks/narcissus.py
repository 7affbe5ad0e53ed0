"""Narcissus (arXiv 2204.05255): noise optimised to be a stronger sign of the target class than its own images."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.attacks.artifact_cache import ArtifactCache
from trainers.attacks.base import Attack
from trainers.attacks.blending import to_pixels
from trainers.attacks.surrogate import SurrogateParams, trained_surrogate
from trainers.data.batches import shuffled_batches
from trainers.data.image_set import ImageSet
from trainers.params import param
from trainers.seeding import seeded

BATCH = 128


@dataclass(frozen=True)
class NarcissusParams(SurrogateParams):
    """The noise. Bound and amplification are the paper's; passes and step are our choice."""

    epsilon: float = param(16.0, ge=1, le=255, doc="bound on the noise of each pixel (l-inf), in pixel values")
    passes: int = param(100, ge=1, doc="passes over the target class that optimise the noise")
    step_size: float = param(0.5, gt=0, doc="length of an optimisation step, in pixel values")
    amplification: float = param(3.0, gt=0, doc="factor of the noise at test time")


class Narcissus(Attack):
    """One noise for all images, which lowers a surrogate's loss on images of the target class; labels are unchanged.

    An interpretation: each step is the sign of the mean gradient on images without augmentation; the published noise is
    trained with RAdam over 1,000 rounds on augmented images. The surrogate is trained on the clean set itself; the
    paper trains it on public data of other classes, and fine-tunes it on the target class.
    """

    name: ClassVar[str] = "narcissus"
    Params = NarcissusParams
    clean_label: ClassVar[bool] = True
    params: NarcissusParams
    _noise: Tensor

    def prepare(self, clean: ImageSet, rate: float, artifacts: ArtifactCache) -> None:
        """Optimise the noise under a surrogate."""
        p = self.params

        def make(seed: int) -> dict[str, Tensor]:
            surrogate = trained_surrogate(p, clean, artifacts)
            device = artifacts.compute.device
            images = clean.images[self.candidates(clean.labels)].to(device)
            generator = seeded(seed, device)
            noise = torch.zeros(self.shape, device=device)
            for _ in range(p.passes):
                for batch in shuffled_batches(torch.arange(len(images), device=device), BATCH, generator):
                    labels = self.target_of(torch.zeros(len(batch), dtype=torch.int64))
                    gradient = surrogate.gradient((images[batch].float() + noise).clamp(0, 255), labels).mean(0)
                    noise = (noise - p.step_size * gradient.sign()).clamp(-p.epsilon, p.epsilon)
            return {"noise": noise.trunc()}

        optimised = {name: value for name, value in p.changed().items() if name != "amplification"}
        parts = [optimised, self.label_map.target, clean.fingerprint]
        self._noise = artifacts.made("narcissus", parts, make)["noise"]

    def trigger(self, images: Tensor) -> Tensor:
        """Add the amplified noise to ``images``: uint8 (M, C, H, W)."""
        return self._add(images, self.params.amplification)

    def poison_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Add the noise without amplification."""
        return self._add(images, 1.0)

    def _add(self, images: Tensor, factor: float) -> Tensor:
        return to_pixels(images.float() + factor * self._noise.to(images.device))
