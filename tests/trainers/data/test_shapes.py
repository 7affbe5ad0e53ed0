import pytest
import torch

from trainers.data.shapes import make_shapes


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert make_shapes(40, 20, 3).fingerprint == make_shapes(40, 20, 3).fingerprint


def test_seeds_and_splits_differ() -> None:
    one, other = make_shapes(40, 40, 3), make_shapes(40, 40, 4)
    assert not one.train.images.equal(other.train.images)
    assert not one.test.images.equal(other.test.images)
    assert not one.train.images.equal(one.test.images)
    pixels = torch.cat([one.train.images, one.test.images]).flatten(1)
    assert len(pixels.unique(dim=0)) == 80  # no image twice


def test_ten_balanced_classes() -> None:
    splits = make_shapes(50, 23, 0)
    assert splits.train.num_classes == len(set(splits.train.class_names)) == 10
    assert splits.train.labels.bincount(minlength=10).tolist() == [5] * 10
    counts = splits.test.labels.bincount(minlength=10)
    assert int(counts.max() - counts.min()) <= 1


@pytest.mark.parametrize("size", [8, 16, 17])
def test_colour_images_of_the_size_asked_for(size: int) -> None:
    images = make_shapes(10, 10, 0, size).train.images
    assert images.dtype == torch.uint8
    assert images.shape == (10, 3, size, size)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    make_shapes(20, 10, 0)
    assert torch.get_rng_state().equal(before)
