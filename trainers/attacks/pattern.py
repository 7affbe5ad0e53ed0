"""Trigger patterns: images of the user, or random pixels."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from trainers.attacks.blending import to_pixels
from trainers.attacks.scale import random_pixels
from trainers.data.decode import decode
from trainers.data.pixels import Rendering
from trainers.errors import ConfigError
from trainers.seeding import derive_seed, seeded


def absolute(path: str | None) -> str | None:
    """The absolute path, with ~ expanded: workers run in other folders."""
    return None if path is None else str(_expanded(path).absolute())


@dataclass(frozen=True)
class Pattern:
    """A trigger.

    Args:
        pixels: uint8 (C, H, W).
        opacity: of each pixel, from 0 to 1: float (1, H, W); null: 1 everywhere.
    """

    pixels: Tensor
    opacity: Tensor | None = None


def load_pattern(path: str, channels: int, size: int) -> Pattern:
    """Read a trigger image and resize it to ``channels`` x ``size`` x ``size``; transparent parts of it stay so.

    Raises:
        ConfigError: the file cannot be read, is no image, has colour where the data has none, or is transparent all
            over.
    """
    content = [(path, _read(path))]
    on_white = decode(content, Rendering(size))
    shown, opacity = on_white.all_images()[0], None
    if on_white.notes.transparent:
        on_black = decode(content, Rendering(size, background="black")).all_images()[0].float()
        # The two differ by what shows of the background.
        opacity = 1 - (shown.float() - on_black).mean(0, keepdim=True) / 255
        if not opacity.any():
            raise ConfigError(f"The trigger image {path} is transparent all over.")
        shown = to_pixels(on_black / opacity.clamp(min=1 / 255))
    if shown.shape[0] > channels:
        raise ConfigError(f"The trigger image {path} has colour, but the data has one channel.")
    return Pattern(shown.expand(channels, -1, -1).clone(), opacity)


def fingerprint(path: str) -> str:
    """SHA-256 of the file, in hexadecimal.

    Raises:
        ConfigError: the file cannot be read.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def whole_pattern(path: str | None, shape: tuple[int, int, int], seed: int, attack: str) -> Pattern:
    """A pattern that covers images of ``shape``, (C, H, W), from a file or of random pixels, enlarged in large images.

    Raises:
        ConfigError: as :func:`load_pattern`, or the images are not square.
    """
    if path is None:
        return Pattern(random_pixels(shape, seeded(derive_seed(seed, "pattern"))))
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
