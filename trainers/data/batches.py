"""Batches made on the device from resident uint8 images; crop, flip and normalisation are tensor operations."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainers.params import Parameters, param


@dataclass(frozen=True)
class Augmentation(Parameters):
    """Random changes of a training image, drawn each time that the image is used."""

    crop: int = param(4, ge=0, doc="random crop after padding with this many black pixels; 0: none")
    flip: bool = param(True, doc="random horizontal flip")


@dataclass(frozen=True)
class Normalizer:
    """Per-channel mean and standard deviation, in units of pixel values / 255: float (C,) each."""

    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, images: Tensor, device: torch.device | None = None) -> "Normalizer":
        """Normalizer with the statistics of ``images``, uint8 (N, C, H, W). A constant channel gets a deviation of 1.

        Args:
            images: the images to measure.
            device: where to compute and keep the statistics; null: the device of ``images``.
        """
        # Sums over a histogram of the 256 values are exact however the set is split, and copy only parts of it.
        device = device or images.device
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
        """``images``: uint8 (N, C, H, W) -> float (N, C, H, W), channels last in memory."""
        scaled = images.to(torch.float32, memory_format=torch.channels_last) / 255
        return (scaled - self.mean[:, None, None]) / self.std[:, None, None]


def augment(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop and flip each image of a batch at random, independently of the others.

    Args:
        images: uint8 (N, C, H, W).
        how: padding of the crop, and whether to flip.
        generator: on the device of ``images``.

    Returns:
        uint8 (N, C, H, W).
    """
    if not how.crop and not how.flip:
        return images
    count, _, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(count, -1)
    columns = torch.arange(width, device=device).expand(count, -1)
    if how.flip:
        flipped = torch.rand(count, device=device, generator=generator) < 0.5
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
    if how.crop:
        images = functional.pad(images, (how.crop,) * 4)
        shift = torch.randint(2 * how.crop + 1, (2, count, 1), device=device, generator=generator)
        rows, columns = rows + shift[0], columns + shift[1]
    sample = torch.arange(count, device=device)[:, None, None]
    # Indexing around the channel axis puts it last, so the permuted result is already channels-last in memory.
    return images[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


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
