"""WaNet (arXiv 2102.10369): a smooth warp instead of a pattern."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from trainers.attacks.base import Attack
from trainers.attacks.blending import to_pixels
from trainers.attacks.labels import LabelMap
from trainers.attacks.scale import UNIT, covering, enlarged, enlargement
from trainers.errors import ConfigError
from trainers.params import Parameters, param
from trainers.seeding import derive_seed, seeded


@dataclass(frozen=True)
class WaNetParams(Parameters):
    """The warp; the defaults are the paper's."""

    grid: int = param(4, ge=2, doc="control points of the warp per side (k)")
    strength: float = param(
        0.5, gt=0, doc=f"strength of the warp (s), twice the mean shift of its control points, {UNIT}"
    )
    cover_rate: float = param(
        0.2, ge=0, lt=1, doc="noise samples (warp with added noise, true label), as a share of the whole set"
    )


class WaNet(Attack):
    """Warps by ``grid_sample``, in coordinates from -1 to 1.

    A control grid is drawn uniformly from [-1, 1], divided by its mean absolute value, upsampled bicubically to the
    image's size and multiplied by ``strength / height``. For noise samples ``u / height`` is added, with u drawn
    uniformly from [-1, 1] for each image, pixel and direction. Coordinates are then clipped to [-1, 1]; the authors
    clip before the noise as well, so their noise samples differ at the borders.

    An interpretation: in large images warp and noise are enlarged as patches are, so that they move the same share
    of the image. The published formula moves by the same number of pixels whatever the size, which hardly changes
    images of 224x224.
    """

    name: ClassVar[str] = "wanet"
    Params = WaNetParams
    params: WaNetParams

    def __init__(self, params: WaNetParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        _, height, width = shape
        if params.grid > min(height, width):
            raise ConfigError(
                f"grid must be at most {min(height, width)} for images of {height}x{width}, but got {params.grid}."
            )
        self._unit = enlargement(shape)
        generator = seeded(derive_seed(seed, "warp"))
        control = torch.rand(1, 2, params.grid, params.grid, generator=generator) * 2 - 1
        control = control / control.abs().mean()
        flow = functional.interpolate(control, (height, width), mode="bicubic", align_corners=True)
        self.flow = flow[0].permute(1, 2, 0) * params.strength * self._unit / height
        """Displacement in grid coordinates, x before y: float (H, W, 2)."""
        rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        self._identity = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)

    def trigger(self, images: Tensor) -> Tensor:
        """Warp ``images``: uint8 (M, C, H, W)."""
        return self._warp(images, self.flow.expand(len(images), -1, -1, -1))

    def cover_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Warp ``images`` with noise added to the displacement."""
        _, height, width = self.shape
        noise = torch.rand(len(images), *covering(self.shape), 2, generator=generator) * 2 - 1
        noise = enlarged(noise.movedim(3, 1), self._unit)[:, :, :height, :width].movedim(1, 3)
        return self._warp(images, self.flow + noise * self._unit / height)

    def _warp(self, images: Tensor, flow: Tensor) -> Tensor:
        where = (self._identity + flow).clamp(-1, 1).to(images.device)
        return to_pixels(functional.grid_sample(images.float(), where, mode="bilinear", align_corners=True))
