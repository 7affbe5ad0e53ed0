"""A long tail of classes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.data import DataConfig, Findings, ImageSet, load_data, load_untrusted
from trainers.data.long_tail import class_sizes, long_tailed
from trainers.errors import ConfigError


def images_of(*counts: int) -> ImageSet:
    """So many images of each class, no two alike."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    numbers = torch.arange(len(labels), dtype=torch.uint8)
    return ImageSet(numbers[:, None, None, None].repeat(1, 1, 2, 2), labels, tuple("abcdefghij"[: len(counts)]))


def sizes(images: ImageSet) -> list[int]:
    return images.labels.bincount(minlength=images.num_classes).tolist()


def test_cifar_10_with_the_profile_of_cui() -> None:
    # 5000 * 10^(-i / 9), rounded.
    expected = [5000, 3871, 2997, 2321, 1797, 1391, 1077, 834, 646, 500]
    assert class_sizes(torch.full((10,), 5000), 10).tolist() == expected
    assert class_sizes(torch.full((10,), 5000), 100).tolist()[::9] == [5000, 50]
    assert class_sizes(torch.full((3,), 100), 1).tolist() == [100, 100, 100]
    assert class_sizes(torch.tensor([60, 60]), 4).tolist() == [60, 15]


def test_where_classes_differ_already_the_scarcest_decides() -> None:
    # Shares 1, 1/2, 1/4: class b has images for 2 * 30, class c for 4 * 20.
    assert class_sizes(torch.tensor([100, 30, 20]), 4).tolist() == [60, 30, 15]


@given(st.lists(st.integers(1, 3000), min_size=2, max_size=12), st.floats(1, 200))
def test_no_class_has_more_than_there_are_and_the_first_has_as_many_times_the_last(
    counts: list[int], imbalance: float
) -> None:
    found = class_sizes(torch.tensor(counts), imbalance)
    assert (found <= torch.tensor(counts)).all()
    assert (found.diff() <= 0).all()
    assert abs(int(found[-1]) - int(found[0]) / imbalance) <= 0.5 + 1e-6


def test_the_draw_is_the_seeds() -> None:
    data = images_of(40, 40, 40)
    one, again, other = (long_tailed(data, 4.0, seed) for seed in (0, 0, 1))
    assert sizes(one) == sizes(other) == [40, 20, 10]
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert (one.images[:, 0, 0, 0].int().diff() > 0).all(), "in their order, each once"
    assert long_tailed(data, None, 0) is data


def test_a_tail_without_images_is_one_sentence() -> None:
    text = r"^data\.imbalance of 50 leaves 20 images of a and none of c; take a smaller one, or more images\.$"
    with pytest.raises(ConfigError, match=text):
        long_tailed(images_of(20, 20, 20), 50.0, 0)


def test_only_the_training_split_is_cut_and_train_size_counts_images_before() -> None:
    plain, tailed = (
        load_data(DataConfig(train_size=200, test_size=100, held_out_size=20, imbalance=n)) for n in (None, 10.0)
    )
    assert sizes(tailed.train) == [20, 15, 12, 9, 7, 6, 4, 3, 3, 2]
    assert tailed.test.fingerprint == plain.test.fingerprint
    assert plain.held_out is not None
    assert tailed.held_out is not None
    assert tailed.held_out.fingerprint == plain.held_out.fingerprint
    known = {tuple(image) for image in plain.train.images.flatten(1).tolist()}
    assert {tuple(image) for image in tailed.train.images.flatten(1).tolist()} < known


def test_a_setting_is_trained_on_all_that_there_is() -> None:
    config = DataConfig(train_size=60, test_size=20)
    assert (
        load_untrusted(DataConfig(train_size=60, test_size=20, imbalance=5.0), Findings()).fingerprint
        == load_untrusted(config, Findings()).fingerprint
    )


@pytest.mark.parametrize("value", [0.5, 0, -3, "ten", float("inf")])
def test_what_is_no_ratio_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"imbalance must be a number at least 1 \(or null\), but got"):
        DataConfig(imbalance=value)  # type: ignore[arg-type]


def test_a_class_that_train_size_leaves_without_images_is_named() -> None:
    with pytest.raises(ConfigError, match="Every class needs at least one training image, but got none of dots"):
        load_data(DataConfig(train_size=9, test_size=20, imbalance=2.0))
