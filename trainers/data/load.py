"""From the settings to the images."""

import os

import torch

from trainers.data.cifar10 import load_cifar10
from trainers.data.config import SOURCES, DataConfig
from trainers.data.copies import warn_of_copies
from trainers.data.findings import SHOWN, Findings
from trainers.data.folder import load_folder, read_folder, read_unlabelled_folder
from trainers.data.gtsrb import load_gtsrb
from trainers.data.image_set import ImageSet, Splits
from trainers.data.long_tail import long_tailed
from trainers.data.parquet import load_parquet, read_parquet, read_unlabelled_parquet
from trainers.data.shapes import make_shapes
from trainers.data.stored import Images
from trainers.data.subset import stratified_indices
from trainers.data.tiny_imagenet import load_tiny_imagenet
from trainers.errors import ConfigError
from trainers.seeding import derive_seed

SHAPES = "shapes"
SHAPES_TRAIN_SIZE = 3000
SHAPES_TEST_SIZE = 2000
SHAPES_IMAGE_SIZE = 16  # pixels
UNEQUAL = 10
"""Classes are of unequal size if the largest has more than this many times the images of the smallest."""


def load_data(config: DataConfig) -> Splits:
    """The images of ``config.source``, in memory or in a file, cut down to stratified subsets of the sizes asked for,
    and then the training split to the long tail of ``config.imbalance``.

    ``~`` at the start of a path is the home folder.

    Raises:
        ConfigError: an unknown source, more images asked for than there are, or what the source has to complain of.
    """
    findings = Findings()
    splits = _source(config, findings)
    held_out = splits.held_out
    train = splits.train
    if config.held_out_size is not None and held_out is None:
        train, held_out = _set_aside(train, config.held_out_size, config.seed)
    train = whole = _at_size(train, config.train_size, "train", config.seed)
    train = long_tailed(train, config.imbalance, config.seed)
    test = _at_size(splits.test, config.test_size, "test", config.seed)
    if config.source != SHAPES:
        parts = {"training": train, "test": test} | ({} if held_out is None else {"held-out": held_out})
        warn_of_copies(parts, findings)
        _warn_of_classes_not_tested(test, findings)
        _warn_of_unequal_classes(whole, findings)  # a long tail that was asked for is no news
    return Splits(train, test, held_out, findings=findings)


def load_untrusted(config: DataConfig, findings: Findings) -> ImageSet:
    """All training images of ``config.source``: nothing is held out to measure on, and no class is made rarer.

    Test images of the source are not used, which is a warning.

    Args:
        config: which images.
        findings: gets what is left out, and warnings.

    Raises:
        ConfigError: as :func:`load_data`.
    """
    kind, _, path = config.source.partition(":")
    if kind == "parquet" and path:
        images, test = read_parquet(os.path.expanduser(path), config, findings)
    elif kind == "folder" and path:
        images, test = read_folder(os.path.expanduser(path), config, findings)
    else:
        splits = _source(config, findings)
        images, test = splits.train, splits.test
    images.check_every_class()  # one may have lost all its images
    images = _at_size(images, config.train_size, "train", config.seed)
    if config.source != SHAPES:
        warn_of_copies({"training": images}, findings)
        _warn_of_unequal_classes(images, findings)
        if test is not None and len(test):
            count = f"{len(test):,} test image{' is' if len(test) == 1 else 's are'}"
            findings.warn(f"{count} not used: train learns from the training split alone.")
    return images


def load_unlabelled(source: str, config: DataConfig, findings: Findings) -> Images:
    """Images alone: labels, where there are any, are not read. Of a data set with two splits, the training split's.

    Args:
        source: ``parquet:PATH`` or ``folder:PATH``; ``~`` at the start of a path is the home folder.
        config: how images are read, as those of the data are; its own source is not.
        findings: gets what is left out, and warnings.

    Returns:
        uint8 (M, C, H, W).

    Raises:
        ConfigError: another source, or one that cannot be read.
    """
    kind, _, path = source.partition(":")
    read = {"parquet": read_unlabelled_parquet, "folder": read_unlabelled_folder}.get(kind)
    if read is None or not path:
        raise ConfigError(f"Unlabelled images come from parquet:PATH or folder:PATH, but got {source!r}.")
    found = Findings()
    images = read(os.path.expanduser(path), config, found)
    findings.extend(found, source)
    return images


def _source(config: DataConfig, findings: Findings) -> Splits:
    kind, _, path = config.source.partition(":")
    path = os.path.expanduser(path)
    if config.source == SHAPES:
        return make_shapes(
            SHAPES_TRAIN_SIZE if config.train_size is None else config.train_size,
            SHAPES_TEST_SIZE if config.test_size is None else config.test_size,
            config.seed,
            SHAPES_IMAGE_SIZE if config.image_size is None else config.image_size,
            config.held_out_size or 0,
        )
    if config.source == "cifar10":
        return load_cifar10(os.path.expanduser(config.root), config.download, config.rendering)
    if config.source == "gtsrb":
        return load_gtsrb(os.path.expanduser(config.root), config, findings)
    if config.source == "tiny_imagenet":
        return load_tiny_imagenet(os.path.expanduser(config.root), config, findings)
    if kind == "parquet" and path:
        return load_parquet(path, config, findings)
    if kind == "folder" and path:
        return load_folder(path, config, findings)
    raise ConfigError(f"data.source must be {SOURCES}, but got {config.source!r}.")


def _warn_of_classes_not_tested(test: ImageSet, findings: Findings) -> None:
    missing = sorted(set(range(test.num_classes)) - set(test.labels.unique().tolist()))
    if missing:
        names = ", ".join(test.class_names[label] for label in missing[:SHOWN])
        more = ", ..." if len(missing) > SHOWN else ""
        findings.warn(f"{len(missing)} of {test.num_classes} classes have no test image: {names}{more}.")


def _warn_of_unequal_classes(train: ImageSet, findings: Findings) -> None:
    counts = train.labels.bincount(minlength=train.num_classes)
    fewest, most = int(counts.argmin()), int(counts.argmax())
    if UNEQUAL * counts[fewest] < counts[most]:
        findings.warn(
            f"The classes are of unequal size: from {counts[fewest]:,} training images ({train.class_names[fewest]}) "
            f"to {counts[most]:,} ({train.class_names[most]}). A defense may lose a small class, or take a large one "
            "for poisoned: mind val_min_class_acc (select --min-class-acc), and try split_scope (docs/own-images.md)."
        )


def _set_aside(images: ImageSet, size: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """What is left, and a stratified part of ``size``."""
    if size >= len(images):
        raise ConfigError(f"data.held_out_size must be below {len(images)}, as many as there are, but got {size}.")
    aside = torch.zeros(len(images), dtype=torch.bool)
    aside[stratified_indices(images.labels, size, derive_seed(seed, "held out"))] = True
    return images.subset((~aside).nonzero().squeeze(1)), images.subset(aside.nonzero().squeeze(1))


def _at_size(images: ImageSet, size: int | None, split: str, seed: int) -> ImageSet:
    if size is None or size == len(images):
        return images
    if size > len(images):
        raise ConfigError(f"data.{split}_size must be at most {len(images)}, as many as there are, but got {size}.")
    return images.subset(stratified_indices(images.labels, size, derive_seed(seed, split)))
