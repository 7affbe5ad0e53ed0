"""The one form in which images travel through the program."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from trainers.data.findings import Findings
from trainers.data.stored import PART, Images, subset
from trainers.errors import ConfigError
from trainers.text import printable


@dataclass(frozen=True)
class ImageSet:
    """Labelled images.

    Args:
        images: uint8 (N, C, H, W), C of 1 or 3, in memory or in a file.
        labels: int64 (N,), from 0 to ``len(class_names) - 1``.
        class_names: one name per class, at least two.
        names: where each image came from, for people; null if it came from nowhere.

    Raises:
        ConfigError: no image, a wrong type or shape, fewer than two classes, two of the same name, or a label outside
            the classes.
    """

    images: Images
    labels: Tensor
    class_names: tuple[str, ...]
    names: tuple[str, ...] | None = None
    _known: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] not in (1, 3):
            given = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise ConfigError(f"Images must be uint8 (N, C, H, W) with 1 or 3 channels, but got {given}.")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            given = f"{self.labels.dtype} {tuple(self.labels.shape)}"
            raise ConfigError(f"Labels must be int64 ({len(self.images)},), one per image, but got {given}.")
        if len(self.images) == 0:
            raise ConfigError("A data set must hold at least one image, but got none.")
        shown = tuple(map(printable, self.class_names))
        if len(set(shown)) < len(shown):
            twice = next(name for name in shown if shown.count(name) > 1)
            raise ConfigError(f"Two classes have the same name: {twice}; rename one of them.")
        object.__setattr__(self, "class_names", shown)
        if self.names is not None:
            object.__setattr__(self, "names", tuple(map(printable, self.names)))
        if len(self.class_names) < 2:
            raise ConfigError(f"A data set must have at least two classes, but got {list(self.class_names)}.")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.class_names):
            raise ConfigError(f"Labels must lie in 0..{len(self.class_names) - 1}, but got {low}..{high}.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (16 hex digits) over shape, class names, labels and pixels; computed once."""
        if "fingerprint" not in self._known:
            self._known["fingerprint"] = self._digest()
        return self._known["fingerprint"]

    def _digest(self) -> str:
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.class_names)).encode())
        digest.update(self.labels.numpy().tobytes())
        for some in self.images.split(PART):
            digest.update(some.contiguous().view(-1).numpy().data)
        return digest.hexdigest()[:16]

    def moved(self, images: Images) -> "ImageSet":
        """The same set, with its ``images`` in another place; both have one fingerprint, which is computed once."""
        if images is self.images:
            return self
        moved = replace(self, images=images)
        object.__setattr__(moved, "_known", self._known)
        return moved

    def check_every_class(self) -> None:
        """See that there is an image of each class, as training needs.

        Raises:
            ConfigError: there is not.
        """
        missing = sorted(set(range(self.num_classes)) - set(self.labels.unique().tolist()))
        if missing:
            names = ", ".join(self.class_names[c] for c in missing)
            raise ConfigError(f"Every class needs at least one training image, but got none of {names}.")

    def subset(self, indices: Tensor) -> "ImageSet":
        """The images at ``indices``: int64 (M,)."""
        names = None if self.names is None else tuple(self.names[i] for i in indices.tolist())
        return ImageSet(subset(self.images, indices), self.labels[indices], self.class_names, names)


@dataclass(frozen=True)
class Splits:
    """The parts of a data set.

    Args:
        train: whose labels nobody vouches for.
        test: to measure on.
        held_out: images of the same kind, set aside for defenses that use unlabelled ones; null: none.
        elsewhere: images from other sources for such defenses, by source: uint8 (M, C, H, W).
        findings: what reading them has shown.
    """

    train: ImageSet
    test: ImageSet
    held_out: ImageSet | None = None
    elsewhere: Mapping[str, Images] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings, compare=False)

    def __post_init__(self) -> None:
        if self.train.class_names != self.test.class_names:
            raise ConfigError("The training and the test split must have the same classes.")
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            shapes = f"{tuple(self.train.images.shape[1:])} and {tuple(self.test.images.shape[1:])}"
            raise ConfigError(f"Training and test images must have the same shape (C, H, W), but got {shapes}.")
        self.train.check_every_class()

    @property
    def fingerprint(self) -> str:
        """Names all parts; findings are none."""
        parts = [self.train, self.test, *([self.held_out] if self.held_out else [])]
        others = [pixels_fingerprint(images) for _, images in sorted(self.elsewhere.items())]
        return "-".join([part.fingerprint for part in parts] + others)


def pixels_fingerprint(images: Images) -> str:
    """SHA-256 (16 hex digits) over shape and pixels of images without labels: uint8 (N, C, H, W)."""
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    for some in images.split(PART):
        digest.update(some.contiguous().view(-1).numpy().data)
    return digest.hexdigest()[:16]
