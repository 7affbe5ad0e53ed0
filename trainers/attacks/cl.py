"""CL, label-consistent (arXiv 1912.02771): images of the target class are made hard to learn, so a patch is learned."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.attacks.artifact_cache import ArtifactCache
from trainers.attacks.base import Attack
from trainers.attacks.labels import LabelMap
from trainers.attacks.patch import checkerboard, four_corners
from trainers.attacks.scale import UNIT
from trainers.attacks.surrogate import Surrogate, SurrogateParams, trained_surrogate
from trainers.data.image_set import ImageSet
from trainers.params import param


@dataclass(frozen=True)
class ClParams(SurrogateParams):
    """Perturbation and patch. The bound is the paper's; steps, their length and the patch's size are our choice."""

    epsilon: float = param(16.0, ge=0, le=255, doc="bound on each pixel's perturbation (l-inf), in pixel values")
    steps: int = param(20, ge=0, doc="steps of projected gradient ascent")
    step_size: float = param(2.0, gt=0, doc="length of an ascent step, in pixel values")
    size: int = param(3, ge=1, doc=f"height and width of the patch in each corner, {UNIT}")


class Cl(Attack):
    """Perturbs images by projected gradient ascent, then patches all four corners; at test time patches alone.

    The gradients are those of a surrogate trained on the clean set in the ordinary way; the paper also tries
    adversarially trained surrogates, and images from a generative model.
    """

    name: ClassVar[str] = "cl"
    Params = ClParams
    clean_label: ClassVar[bool] = True
    rate_of_target: ClassVar[bool] = True
    params: ClParams
    _surrogate: Surrogate

    def __init__(self, params: ClParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        self._places = four_corners(params.size, shape)
        self._patch = checkerboard(params.size, shape)

    def prepare(self, clean: ImageSet, rate: float, artifacts: ArtifactCache) -> None:
        """Train the surrogate."""
        self._surrogate = trained_surrogate(self.params, clean, artifacts)

    def trigger(self, images: Tensor) -> Tensor:
        """Put the patch into each corner of ``images``: uint8 (M, C, H, W)."""
        triggered = images.clone()
        for rows, columns in self._places:
            triggered[:, :, rows, columns] = self._patch.to(images.device)
        return triggered

    def poison_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Perturb ``images``, then put a patch into each corner."""
        return self.trigger(self._perturbed(images, generator))

    def _perturbed(self, images: Tensor, generator: torch.Generator) -> Tensor:
        p = self.params
        labels = self.target_of(torch.zeros(len(images), dtype=torch.int64))
        clean = images.float()
        start = (torch.rand(images.shape, generator=generator) * 2 - 1) * p.epsilon
        moved = (clean + start).clamp(0, 255)
        for _ in range(p.steps):
            gradient = self._surrogate.gradient(moved, labels).to(moved.device)
            moved = moved + p.step_size * gradient.sign()
            moved = (clean + (moved - clean).clamp(-p.epsilon, p.epsilon)).clamp(0, 255)
        return (clean + (moved - clean).trunc()).byte()  # rounding towards the image keeps the bound
