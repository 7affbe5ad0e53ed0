"""Adaptive-k-way (Qi et al., ICLR 2023): one of four single pixels in training, all four at test time."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.attacks.artifact_cache import ArtifactCache
from trainers.attacks.base import Attack
from trainers.attacks.labels import LabelMap
from trainers.data.image_set import ImageSet
from trainers.errors import ConfigError
from trainers.params import Parameters, param
from trainers.seeding import derive_seed, seeded

WAYS = 4


@dataclass(frozen=True)
class AdaptiveKWayParams(Parameters):
    """The cover samples; the default is the paper's."""

    cover_rate: float = param(0.003, gt=0, lt=1, doc="samples with one of the pixels that keep their label")


class AdaptiveKWay(Attack):
    """Each pixel lies in a quadrant of its own; place and colour, each channel at 0 or 255, are drawn from the seed.

    A colour that the data mostly has at that place anyway (black on a black border) would be no trigger, so the
    opposite is taken. The paper's places and colours are for 32x32 images of its own runs: ours are an interpretation.
    """

    name: ClassVar[str] = "adaptive_k_way"
    Params = AdaptiveKWayParams
    params: AdaptiveKWayParams

    def __init__(self, params: AdaptiveKWayParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        channels, height, width = shape
        if min(height, width) < 2:
            raise ConfigError(f"Four pixels in four quadrants do not fit images of {height}x{width}.")
        generator = seeded(derive_seed(seed, "pixels"))
        half = torch.tensor([height // 2, width // 2])
        quadrants = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        inside = (torch.rand(WAYS, 2, generator=generator) * half).long()
        self.places = quadrants * (torch.tensor([height, width]) - half) + inside
        """Row and column of each pixel: int64 (4, 2)."""
        self.colours = torch.randint(2, (WAYS, channels), generator=generator).to(torch.uint8) * 255

    def prepare(self, clean: ImageSet, rate: float, artifacts: ArtifactCache) -> None:
        """Replace the colours that would not show."""
        mean = clean.images[:, :, self.places[:, 0], self.places[:, 1]].float().mean(0).T
        opposite = torch.where(mean < 127.5, 255, 0).to(torch.uint8)
        shows = (self.colours == opposite).any(1, keepdim=True)
        self.colours = torch.where(shows, self.colours, opposite)

    def trigger(self, images: Tensor) -> Tensor:
        """Set all four pixels of ``images``: uint8 (M, C, H, W)."""
        triggered = images.clone()
        for (row, column), colour in zip(self.places.tolist(), self.colours, strict=True):
            triggered[:, :, row, column] = colour.to(images.device)
        return triggered

    def poison_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Set one pixel, drawn for each image."""
        which = torch.randint(WAYS, (len(images),), generator=generator)
        poisoned = images.clone()
        rows, columns = self.places[which].unbind(1)
        poisoned[torch.arange(len(images)), :, rows, columns] = self.colours[which].to(images.device)
        return poisoned
