"""Adaptive-Patch (Qi et al., ICLR 2023): one of four patches in training, two of them at test time."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.attacks.base import Attack
from trainers.attacks.blending import blend
from trainers.attacks.labels import LabelMap
from trainers.attacks.patch import four_corners
from trainers.attacks.scale import UNIT, enlargement, random_pixels
from trainers.errors import ConfigError
from trainers.params import Parameters, param
from trainers.seeding import derive_seed, seeded

AT_TEST = (0, 2)
"""The two patches at test time, the first and the third; the authors then use another version of the first."""


@dataclass(frozen=True)
class AdaptivePatchParams(Parameters):
    """Patches and strengths. Opacities and cover rate are the paper's."""

    size: int | None = param(
        None, ge=1, doc=f"height and width of a patch, {UNIT}; null: a quarter of the image's shorter side"
    )
    alphas: tuple[float, ...] = param(
        (0.5, 0.2, 0.5, 0.3), gt=0, le=1, doc="opacity of each of the four patches in training"
    )
    test_alpha: float = param(1.0, gt=0, le=1, doc="opacity of the two patches at test time")
    cover_rate: float = param(
        0.006, gt=0, lt=1, doc="cover samples (one patch, true label), as a share of the whole set"
    )

    def __post_init__(self) -> None:
        """Check that there is one opacity for each patch."""
        super().__post_init__()
        if len(self.alphas) != 4:
            raise ConfigError(f"alphas must list four opacities, one for each patch, but lists {len(self.alphas)}.")


class AdaptivePatch(Attack):
    """Four patches of random pixels, one in each corner.

    An interpretation: the authors' patches are logos and squares at other places. At 32x32 the default size, 8 pixels,
    makes the trigger at test time as strong as theirs (L2 on CIFAR-10: 7.5, theirs 7.53); in images of another size a
    patch takes the same share of the shorter side, and in large ones its random pixels are enlarged.
    """

    name: ClassVar[str] = "adaptive_patch"
    Params = AdaptivePatchParams
    params: AdaptivePatchParams

    def __init__(self, params: AdaptivePatchParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        places = four_corners(params.size or max(min(shape[1:]) // (4 * enlargement(shape)), 1), shape)
        self._pattern = random_pixels(shape, seeded(derive_seed(seed, "patches")))
        self._masks = torch.zeros(4, 1, *shape[1:])
        for mask, (rows, columns) in zip(self._masks, places, strict=True):
            mask[:, rows, columns] = 1

    def trigger(self, images: Tensor) -> Tensor:
        """Put two patches on ``images``: uint8 (M, C, H, W)."""
        return self._blend(images, self.params.test_alpha * self._masks[list(AT_TEST)].sum(0))

    def poison_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Blend one patch, drawn for each image, into ``images``."""
        which = torch.randint(4, (len(images),), generator=generator)
        alphas = torch.tensor(self.params.alphas)[which]
        return self._blend(images, alphas[:, None, None, None] * self._masks[which])

    def _blend(self, images: Tensor, opacity: Tensor) -> Tensor:
        return blend(images, self._pattern, opacity.to(images.device))
