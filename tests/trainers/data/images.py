"""Random images for tests of what is done with batches, and the formula of normalisation."""

import torch

from trainers.seeding import seeded


def random_images(count: int, channels: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (count, channels, height, width), generator=seeded(seed), dtype=torch.uint8)


def plainly_normalised(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """The formula, one operation after the other: float (N, C, H, W), channels last."""
    scaled = images.to(torch.float32, memory_format=torch.channels_last) / 255
    return (scaled - mean[:, None, None]) / std[:, None, None]


def assert_same_bits(found: torch.Tensor, expected: torch.Tensor) -> None:
    """The same floats, also where they are zeros of either sign, at the same places in memory."""
    assert found.dtype == expected.dtype == torch.float32
    assert found.stride() == expected.stride() or not found.numel()
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.view(torch.int32).equal(expected.view(torch.int32))
