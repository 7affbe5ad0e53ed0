"""Trigger patterns: images of the user, or random pixels."""

import hashlib
import os
from pathlib import Path

import torch
from torch import Tensor

from trainers.data.decode import decode
from trainers.data.pixels import Rendering
from trainers.errors import ConfigError
from trainers.seeding import derive_seed, seeded


def absolute(path: str | None) -> str | None:
    """The absolute path, with ~ expanded: workers run in other folders."""
    return None if path is None else str(_expanded(path).absolute())


def load_pattern(path: str, channels: int, size: int) -> Tensor:
    """Read a trigger image and resize it: uint8 (channels, size, size).

    Raises:
        ConfigError: the file cannot be read, is no image, or has colour where the data has none.
    """
    pattern = decode([(path, _read(path))], Rendering(size)).all_images()[0]
    if pattern.shape[0] > channels:
        raise ConfigError(f"The trigger image {path} has colour, but the data has one channel.")
    return pattern.expand(channels, -1, -1).clone()


def fingerprint(path: str) -> str:
    """SHA-256 of the file, in hexadecimal.

    Raises:
        ConfigError: the file cannot be read.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def whole_pattern(path: str | None, shape: tuple[int, int, int], seed: int, attack: str) -> Tensor:
    """A pattern that covers images of ``shape``, from a file or of random pixels: uint8 (C, H, W).

    Raises:
        ConfigError: as :func:`load_pattern`, or the images are not square.
    """
    if path is None:
        return torch.randint(256, shape, generator=seeded(derive_seed(seed, "pattern")), dtype=torch.uint8)
    channels, height, width = shape
    if height != width:
        raise ConfigError(f"A trigger image for {attack} needs square images, but these are {height}x{width}.")
    return load_pattern(path, channels, height)


def _read(path: str) -> bytes:
    try:
        return _expanded(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"The trigger image {path} cannot be read: {reason}.") from error


def _expanded(path: str) -> Path:
    # Path.expanduser fails if ~name is not a user; this leaves the path as it is, and reading it then fails.
    return Path(os.path.expanduser(path))
