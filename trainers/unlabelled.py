"""Images without labels for the defenses that use them, and where they come from."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainers.data import DataConfig, load_unlabelled
from trainers.data.copies import warn_of_tested
from trainers.data.image_set import Splits
from trainers.defenses.base import Unlabelled
from trainers.errors import ConfigError

HELD_OUT = ("clean", "poisoned")
"""Sources that are set aside from the training split (``data.held_out_size``) before it is poisoned."""


@dataclass(frozen=True)
class HeldOut:
    """Images that were set aside before the attacker came, as a defender may get them: without labels.

    Args:
        clean: uint8 (M, C, H, W).
        poisoned: the same, the attacker's share of them triggered, which nobody can see by their order.
    """

    clean: Tensor
    poisoned: Tensor


def with_elsewhere(splits: Splits, sources: Iterable[str], config: DataConfig) -> Splits:
    """The splits, and beside them the images of those ``sources`` that are not held out.

    They are read once, so that whoever trains needs no file, and they count in the fingerprint. What reading them shows
    is added to the findings of ``splits``.

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
    """See whether there are such images, as many as asked for, and like those of the training split.

    Raises:
        ConfigError: there are not.
    """
    if wanted.source in HELD_OUT and splits.held_out is None:
        raise ConfigError(
            f"unlabelled: {wanted.source} takes images that were held out, and there are none; set data.held_out_size, "
            "or give parquet:PATH or folder:PATH."
        )
    aside = splits.held_out
    images = splits.elsewhere[wanted.source] if aside is None or wanted.source not in HELD_OUT else aside.images
    shape, known = images.shape[1:], splits.train.images.shape[1:]
    if shape != known:
        hint = "; data.image_size resizes both" if shape[0] == known[0] else ""
        raise ConfigError(
            f"unlabelled: images of {wanted.source} are {_size(shape)}, but those to train on {_size(known)}{hint}."
        )
    check_count(wanted, len(images))


def check_count(wanted: Unlabelled, there: int) -> None:
    """See whether there are as many images as asked for.

    Raises:
        ConfigError: there are not.
    """
    if wanted.count is not None and wanted.count > there:
        raise ConfigError(f"unlabelled_count must be at most {there}, as many as there are, but got {wanted.count}.")


def unlabelled_images(source: str, splits: Splits, held_out: HeldOut | None) -> Tensor:
    """Images of a source that was checked: uint8 (M, C, H, W)."""
    if source not in HELD_OUT:
        return splits.elsewhere[source]
    assert held_out is not None, "it was checked"
    return held_out.clean if source == "clean" else held_out.poisoned


def _size(shape: torch.Size) -> str:
    channels, height, width = shape
    return f"{height}x{width} with {channels} channel{'s' if channels > 1 else ''}"
