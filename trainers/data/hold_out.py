"""A test split for data that comes without one."""

import torch

from trainers.data.findings import Findings
from trainers.data.image_set import ImageSet, Splits
from trainers.data.subset import stratified_indices
from trainers.errors import ConfigError
from trainers.seeding import derive_seed

TEST_SHARE = 0.2


def hold_out(images: ImageSet, seed: int) -> Splits:
    """Cut ``images`` in two: a stratified 20% (`TEST_SHARE`), drawn by ``seed``, to test on, and the rest to train on.

    Raises:
        ConfigError: a class has a single image, which cannot be in both.
    """
    counts = torch.bincount(images.labels, minlength=images.num_classes)
    for name, count in zip(images.class_names, counts.tolist(), strict=True):
        if count < 2:
            raise ConfigError(f"To cut off a test split, every class needs at least 2 images, but {name} has {count}.")
    test = stratified_indices(images.labels, round(TEST_SHARE * len(images)), derive_seed(seed, "hold-out"))
    train = torch.ones(len(images), dtype=torch.bool)
    train[test] = False
    return Splits(images.subset(train.nonzero().squeeze(1)), images.subset(test))


def warn_of_hold_out(findings: Findings, reason: str) -> None:
    """Note that images of the training split are measured on.

    Args:
        findings: gets the warning.
        reason: why there is no test split, though something looks like one.
    """
    findings.warn(f"{TEST_SHARE:.0%} of the training images become the test split, since {reason}.")
