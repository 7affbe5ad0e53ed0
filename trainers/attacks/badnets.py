"""BadNets (arXiv 1708.06733): a small patch in a corner."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trainers.attacks.base import Attack
from trainers.attacks.blending import blend
from trainers.attacks.labels import LabelMap
from trainers.attacks.patch import CORNERS, checkerboard, corner
from trainers.attacks.pattern import Pattern, absolute, load_pattern
from trainers.attacks.scale import UNIT, enlargement
from trainers.params import Parameters, param


@dataclass(frozen=True)
class BadNetsParams(Parameters):
    """The patch; by default the 3x3 checkerboard in a corner."""

    size: int = param(3, ge=1, doc=f"height and width of the patch, {UNIT}")
    corner: str = param("bottom_right", choices=CORNERS, doc="corner of the image in which the patch lies")
    inset: int = param(0, ge=0, doc=f"distance of the patch from the border, {UNIT}")
    trigger: str | None = param(None, doc="path of an image to use as the patch; null: a black and white checkerboard")

    def __post_init__(self) -> None:
        """Make the trigger's path absolute."""
        super().__post_init__()
        object.__setattr__(self, "trigger", absolute(self.trigger))


class BadNets(Attack):
    """Replaces the pixels in one corner by a patch; they show through where the patch is transparent."""

    name: ClassVar[str] = "badnets"
    Params = BadNetsParams
    params: BadNetsParams

    def __init__(self, params: BadNetsParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        self._rows, self._columns = corner(params.corner, params.size, params.inset, shape)
        if params.trigger is not None:
            self._patch = load_pattern(params.trigger, shape[0], params.size * enlargement(shape))
        else:
            self._patch = Pattern(checkerboard(params.size, shape))

    def trigger(self, images: Tensor) -> Tensor:
        """Put the patch on ``images``: uint8 (M, C, H, W)."""
        triggered = images.clone()
        patch = self._patch.pixels.to(images.device)
        if self._patch.opacity is not None:
            patch = blend(images[:, :, self._rows, self._columns], patch, self._patch.opacity.to(images.device))
        triggered[:, :, self._rows, self._columns] = patch
        return triggered
