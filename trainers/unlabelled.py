"""Unlabelled images for the defenses that use them, and their sources."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from trainers.data import DataConfig, load_unlabelled
from trainers.data.copies import warn_of_tested
from trainers.data.image_set import Splits
from trainers.data.stored import Images
from trainers.defenses.base import Unlabelled
from trainers.errors import ConfigError

HELD_OUT = ("clean", "poisoned")
"""Sources that are set aside from the training split (``data.held_out_size``) before it is poisoned."""


@dataclass(frozen=True)
class HeldOut:
    """Images that were set aside before the poisoning, without labels.

    Args:
        clean: uint8 (M, C, H, W).
        poisoned: the same images in the same order; a random share of them, the poison share, has the trigger.
    """

    clean: Images
    poisoned: Images


def with_elsewhere(splits: Splits, sources: Iterable[str], config: DataConfig) -> Splits:
    """The splits, with the images of those ``sources`` that are not held out added.

    The images are read once, so workers need no files, and they enter the fingerprint. What reading them shows is added
    to the findings of ``splits``.

    Args:
        splits: the data.
        sources: as parameters of defenses name them.
        config: how images are read, as those of the data are.

    Raises:
        ConfigError: an unknown source, or one that cannot be read.
    """
    elsewhere = {}
    for source in sorted(set(sources) - set(HELD_OUT)):
        if source.partition(":")[0] not in ("parquet", "folder"):
            raise ConfigError(f"unlabelled must be clean, poisoned, parquet:PATH or folder:PATH, but got {source!r}.")
        elsewhere[source] = load_unlabelled(source, config, splits.findings)
        warn_of_tested(source, elsewhere[source], splits.test, splits.findings)
    return replace(splits, elsewhere=elsewhere)


def check_unlabelled(wanted: Unlabelled, splits: Splits) -> None:
    """Check that the wanted images exist, that there are enough, and that their shape is that of training images.

    Raises:
        ConfigError: one of these does not hold.
    """
    if wanted.source in HELD_OUT and splits.held_out is None:
        raise ConfigError(
            f"unlabelled: {wanted.source} needs held-out images, but there are none; set data.held_out_size, "
            "or give parquet:PATH or folder:PATH."
        )
    aside = splits.held_out
    images = splits.elsewhere[wanted.source] if aside is None or wanted.source not in HELD_OUT else aside.images
    shape, known = images.shape[1:], splits.train.images.shape[1:]
    if shape != known:
        hint = "; data.image_size resizes both" if shape[0] == known[0] else ""
        raise ConfigError(
            f"unlabelled: images of {wanted.source} are {_size(shape)}, but training images are {_size(known)}{hint}."
        )
    check_count(wanted, len(images))


def count_of(wanted: Unlabelled | None, splits: Splits) -> int:
    """How many unlabelled images a defense gets of the ``splits``; 0 if they have none of that source."""
    if wanted is None:
        return 0
    aside = splits.held_out
    there = len(aside or ()) if wanted.source in HELD_OUT else len(splits.elsewhere.get(wanted.source, ()))
    return there if wanted.count is None else min(wanted.count, there)


def check_count(wanted: Unlabelled, there: int) -> None:
    """Check that there are as many images as wanted.

    Raises:
        ConfigError: there are fewer.
    """
    if wanted.count is not None and wanted.count > there:
        raise ConfigError(f"unlabelled_count must be at most {there}, as many as there are, but got {wanted.count}.")


def unlabelled_images(source: str, splits: Splits, held_out: HeldOut | None) -> Images:
    """Images of ``source``, which was checked before: uint8 (M, C, H, W)."""
    if source not in HELD_OUT:
        return splits.elsewhere[source]
    assert held_out is not None, "it was checked"
    return held_out.clean if source == "clean" else held_out.poisoned


def _size(shape: torch.Size) -> str:
    channels, height, width = shape
    return f"{height}x{width} with {channels} channel{'s' if channels > 1 else ''}"
