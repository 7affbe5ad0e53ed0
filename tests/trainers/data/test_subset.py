import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.data.subset import stratified_halves, stratified_indices
from trainers.errors import ConfigError

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(torch.tensor)


@given(st.data(), LABELS, st.integers(0, 2**31))
def test_a_subset_has_its_size_and_each_class_in_proportion(
    data: st.DataObject, labels: torch.Tensor, seed: int
) -> None:
    size = data.draw(st.integers(1, len(labels)))
    indices = stratified_indices(labels, size, seed)
    assert len(indices) == size
    assert (indices.diff() > 0).all()  # ascending, so drawn without replacement
    drawn = torch.bincount(labels[indices], minlength=6)
    exact = torch.bincount(labels, minlength=6) * size / len(labels)
    assert ((drawn - exact).abs() < 1).all()


@given(st.lists(st.integers(0, 5), min_size=2, max_size=200).map(torch.tensor), st.integers(0, 2**31))
def test_halves_are_disjoint_complete_and_alike(labels: torch.Tensor, seed: int) -> None:
    first, second = stratified_halves(labels, seed)
    assert torch.cat([first, second]).sort().values.equal(torch.arange(len(labels)))
    assert len(second) - len(first) in (0, 1)
    difference = torch.bincount(labels[first], minlength=6) - torch.bincount(labels[second], minlength=6)
    assert (difference.abs() <= 2).all()  # each half is less than 1 from its proportion


@pytest.mark.parametrize(
    ("counts", "size", "quota"),
    [
        ((5, 3, 2), 5, (3, 1, 1)),  # exact shares 2.5, 1.5, 1: a tie goes to the lower class
        ((1, 4, 5), 5, (1, 2, 2)),  # 0.5, 2, 2.5
        ((3, 3, 4), 5, (2, 1, 2)),  # 1.5, 1.5, 2
        ((7, 2, 1), 3, (2, 1, 0)),  # 2.1, 0.6, 0.3: the seat goes to the largest remainder
        ((1, 2, 7), 3, (0, 1, 2)),
        ((0, 2, 2), 3, (0, 2, 1)),
    ],
)
def test_left_over_seats_go_to_the_largest_remainders(
    counts: tuple[int, ...], size: int, quota: tuple[int, ...]
) -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    for seed in range(3):
        assert torch.bincount(labels[stratified_indices(labels, size, seed)], minlength=3).tolist() == list(quota)


def test_of_a_class_any_image_may_be_drawn() -> None:
    labels = torch.arange(20) % 2
    drawn = {int(index) for seed in range(30) for index in stratified_indices(labels, 4, seed)}
    assert drawn == set(range(20))


def test_all_of_them_are_all_of_them() -> None:
    assert stratified_indices(torch.tensor([1, 0, 1]), 3, 0).tolist() == [0, 1, 2]


def test_the_seed_decides_the_halves() -> None:
    labels = torch.arange(40) % 4
    assert stratified_halves(labels, 1)[0].equal(stratified_halves(labels, 1)[0])
    assert not stratified_halves(labels, 1)[0].equal(stratified_halves(labels, 2)[0])


def test_the_seed_decides_the_draw() -> None:
    labels = torch.arange(100) % 4
    assert stratified_indices(labels, 40, 1).equal(stratified_indices(labels, 40, 1))
    assert not stratified_indices(labels, 40, 1).equal(stratified_indices(labels, 40, 2))


@pytest.mark.parametrize("size", [0, 5])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"from 1 to 4 images, but got {size}"):
        stratified_indices(torch.tensor([0, 1, 0, 1]), size, 0)
