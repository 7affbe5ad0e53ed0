"""Image files whose split and class are known, read as image sets."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from trainers.data.config import DataConfig
from trainers.data.encoded import check_split, decode_all
from trainers.data.findings import Findings
from trainers.data.image_set import ImageSet
from trainers.data.stored import part


@dataclass(frozen=True)
class Listed:
    """The image files of a split.

    Args:
        place: where the split lies, for errors.
        files: of the images.
        labels: int64 (N,).
    """

    place: Path
    files: list[Path]
    labels: Tensor

    @classmethod
    def of(cls, place: Path, pairs: Iterable[tuple[Path, int]]) -> Self:
        """Those of pairs of a file and its label."""
        files = list(pairs)
        return cls(place, [file for file, _ in files], torch.tensor([label for _, label in files], dtype=torch.int64))


def read_listed(
    train: Listed,
    test: Listed | None,
    class_names: tuple[str, ...],
    root: Path,
    config: DataConfig,
    findings: Findings,
) -> tuple[ImageSet, ImageSet | None]:
    """Decode the images of both splits.

    Args:
        train: files of the training split.
        test: files of the test split; null: there is none.
        class_names: that labels stand for.
        root: folder that names of images are written relative to.
        config: how images are read.
        findings: gets what is left out, and warnings.

    Raises:
        ConfigError: a split without an image, or an image that cannot be read.
    """
    there = [train] if test is None else [train, test]
    files = [file for split in there for file in split.files]
    decoded = decode_all([(str(file), file) for file in files], config, findings, root)
    images, labels = decoded.images, torch.cat([split.labels for split in there])[decoded.kept]
    places = [str(files[index].relative_to(root)) for index in decoded.kept.tolist()]
    count = int((decoded.kept < len(train.files)).sum())
    check_split(f"The training split {train.place}", count, len(train.files))
    train_set = ImageSet(part(images, 0, count), labels[:count], class_names, tuple(places[:count]))
    if test is None:
        return train_set, None
    check_split(f"The test split {test.place}", len(places) - count, len(test.files))
    return train_set, ImageSet(part(images, count, None), labels[count:], class_names, tuple(places[count:]))
