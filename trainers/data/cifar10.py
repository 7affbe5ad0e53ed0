"""CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009) from its Python files."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.data.image_set import ImageSet, Splits
from trainers.data.pixels import Rendering
from trainers.errors import ConfigError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

_RESIZED_AT_ONCE = 4096  # images; limits the memory of resizing beyond its result


def load_cifar10(root: str, download: bool, how: Rendering) -> Splits:
    """Read the 50,000 training and 10,000 test images, uint8 (N, 3, 32, 32) unless resized.

    Args:
        root: the folder that holds, or after the download will hold, ``cifar-10-batches-py``.
        download: download missing or damaged files; without it the network is not used.
        how: size to resize to, and how.

    Raises:
        ConfigError: the files are missing or damaged, or the download fails.
    """
    # Importing torchvision loads its models and torch's compiler, which would add seconds to every command.
    from torchvision.datasets import CIFAR10

    folder = Path(root) / CIFAR10.base_folder
    if not download and not folder.is_dir():
        raise ConfigError(
            f"There is no CIFAR-10 at {folder}; set data.root to the folder above it, "
            "or data.download: true to download it."
        )
    try:
        # The files are pickles, and unpickling can run any code. torchvision unpickles a file only if its MD5 is that
        # of the published one, and raises RuntimeError otherwise. Two files with the same MD5 can be constructed, but
        # no second file for a given MD5, so only the published files are unpickled.
        train, test = (CIFAR10(root, train=is_train, download=download) for is_train in (True, False))
    except (OSError, RuntimeError) as error:
        if download:
            raise ConfigError(f"Cannot download CIFAR-10 to {folder}: {str(error).rstrip('.')}.") from error
        raise ConfigError(
            f"CIFAR-10 at {folder} is incomplete or damaged; data.download: true downloads it again."
        ) from error
    return Splits(_image_set(train, how), _image_set(test, how))


def _image_set(data: "CIFAR10", how: Rendering) -> ImageSet:
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    if how.image_size not in (None, images.shape[-1]):
        images = _resized(images, how.image_size, how.interpolation)
    return ImageSet(images, torch.tensor(data.targets), tuple(data.classes))


def _resized(images: Tensor, size: int, mode: str) -> Tensor:
    blocks = (images[start : start + _RESIZED_AT_ONCE] for start in range(0, len(images), _RESIZED_AT_ONCE))
    return torch.cat([F.interpolate(block, (size, size), mode=mode, antialias=True) for block in blocks])
