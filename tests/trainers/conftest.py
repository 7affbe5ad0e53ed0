"""Small data, and one thread, for every test of trainers."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import settings

from trainers.data import ImageSet
from trainers.seeding import seeded

# Machines that run tests are shared: an example that takes long says nothing about the code.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def noise() -> Callable[..., ImageSet]:
    """Makes images of random pixels; the classes take turns."""

    def make(count: int, classes: int = 4, channels: int = 3, size: int = 8, seed: int = 0) -> ImageSet:
        images = torch.randint(256, (count, channels, size, size), generator=seeded(seed), dtype=torch.uint8)
        return ImageSet(images, torch.arange(count) % classes, tuple(f"class {c}" for c in range(classes)))

    return make
