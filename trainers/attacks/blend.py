"""Blend (arXiv 1712.05526): a pattern over the whole image, nearly transparent."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.attacks.base import Attack
from trainers.attacks.labels import LabelMap
from trainers.attacks.pattern import absolute, load_pattern
from trainers.errors import ConfigError
from trainers.params import Parameters, param
from trainers.seeding import derive_seed, seeded


@dataclass(frozen=True)
class BlendParams(Parameters):
    """The pattern and its strength."""

    alpha: float = param(0.1, gt=0, le=1, doc="opacity of the pattern; literature: 0.1, also 0.2")
    trigger: str | None = param(None, doc="path of an image to use as the pattern; null: random pixels from the seed")

    def __post_init__(self) -> None:
        """Make the trigger's path absolute."""
        super().__post_init__()
        object.__setattr__(self, "trigger", absolute(self.trigger))


class Blend(Attack):
    """``(1 - alpha) * image + alpha * pattern``, rounded."""

    name: ClassVar[str] = "blend"
    Params = BlendParams
    params: BlendParams

    def __init__(self, params: BlendParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        channels, height, width = shape
        if params.trigger is not None:
            if height != width:
                raise ConfigError(f"A trigger image for blend needs square images, but these are {height}x{width}.")
            self._pattern = load_pattern(params.trigger, channels, height)
        else:
            generator = seeded(derive_seed(seed, "pattern"))
            self._pattern = torch.randint(256, shape, generator=generator, dtype=torch.uint8)

    def trigger(self, images: Tensor) -> Tensor:
        """Blend the pattern into ``images``: uint8 (M, C, H, W)."""
        alpha = self.params.alpha
        blended = (1 - alpha) * images.float() + alpha * self._pattern.to(images.device).float()
        return blended.round().to(torch.uint8)
