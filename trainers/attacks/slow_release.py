"""Slow release: poison that is learned late, against defenses that watch for what is learned first.

TED-LaST (arXiv 2506.10722) names slow release as a strategy that defenses must withstand; the parts of the paper that
could be read give no parameters. This is an interpretation: the opacity differs between poisoned images, from hardly
visible to the opacity at test time.
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
    """Pattern and opacities; all values are our choice."""

    alpha: float = param(0.2, gt=0, le=1, doc="opacity of the pattern at test time, and the highest in training")
    low_alpha: float = param(0.05, gt=0, le=1, doc="lowest opacity of the pattern in training")

    def __post_init__(self) -> None:
        """Check the order of the opacities."""
        super().__post_init__()
        if self.low_alpha > self.alpha:
            raise ConfigError(f"low_alpha must be at most alpha, {self.alpha:g}, but got {self.low_alpha:g}.")


class SlowRelease(Blend):
    """Blend with an opacity drawn uniformly from ``[low_alpha, alpha]`` for each poisoned image."""

    name: ClassVar[str] = "slow_release"
    Params = SlowReleaseParams
    params: SlowReleaseParams

    def poison_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Blend the pattern into ``images``, uint8 (M, C, H, W), each at its own opacity."""
        p = self.params
        opacity = p.low_alpha + (p.alpha - p.low_alpha) * torch.rand(len(images), 1, 1, 1, generator=generator)
        return self.blended(images, opacity.to(images.device))
