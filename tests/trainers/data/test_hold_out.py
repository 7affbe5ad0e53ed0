import pytest
import torch

from trainers.data import ImageSet
from trainers.data.hold_out import hold_out
from trainers.errors import ConfigError


def numbered(labels: list[int]) -> ImageSet:
    """Each image holds its number."""
    images = torch.arange(len(labels), dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return ImageSet(images, torch.tensor(labels), ("cat", "dog"))


def test_a_fifth_of_each_class_is_held_out() -> None:
    splits = hold_out(numbered([0] * 50 + [1] * 10), 3)
    assert torch.bincount(splits.test.labels).tolist() == [10, 2]
    both = torch.cat([splits.train.images, splits.test.images])[:, 0, 0, 0]
    assert both.sort().values.tolist() == list(range(60))
    assert splits.fingerprint == hold_out(numbered([0] * 50 + [1] * 10), 3).fingerprint
    assert splits.fingerprint != hold_out(numbered([0] * 50 + [1] * 10), 4).fingerprint


@pytest.mark.parametrize(("count", "held_out"), [(10, 2), (12, 2), (13, 3), (14, 3), (18, 4)])
def test_a_fifth_is_rounded_to_the_nearest(count: int, held_out: int) -> None:
    splits = hold_out(numbered([0, 1] * (count // 2) + [0] * (count % 2)), 0)
    assert (len(splits.test), len(splits.train)) == (held_out, count - held_out)


def test_every_class_stays_in_the_training_split() -> None:
    for seed in range(20):
        assert hold_out(numbered([0, 0, 1, 1]), seed).train.labels.bincount().min() > 0


def test_a_class_with_one_image_is_named() -> None:
    with pytest.raises(ConfigError, match="at least 2 images, but dog has 1"):
        hold_out(numbered([0] * 50 + [1]), 0)
