"""Random changes of training images, on the device and a whole batch at a time, each image by its own draw."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from trainers.data.geometry import draw_boxes, resized_crops
from trainers.data.rand_augment import STRONGEST, rand_augment
from trainers.errors import ConfigError
from trainers.params import Parameters, param


@dataclass(frozen=True)
class Augmentation(Parameters):
    """Random changes of a training image, drawn each time that the image is used, in the order of these keys."""

    crop: int = param(
        4, ge=0, doc="random crop after padding with this many black pixels; 0: none; resized_crop takes its place"
    )
    flip: bool = param(True, doc="random horizontal flip")
    resized_crop: tuple[float, ...] | None = param(
        None,
        gt=0,
        le=1,
        doc="random crop of a share of the area between these two, of a ratio of width to height from 3/4 to 4/3, "
        "resized to the whole image, e.g. [0.08, 1]; null: none",
    )
    randaugment: int = param(
        0, ge=0, doc="number of RandAugment's operations on each image (arXiv 1909.13719); 0: none"
    )
    magnitude: int = param(9, ge=0, le=STRONGEST, doc="strength of RandAugment's operations, on torchvision's scale")

    def __post_init__(self) -> None:
        """Check the range of the resized crop."""
        super().__post_init__()
        area = self.resized_crop
        if area is not None and (len(area) != 2 or area[0] > area[1]):
            raise ConfigError(
                "resized_crop must be the smallest and the largest share of the area, e.g. [0.08, 1] (or null), but "
                f"got {list(area)}."
            )


def augment(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Change each image of a batch at random, independently of the others.

    Args:
        images: uint8 (N, C, H, W).
        how: which changes, and how strong.
        generator: on the device of ``images``.

    Returns:
        uint8 (N, C, H, W).
    """
    if how.resized_crop is None:
        images = _crop_and_flip(images, how.crop, how.flip, generator)
    else:
        boxes = draw_boxes(images, how.resized_crop, generator)
        images = _crop_and_flip(resized_crops(images, boxes), 0, how.flip, generator)
    return rand_augment(images, how.randaugment, how.magnitude, generator)


def _crop_and_flip(images: Tensor, crop: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Crop after padding with ``crop`` black pixels, and flip where ``flip``: uint8 (N, C, H, W)."""
    if not crop and not flip:
        return images
    count, channels, height, width = images.shape
    device, wide = images.device, width + 2 * crop
    columns, mirrored, rows = _places(height, width, wide, device)
    if flip:
        flipped = torch.rand(count, device=device, generator=generator) < 0.5
        columns = torch.where(flipped[:, None], mirrored, columns)
    if crop:
        images = functional.pad(images, (crop,) * 4)
        down, right = torch.randint(2 * crop + 1, (2, count, 1), device=device, generator=generator)
        columns = columns + torch.add(right, down, alpha=wide)
    places = (rows + columns[:, None]).view(count, 1, height * width).expand(-1, channels, -1)
    # Written channels last, so that normalisation need not copy the batch once more.
    views = images.new_empty(count, height, width, channels)
    torch.gather(images.flatten(2), 2, places, out=views.flatten(1, 2).transpose(1, 2))
    return views.permute(0, 3, 1, 2)


@lru_cache(maxsize=8)
def _places(height: int, width: int, wide: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where the pixels of a window lie in rows of ``wide`` pixels, made once for all batches.

    Returns:
        int64 (W,), places of the first row's pixels; int64 (W,), the same mirrored; int64 (H, 1), starts of the rows.
    """
    columns = torch.arange(width, device=device)
    return columns, columns.flip(0), torch.arange(0, height * wide, wide, device=device)[:, None]


def cutout(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Blacken a square around a random pixel of each image (arXiv 1708.04552); the square is cut off at the border.

    Args:
        images: uint8 (N, C, H, W).
        size: height and width of the square in pixels; 0: no square.
        generator: on the device of ``images``.

    Returns:
        uint8 (N, C, H, W).
    """
    if not size:
        return images
    device = images.device

    def covered(length: int) -> Tensor:
        first = torch.randint(length, (len(images), 1), device=device, generator=generator) - size // 2
        places = torch.arange(length, device=device)
        return (places >= first) & (places < first + size)

    rows, columns = covered(images.shape[2]), covered(images.shape[3])
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)
