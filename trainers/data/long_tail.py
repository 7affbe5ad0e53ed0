"""Classes of unequal size, cut from a set of images: a long tail."""

import math

import torch
from torch import Tensor

from trainers.data.image_set import ImageSet
from trainers.errors import ConfigError
from trainers.seeding import derive_seed, seeded


def long_tailed(images: ImageSet, imbalance: float | None, seed: int) -> ImageSet:
    """``images`` with as many of each class as :func:`class_sizes` allows, drawn by ``seed``; null: all of them.

    Raises:
        ConfigError: a class would have no image left.
    """
    counts = torch.bincount(images.labels, minlength=images.num_classes)
    if imbalance is None or not counts.all():  # a class without images is named where the splits are put together
        return images
    sizes = class_sizes(counts, imbalance)
    if not sizes.all():
        empty = int((sizes == 0).nonzero()[0])
        raise ConfigError(
            f"data.imbalance of {imbalance:g} leaves {int(sizes[0])} images of {images.class_names[0]} and none of "
            f"{images.class_names[empty]}; take a smaller one, or more images."
        )
    order = torch.randperm(len(images), generator=seeded(derive_seed(seed, "long tail")))
    chosen = [order[images.labels[order] == c][: int(size)] for c, size in enumerate(sizes)]
    return images.subset(torch.cat(chosen).sort().values)


def class_sizes(counts: Tensor, imbalance: float) -> Tensor:
    """How many images of each class a long tail has: ``n_i = n_max * imbalance^(-i / (C - 1))``, rounded.

    That is the exponential profile of *Class-Balanced Loss* (Cui et al. 2019, arXiv 1901.05555), where classes keep
    their order: the first is the largest, and has ``imbalance`` times as many images as the last. Where classes differ
    in size already, ``n_max`` is the largest for which every class has images enough (an interpretation).

    Args:
        counts: int64 (C,), images that there are of each class; at least two classes.
        imbalance: at least 1.

    Returns:
        int64 (C,), none above ``counts``.
    """
    shares = imbalance ** (-torch.arange(len(counts), dtype=torch.float64) / (len(counts) - 1))
    largest = math.floor(float((counts / shares).min()) + 1e-9)  # rounding may take it below a whole number
    return (largest * shares).round().long()
