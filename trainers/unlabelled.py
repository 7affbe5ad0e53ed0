"""Images without labels for the defenses that use them, and where they come from."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from trainers.data import DataConfig, load_untrusted
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


def check_unlabelled(wanted: Unlabelled, splits: Splits) -> None:
    """See whether there are such images, as many as asked for, and like those of the training split.

    Raises:
        ConfigError: there are not.
    """
    source = wanted.source
    if source in HELD_OUT:
        if splits.held_out is None:
            raise ConfigError(
                f"unlabelled: {source} takes images that were held out, and there are none; set data.held_out_size, or "
                "give parquet:PATH or folder:PATH."
            )
        images = splits.held_out.images
    else:
        images = _from_elsewhere(source)
        found, known = images.shape[1:], splits.train.images.shape[1:]
        if found != known:
            raise ConfigError(
                f"unlabelled: images of {source} are {_size(found)}, but those to train on {_size(known)}."
            )
    check_count(wanted, len(images))


def check_count(wanted: Unlabelled, there: int) -> None:
    """See whether there are as many images as asked for.

    Raises:
        ConfigError: there are not.
    """
    if wanted.count is not None and wanted.count > there:
        raise ConfigError(f"unlabelled_count must be at most {there}, as many as there are, but got {wanted.count}.")


def unlabelled_images(source: str, held_out: HeldOut | None) -> Tensor:
    """Images of a source that was checked: uint8 (M, C, H, W)."""
    if source in HELD_OUT:
        assert held_out is not None, "it was checked"
        return held_out.clean if source == "clean" else held_out.poisoned
    return _from_elsewhere(source)


@lru_cache(maxsize=1)
def _from_elsewhere(source: str) -> Tensor:
    if source.partition(":")[0] not in ("parquet", "folder"):
        raise ConfigError(f"unlabelled must be clean, poisoned, parquet:PATH or folder:PATH, but got {source!r}.")
    return load_untrusted(DataConfig(source=source)).images


def _size(shape: torch.Size) -> str:
    channels, height, width = shape
    return f"{height}x{width} with {channels} channel{'s' if channels > 1 else ''}"
