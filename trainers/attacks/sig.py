"""SIG (arXiv 1902.11237): a faint sinusoid over images of the target class, which keep their label."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.attacks.base import Attack
from trainers.attacks.blending import to_pixels
from trainers.attacks.labels import LabelMap
from trainers.errors import ConfigError
from trainers.params import Parameters, param


@dataclass(frozen=True)
class SigParams(Parameters):
    """The wave; the defaults are the paper's."""

    delta: float = param(20.0, gt=0, le=255, doc="amplitude of the wave in pixel values")
    frequency: int = param(6, ge=1, doc="periods of the wave over the width of the image")


class Sig(Attack):
    """Adds ``delta * sin(2 pi j f / width)`` to column j, counted from 0, of every channel; clipped to [0, 255]."""

    name: ClassVar[str] = "sig"
    Params = SigParams
    clean_label: ClassVar[bool] = True
    rate_of_target: ClassVar[bool] = True
    params: SigParams

    def __init__(self, params: SigParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        width = shape[2]
        if 2 * params.frequency >= width:
            # At half the width every sample of the sine is 0; higher frequencies alias to lower ones.
            raise ConfigError(
                f"frequency must be below half the width of the images ({width} pixels), but got {params.frequency}."
            )
        columns = torch.arange(width, dtype=torch.float64)
        self._wave = (params.delta * torch.sin(2 * math.pi * columns * params.frequency / width)).float()

    def trigger(self, images: Tensor) -> Tensor:
        """Add the wave to ``images``: uint8 (M, C, H, W)."""
        return to_pixels(images.float() + self._wave.to(images.device))
