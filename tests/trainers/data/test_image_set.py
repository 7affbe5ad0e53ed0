from dataclasses import replace

import pytest
import torch

from trainers.data import ImageSet, Splits
from trainers.data.stored import Stored
from trainers.errors import ConfigError


def image_set(labels: list[int], names: tuple[str, ...] = ("a", "b"), size: int = 4) -> ImageSet:
    images = torch.arange(len(labels) * size * size, dtype=torch.uint8).reshape(-1, 1, size, size)
    return ImageSet(images, torch.tensor(labels), names)


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), ("a", "b"), "uint8"),
        (torch.zeros(2, 2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), ("a", "b"), "1 or 3 channels"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), ("a", "b"), "one per image"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32), ("a", "b"), "int64"),
        (torch.zeros(0, 3, 4, 4, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), ("a", "b"), "at least one"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), ("a",), "at least two classes"),
        (
            torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
            torch.tensor([0, 1]),
            ("b", "a\n", "a\\n"),
            r"^Two classes have the same name: a\\n; rename one of them\.$",
        ),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 2]), ("a", "b"), r"0\.\.1, but got 0\.\.2"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([-1, 0]), ("a", "b"), r"but got -1\.\.0"),
    ],
)
def test_what_is_no_image_set_is_refused(
    images: torch.Tensor, labels: torch.Tensor, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageSet(images, labels, names)


def test_fingerprint_depends_on_every_part() -> None:
    one = image_set([0, 1, 1])
    assert one.fingerprint == image_set([0, 1, 1]).fingerprint
    other_pixels = one.images.clone()
    other_pixels[0, 0, 0, 0] += 1
    others = [
        ImageSet(other_pixels, one.labels, one.class_names),
        ImageSet(one.images, torch.tensor([0, 1, 0]), one.class_names),
        ImageSet(one.images, one.labels, ("a", "c")),
        ImageSet(one.images.reshape(-1, 1, 2, 8), one.labels, one.class_names),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize("first", [0, 1])
def test_a_set_that_was_moved_is_hashed_once_with_the_other(first: int) -> None:
    class Counted(Stored):
        read = 0

        def gather(self, indices: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
            Counted.read += len(indices)
            return super().gather(indices, out)

    plain = image_set([0, 1, 1])
    one = ImageSet(Counted(plain.images), plain.labels, plain.class_names)
    both = one, one.moved(Counted(plain.images))
    assert {both[first].fingerprint, both[1 - first].fingerprint} == {plain.fingerprint}
    assert Counted.read == 3
    assert one.moved(one.images) is one
    other = replace(both[1], labels=torch.tensor([1, 0, 0]))
    assert other.fingerprint != plain.fingerprint, "only what was moved is the same"


def test_subset_keeps_images_and_labels_together() -> None:
    whole = image_set([0, 1, 1, 0])
    part = whole.subset(torch.tensor([3, 1]))
    assert part.labels.tolist() == [0, 1]
    assert part.images.equal(whole.images[[3, 1]])


def test_splits_must_fit_together() -> None:
    with pytest.raises(ConfigError, match="same classes"):
        Splits(image_set([0, 1]), image_set([0, 1], ("a", "c")))
    with pytest.raises(ConfigError, match=r"same shape .*\(1, 4, 4\) and \(1, 5, 5\)"):
        Splits(image_set([0, 1]), image_set([0, 1], size=5))
    with pytest.raises(ConfigError, match="none of b, c"):
        Splits(image_set([0, 0], ("a", "b", "c")), image_set([1, 2], ("a", "b", "c")))
