"""Slow release: poison that is learned late, against defenses that watch for what is learned first.

TED-LaST (arXiv 2506.10722) names slow release as a strategy to withstand; its parameters are not published in what
could be read. This is an interpretation: poison is spread over strengths, from hardly visible to that of the test.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.attacks.blend import Blend, PatternParams
from trainers.errors import ConfigError
from trainers.params import param


@dataclass(frozen=True)
class SlowReleaseParams(PatternParams):
    """Pattern and strengths; all of it our choice."""

    alpha: float = param(0.2, gt=0, le=1, doc="opacity at test time, and the highest in training")
    low_alpha: float = param(0.05, gt=0, le=1, doc="lowest opacity in training")

    def __post_init__(self) -> None:
        """Check the order of the strengths."""
        super().__post_init__()
        if self.low_alpha > self.alpha:
            raise ConfigError(f"low_alpha must be at most alpha, {self.alpha:g}, but got {self.low_alpha:g}.")


class SlowRelease(Blend):
    """Each poisoned image's opacity is drawn evenly from ``[low_alpha, alpha]``."""

    name: ClassVar[str] = "slow_release"
    Params = SlowReleaseParams
    params: SlowReleaseParams

    def poison_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Blend the pattern into ``images``, uint8 (M, C, H, W), each at its own opacity."""
        p = self.params
        opacity = p.low_alpha + (p.alpha - p.low_alpha) * torch.rand(len(images), 1, 1, 1, generator=generator)
        return self.blended(images, opacity.to(images.device))
