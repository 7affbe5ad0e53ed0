"""Images that are there more than once, pixel by pixel."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from trainers.data.findings import Findings, Place
from trainers.data.image_set import ImageSet
from trainers.data.stored import PART, Images

_SAMPLE = 256
"""Bytes of each image that are compared first: most images differ in them, so that few are hashed whole."""

Member = tuple[str, int]
"""Name of a set, and index into it."""


def copies(sets: Mapping[str, Images]) -> list[list[Member]]:
    """Groups of two images or more with the same pixels, within sets and across them.

    Args:
        sets: by name: uint8 (N, C, H, W); those of other shapes have nothing in common.

    Returns:
        Each group in the order of the sets and their images.
    """
    samples = np.concatenate([_samples(images) for images in sets.values()])
    _, which, counts = np.unique(samples, return_inverse=True, return_counts=True)
    alike = counts[which] > 1
    groups: dict[bytes, list[Member]] = defaultdict(list)
    start = 0
    for name, images in sets.items():
        for index in np.flatnonzero(alike[start : start + len(images)]).tolist():
            digest = hashlib.sha256(repr(tuple(images.shape[1:])).encode())
            digest.update(images[index].contiguous().view(-1).numpy().data)
            groups[digest.digest()].append((name, index))
        start += len(images)
    return [group for group in groups.values() if len(group) > 1]


def _samples(images: Images) -> NDArray[np.uint64]:
    """A number of some bytes of each image: equal where these are, and nearly never otherwise."""
    size = images.shape[1:].numel()
    places = np.linspace(0, size - 1, min(_SAMPLE, size)).astype(np.int64)
    factors = np.random.default_rng(0).integers(0, 2**64, len(places), np.uint64, endpoint=False) | np.uint64(1)
    numbers = [part.flatten(1).numpy()[:, places].astype(np.uint64) @ factors for part in images.split(PART)]
    return np.concatenate(numbers) if numbers else np.empty(0, np.uint64)


def warn_of_copies(sets: Mapping[str, ImageSet], findings: Findings) -> None:
    """Count images that are there more than once: within a set, in it and the first one, and with different labels.

    Args:
        sets: by name, e.g. ``training``; the first is the one that is trained on.
        findings: gets the warnings.
    """
    trained = next(iter(sets))
    within: dict[str, list[Place]] = {name: [] for name in sets}
    across: dict[str, list[Place]] = {name: [] for name in sets}
    disputed: list[Place] = []
    for group in copies({name: images.images for name, images in sets.items()}):
        first = {name: next((index for of, index in group if of == name), None) for name in sets}
        labels = {int(sets[name].labels[index]) for name, index in group}
        for name, index in group:
            place = _place(sets, name, index)
            if first[name] != index:
                within[name].append(Place(f"copy of a {name} image", place, _place(sets, name, first[name] or 0)))
            if name != trained and first[trained] is not None:
                known = _place(sets, trained, first[trained] or 0)
                across[name].append(Place(f"{name} image that is a {trained} image", place, known))
            if len(labels) > 1:
                label = sets[name].class_names[int(sets[name].labels[index])]
                disputed.append(Place("same pixels, another label", place, label))
    for name, images in sets.items():
        total = f"of {len(images):,} {name} images"
        if across[name]:
            findings.warn(f"{len(across[name]):,} {total} are {trained} images too.", across[name])
        if within[name]:
            findings.warn(f"{len(within[name]):,} {total} are copies of others.", within[name])
    if disputed:
        findings.warn(f"{len(disputed):,} images have the same pixels as one of another class.", disputed)


def warn_of_tested(source: str, images: Images, test: ImageSet, findings: Findings) -> None:
    """Count images without labels that are test images too.

    Args:
        source: of the images.
        images: uint8 (M, C, H, W).
        test: the split to measure on.
        findings: gets the warning.
    """
    groups = copies({"test": test.images, source: images})
    both = [group for group in groups if {name for name, _ in group} == {"test", source}]
    count = sum(name == source for group in both for name, _ in group)
    if count:
        findings.warn(f"{count:,} of {len(images):,} images of {source} are test images too.")


def _place(sets: Mapping[str, ImageSet], name: str, index: int) -> str:
    names = sets[name].names
    return f"{name} image {index}" if names is None else names[index]
