"""Adaptive-Blend (Qi et al., ICLR 2023): pieces of a pattern in training, the whole pattern at test time."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.attacks.blend import Blend, PatternParams
from trainers.attacks.labels import LabelMap
from trainers.errors import ConfigError
from trainers.params import param

SIDE = 4
"""The pattern is cut into 4 x 4 = 16 pieces (paper)."""


@dataclass(frozen=True)
class AdaptiveBlendParams(PatternParams):
    """Pattern, pieces and strengths; the defaults are the paper's."""

    alpha: float = param(0.2, gt=0, le=1, doc="opacity of the pattern at test time")
    train_alpha: float = param(0.15, gt=0, le=1, doc="opacity of the pattern in training")
    shown: int = param(8, ge=1, le=SIDE**2, doc="number of pieces, of 16, that each training image shows")
    cover_rate: float = param(
        0.003, gt=0, lt=1, doc="cover samples (pieces of the pattern, true label), as a share of the whole set"
    )


class AdaptiveBlend(Blend):
    """Blend attack in which each training image shows its own random pieces of the pattern."""

    name: ClassVar[str] = "adaptive_blend"
    Params = AdaptiveBlendParams
    params: AdaptiveBlendParams

    def __init__(self, params: AdaptiveBlendParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        _, height, width = shape
        if min(height, width) < SIDE:
            raise ConfigError(f"Images of {height}x{width} cannot be cut into {SIDE}x{SIDE} pieces.")
        rows, columns = (torch.arange(n) * SIDE // n for n in (height, width))
        self.piece = rows[:, None] * SIDE + columns[None, :]
        """The piece, from 0 to 15, of each pixel: int64 (H, W). Pieces differ in size if 4 does not divide a side."""

    def poison_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Blend ``shown`` pieces into each of ``images``: uint8 (M, C, H, W)."""
        ranks = torch.rand(len(images), SIDE**2, generator=generator).argsort(1).argsort(1)
        mask = (ranks < self.params.shown)[:, self.piece][:, None]
        return self.blended(images, self.params.train_alpha * mask.to(images.device))
