"""Adaptive-k-way (Qi et al., ICLR 2023): one of four single pixels in training, all four at test time."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.attacks.base import Attack
from trainers.attacks.labels import LabelMap
from trainers.attacks.scale import MADE_FOR, enlargement
from trainers.errors import ConfigError
from trainers.params import Parameters, param

PLACES = ((16, 11), (27, 5), (7, 30), (22, 22))
"""Row and column of each pixel in images of 32x32 (authors' code, vtu81/backdoor-toolbox)."""
COLOURS = ((92, 0, 24), (88, 112, 110), (0, 32, 46), (11, 49, 95))
"""Red, green and blue of each pixel (same source)."""


@dataclass(frozen=True)
class AdaptiveKWayParams(Parameters):
    """Cover rate; the default is the paper's."""

    cover_rate: float = param(
        0.003, gt=0, lt=1, doc="cover samples (one of the pixels, true label), as a share of the whole set"
    )


class AdaptiveKWay(Attack):
    """Four pixels at the places and in the colours of the authors' runs; the seed does not change them.

    Interpretations: in images of another size each place is the pixel that holds the scaled centre of the published
    one, and in large images a square around it; images without three channels get the mean of the three colour
    values in every channel.
    """

    name: ClassVar[str] = "adaptive_k_way"
    Params = AdaptiveKWayParams
    params: AdaptiveKWayParams

    def __init__(self, params: AdaptiveKWayParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        channels, height, width = shape
        scale = torch.tensor([height, width]) / MADE_FOR
        unit = enlargement(shape)
        self.places = ((torch.tensor(PLACES) + 0.5) * scale).long() - unit // 2
        """First row and column of each pixel, once enlarged: int64 (4, 2)."""
        if len(self.places.unique(dim=0)) < len(PLACES):
            raise ConfigError(
                f"The four pixels of adaptive_k_way overlap in images of {height}x{width}; use larger images."
            )
        colours = torch.tensor(COLOURS)
        if channels != 3:
            colours = colours.float().mean(1, keepdim=True).round().expand(-1, channels)
        self.colours = colours.to(torch.uint8)
        """Colour of each pixel: uint8 (4, C)."""
        self._steps = torch.arange(unit)

    def trigger(self, images: Tensor) -> Tensor:
        """Set all four pixels of ``images``: uint8 (M, C, H, W)."""
        triggered = images.clone()
        unit = len(self._steps)
        for (row, column), colour in zip(self.places.tolist(), self.colours, strict=True):
            square = triggered[:, :, row : row + unit, column : column + unit]
            square[:] = colour[:, None, None].to(images.device)
        return triggered

    def poison_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Set one of the four pixels, drawn for each image."""
        which = torch.randint(len(PLACES), (len(images),), generator=generator)
        poisoned = images.clone()
        rows, columns = (first[:, None] + self._steps for first in self.places[which].unbind(1))
        each = torch.arange(len(images))[:, None, None]
        colours = self.colours[which][:, None, None].to(images.device)
        poisoned[each, :, rows[:, :, None], columns[:, None, :]] = colours
        return poisoned
