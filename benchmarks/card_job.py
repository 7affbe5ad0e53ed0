"""What a part of ``benchmarks.card`` measures on, and where its results go."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainers.data import ImageSet, Splits, load_data
from trainers.data.config import DataConfig
from trainers.data.subset import stratified_indices
from trainers.models import ModelConfig
from trainers.seeding import seeded
from trainers.storage.files import write_text

LARGE = 64
"""Height in pixels from which images are large: they get the network with the ImageNet stem."""


@dataclass
class Job:
    """A part with what it measures on.

    Args:
        out: folder for results.
        part: its name.
        source: of the images; null: random ones.
        size: height and width of the images.
        small: in miniature.
        until: when the part ends itself, by the monotonic clock.
    """

    out: Path
    part: str
    source: str | None
    size: int
    small: bool
    until: float

    def __post_init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if has_card() else "cpu")

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.until

    @property
    def model(self) -> ModelConfig:
        """ResNet-18, with the stem for the size of the images; in miniature a small network."""
        if self.size >= LARGE:
            return ModelConfig("imagenet_resnet18", width=8 if self.small else None)
        return ModelConfig("tiny" if self.small else "resnet18")

    @property
    def count(self) -> int:
        """Training images at most: of small ones as many as CIFAR-10 has.

        Of large ones 5,000, which at 224 pixels are 0.75 GB as uint8: it is not known to us how many images V&B's
        subset of ImageNet has.
        """
        if self.size >= LARGE:
            return 20 if self.small else 5_000
        return 100 if self.small else 50_000

    def subject(self, data: ImageSet) -> dict[str, str]:
        """The column of a table that says which network is trained on what."""
        kind = "random images" if self.source is None else "images"
        return {"network and images": f"{self.model.name}, {len(data):,} {kind} of {self.size}x{self.size}"}

    def add(self, **row: Any) -> None:
        """Write down one more row."""
        self._rows.append(row)
        write_text(self.out / f"{self.part}.json", json.dumps(self._rows, indent=1) + "\n")
        print(f"  {row}", file=sys.stderr, flush=True)

    def splits(self) -> Splits:
        """Training images, and a fifth as many test images, but at least 20."""
        count = self.count
        if self.source is not None:
            whole = load_data(DataConfig(source=self.source, image_size=self.size))
            return Splits(at_most(whole.train, count), at_most(whole.test, max(count // 5, 20)))
        return Splits(random_images(count, self.size, seed=0), random_images(max(count // 5, 20), self.size, seed=1))


def has_card() -> bool:
    """Whether torch sees a CUDA device."""
    return torch.cuda.is_available()


def random_images(count: int, size: int, seed: int) -> ImageSet:
    """Images without anything to learn, in ten classes."""
    images = torch.randint(256, (count, 3, size, size), generator=seeded(seed), dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 10, tuple(f"class {c}" for c in range(10)))


def at_most(data: ImageSet, count: int) -> ImageSet:
    return data if len(data) <= count else data.subset(stratified_indices(data.labels, count, seed=0))
