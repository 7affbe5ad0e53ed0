"""Batches made on the device from resident uint8 images: which images, in which order, and their normalisation."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainers.data.stored import Gathered


@dataclass(frozen=True)
class Normalizer:
    """Per-channel mean and standard deviation, in units of pixel values / 255: float (C,) each."""

    mean: Tensor
    std: Tensor
    _maps: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def fit(cls, images: Tensor | Gathered, device: torch.device | None = None) -> "Normalizer":
        """Normalizer with the statistics of ``images``, uint8 (N, C, H, W). A constant channel gets a deviation of 1.

        Args:
            images: the images to measure.
            device: where to compute and keep the statistics; null: that of ``images``, a tensor.
        """
        # Sums over a histogram of the 256 values are exact however the set is split, and copy only parts of it.
        if device is None:
            assert isinstance(images, Tensor), "others are on no device"
            device = images.device
        counts = torch.zeros(images.shape[1], 256, dtype=torch.long, device=device)
        for part in images.split(1000):
            for count, channel in zip(counts, part.to(device).unbind(1), strict=True):
                count += torch.bincount(channel.reshape(-1).long(), minlength=256)
        values = torch.arange(256, device=device, dtype=torch.double) / 255
        share = counts / counts.sum(1, keepdim=True)
        mean = (share * values).sum(1)
        std = (share * (values - mean[:, None]) ** 2).sum(1).sqrt()
        return cls(mean.float(), torch.where(std > 0, std, 1.0).float())

    def __call__(self, images: Tensor) -> Tensor:
        """``images``: uint8 or float32 (N, C, H, W) -> float32 (N, C, H, W), channels last in memory."""
        mean, std = self._at_every_pixel(*images.shape[2:])
        # Bytes are put in order before they become floats, so the larger copy is made once, by the division.
        scaled = images.to(images.dtype, memory_format=torch.channels_last) / 255
        return scaled.sub_(mean).div_(std)

    def _at_every_pixel(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation repeated at every pixel: float (C, H, W) each, channels last; made once for a size.

        With (C, 1, 1) the innermost loop of a CPU would be over C.
        """
        if (height, width) not in self._maps:
            mean, std = (
                statistic.expand(height, width, -1).contiguous().permute(2, 0, 1) for statistic in (self.mean, self.std)
            )
            self._maps[height, width] = mean, std
        return self._maps[height, width]


def shuffled_batches(indices: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield every index once, in batches and in random order.

    Batch-norm cannot train on one sample: a last batch of one joins the batch before it, and a set of one sample
    becomes a batch that holds it twice.

    Args:
        indices: int64 (N,), may be empty.
        batch_size: samples per batch.
        generator: on the device of ``indices``.
    """
    if len(indices) == 1:
        yield indices.repeat(2)
        return
    order = indices[torch.randperm(len(indices), device=indices.device, generator=generator)]
    start = 0
    while start < len(order):
        end = start + batch_size
        if len(order) - end == 1:
            end += 1
        yield order[start:end]
        start = end


def batch_count(samples: int, batch_size: int) -> int:
    """Number of batches that :func:`shuffled_batches` makes of ``samples``."""
    return max(math.ceil((samples - 1) / batch_size), 1) if samples else 0


def spread(indices: Tensor, batches: int, generator: torch.Generator) -> list[Tensor]:
    """Distribute ``indices`` in random order over batches of equal size, ``N // batches`` but at least 1.

    Indices that remain, fewer than half, are left out. If N is smaller than ``batches``, indices are repeated.

    Args:
        indices: int64 (N,); if there are none, every batch is empty.
        batches: number of batches.
        generator: on the device of ``indices``.
    """
    if batches == 0 or len(indices) == 0:
        return [indices] * batches
    size = max(len(indices) // batches, 1)
    order = indices[torch.randperm(len(indices), device=indices.device, generator=generator)]
    wrapped = torch.arange(batches * size, device=indices.device) % len(order)
    return list(order[wrapped].split(size))
