"""Blend (arXiv 1712.05526): a pattern over the whole image, nearly transparent."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trainers.attacks.base import Attack
from trainers.attacks.blending import blend
from trainers.attacks.labels import LabelMap
from trainers.attacks.pattern import absolute, whole_pattern
from trainers.params import Parameters, param


@dataclass(frozen=True)
class PatternParams(Parameters):
    """A pattern over the whole image."""

    alpha: float = param(
        0.1, gt=0, le=1, doc="opacity of the pattern, in training and at test time; the literature has 0.1 and 0.2"
    )
    trigger: str | None = param(None, doc="path of an image to use as the pattern; null: random pixels from the seed")

    def __post_init__(self) -> None:
        """Make the trigger's path absolute."""
        super().__post_init__()
        object.__setattr__(self, "trigger", absolute(self.trigger))


class Blend(Attack):
    """Blends a pattern into images: ``(1 - alpha) * image + alpha * pattern``, rounded."""

    name: ClassVar[str] = "blend"
    Params = PatternParams
    params: PatternParams

    def __init__(self, params: PatternParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        pattern = whole_pattern(params.trigger, shape, seed, self.name)
        self.pattern, self.pattern_opacity = pattern.pixels, pattern.opacity

    def trigger(self, images: Tensor) -> Tensor:
        """Blend the pattern into ``images``: uint8 (M, C, H, W)."""
        return self.blended(images, self.params.alpha)

    def blended(self, images: Tensor, opacity: Tensor | float) -> Tensor:
        """``images`` with the pattern over them; where the pattern is transparent itself, less of it shows.

        Args:
            images: uint8 (M, C, H, W).
            opacity: in [0, 1], broadcast against them.
        """
        if self.pattern_opacity is not None:
            opacity = opacity * self.pattern_opacity.to(images.device)
        return blend(images, self.pattern, opacity)
