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


def test_the_seed_decides_the_draw() -> None:
    labels = torch.arange(100) % 4
    assert stratified_indices(labels, 40, 1).equal(stratified_indices(labels, 40, 1))
    assert not stratified_indices(labels, 40, 1).equal(stratified_indices(labels, 40, 2))


@pytest.mark.parametrize("size", [0, 5])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"from 1 to 4 images, but got {size}"):
        stratified_indices(torch.tensor([0, 1, 0, 1]), size, 0)
