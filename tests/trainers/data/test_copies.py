import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainers.data.copies import copies, warn_of_copies, warn_of_tested
from trainers.data.findings import Findings
from trainers.data.image_set import ImageSet


def noise(count: int, seed: int = 0, size: int = 8) -> Tensor:
    return torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(seed)).byte()


def image_set(images: Tensor, labels: list[int] | None = None, names: str = "") -> ImageSet:
    of = torch.tensor(labels or [index % 2 for index in range(len(images))])
    return ImageSet(images, of, ("cat", "dog"), tuple(f"{names}{i}" for i in range(len(images))) if names else None)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_groups_are_those_of_a_comparison_of_all_pairs(first: list[int], second: list[int]) -> None:
    """Images of one value each, of more pixels than are compared at first; image 3 differs from 2 in one pixel."""
    shades = torch.stack([torch.full((1, 20, 20), value, dtype=torch.uint8) for value in (0, 1, 2, 2)])
    shades[3, 0, 7, 7] = 9
    groups = copies({"a": shades[first], "b": shades[second]})
    pairs = {frozenset(pair) for group in groups for pair in itertools.combinations(group, 2)}
    members = [("a", i, value) for i, value in enumerate(first)] + [("b", i, value) for i, value in enumerate(second)]
    assert pairs == {
        frozenset({(a, i), (b, j)}) for (a, i, v), (b, j, w) in itertools.combinations(members, 2) if v == w
    }


def test_images_of_other_shapes_have_nothing_in_common() -> None:
    assert copies({"a": torch.zeros(1, 1, 4, 4).byte(), "b": torch.zeros(1, 1, 2, 8).byte()}) == []


def test_different_images_are_nothing_to_speak_of() -> None:
    findings = Findings()
    warn_of_copies({"training": image_set(noise(50)), "test": image_set(noise(20, 1))}, findings)
    assert findings == Findings()


def test_copies_are_counted_within_and_across() -> None:
    train, test = noise(6), noise(4, 1)
    train[3] = train[1]  # of the same class
    train[5] = train[1]
    test[0] = test[2] = train[4]
    findings = Findings()
    warn_of_copies({"training": image_set(train, names="train/"), "test": image_set(test, names="test/")}, findings)
    assert findings.warnings == [
        "2 of 6 training images are copies of others.",
        "2 of 4 test images are training images too.",
        "1 of 4 test images are copies of others.",
    ]
    assert [(place.what, place.place, place.detail) for place in findings.noted] == [
        ("copy of a training image", "train/3", "train/1"),
        ("copy of a training image", "train/5", "train/1"),
        ("test image that is a training image", "test/0", "train/4"),
        ("test image that is a training image", "test/2", "train/4"),
        ("copy of a test image", "test/2", "test/0"),
    ]


def test_the_whole_test_split_may_be_in_the_training_split() -> None:
    findings = Findings()
    both = image_set(noise(240))
    warn_of_copies({"training": both, "test": both}, findings)
    assert findings.warnings == ["240 of 240 test images are training images too."]


def test_copies_of_different_labels_are_counted() -> None:
    images = noise(5)
    images[1] = images[0]
    findings = Findings()
    warn_of_copies({"training": image_set(images, [0, 1, 0, 1, 0])}, findings)
    assert findings.warnings[-1] == "2 images have the same pixels as one of another class."
    assert [(place.place, place.detail) for place in findings.noted[-2:]] == [
        ("training image 0", "cat"),
        ("training image 1", "dog"),
    ]


@pytest.mark.parametrize("shared", [0, 3])
def test_images_without_labels_that_are_test_images_are_counted(shared: int) -> None:
    findings, test, others = Findings(), noise(8), noise(5, 1)
    others[:shared] = test[:shared]
    warn_of_tested("folder:x", others, image_set(test), findings)
    assert findings.warnings == ([f"{shared} of 5 images of folder:x are test images too."] if shared else [])
