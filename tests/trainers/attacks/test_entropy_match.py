"""How the entropy-aware attacker picks offers that are distributed as is wanted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers.attacks.entropy_aware import match
from trainers.seeding import seeded


def picked(offers: Tensor, wanted: Tensor, count: int) -> list[float]:
    rows, columns = match(offers, wanted, count)
    assert rows.dtype == columns.dtype == torch.int64
    return [float(offers[r, c]) for r, c in zip(rows.tolist(), columns.tolist(), strict=True)]


def goals_of(wanted: Tensor, count: int) -> list[float]:
    """The middles of so many equal shares, the highest first."""
    return [float(np.quantile(wanted.double().numpy(), (count - 1 - k + 0.5) / count)) for k in range(count)]


@given(
    candidates=st.integers(1, 8), levels=st.integers(1, 4), clean=st.integers(1, 20), share=st.floats(0, 1),
    seed=st.integers(0, 2**62),
)  # fmt: skip
@settings(max_examples=80)
def test_each_goal_gets_the_nearest_offer_that_is_left(
    candidates: int, levels: int, clean: int, share: float, seed: int
) -> None:
    generator = seeded(seed)
    offers, wanted = torch.rand(candidates, levels, generator=generator), torch.rand(clean, generator=generator)
    before, count = offers.clone(), max(1, round(share * candidates))
    rows, columns = match(offers, wanted, count)
    assert offers.equal(before)
    assert (len(rows), len(columns)) == (count, count)
    assert len(set(rows.tolist())) == count  # a sample is poisoned once
    left = set(range(candidates))
    for goal, row, column in zip(goals_of(wanted, count), rows.tolist(), columns.tolist(), strict=True):
        nearest = min(abs(float(offers[r, c]) - goal) for r in left for c in range(levels))
        assert abs(float(offers[row, column]) - goal) == pytest.approx(nearest, abs=1e-5)
        left.remove(row)


@given(count=st.integers(1, 12), levels=st.integers(1, 4), seed=st.integers(0, 2**62))
@settings(max_examples=40)
def test_offers_that_hold_the_quantiles_are_matched_perfectly(count: int, levels: int, seed: int) -> None:
    generator = seeded(seed)
    wanted = torch.rand(30, generator=generator)
    offers = torch.full((count + 3, levels), 9.0)
    order = torch.randperm(count + 3, generator=generator)[:count].tolist()
    goals = goals_of(wanted, count)
    for goal, row in zip(goals, order, strict=True):
        offers[row, row % levels] = goal
    rows, columns = match(offers, wanted, count)
    assert rows.tolist() == order
    assert columns.tolist() == [row % levels for row in order]


def test_by_hand() -> None:
    # The middles of two halves of 0, 1, 2, 3, 4 are 1 and 3. For 3 the second row offers 2.9; then 1.5 is left for 1.
    offers = torch.tensor([[1.5, 2.8], [2.9, 1.0], [5.0, 5.0]])
    assert picked(offers, torch.arange(5.0), 2) == pytest.approx([2.9, 1.5])


def test_it_beats_taking_the_first() -> None:
    generator = seeded(0)
    offers, wanted = torch.rand(80, 8, generator=generator) ** 3, torch.rand(200, generator=generator)
    goals = np.array(goals_of(wanted, 20))
    first = np.sort(offers[:20, 0].numpy())[::-1]
    assert np.abs(picked(offers, wanted, 20) - goals).mean() < 0.02 < np.abs(first - goals).mean() / 4


def test_all_candidates_and_one_clean_sample() -> None:
    rows, _ = match(torch.rand(6, 2, generator=seeded(0)), torch.tensor([0.5]), 6)
    assert sorted(rows.tolist()) == list(range(6))
