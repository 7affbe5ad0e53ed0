"""Isolation by loss or entropy, and bounded unlearning."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.defenses.parts.isolation import isolate, isolated_count, sample_losses
from trainers.defenses.parts.unlearning import bounded_ascent
from trainers.errors import ConfigError


def test_losses_are_those_of_each_sample() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
    shares = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    expected = [-np.log(shares[0, 2]), np.log(3)]
    assert sample_losses(logits, torch.tensor([2, 0])).tolist() == pytest.approx(expected, rel=1e-6)


@given(st.lists(st.floats(0, 10), min_size=2, max_size=60), st.floats(0.01, 0.99))
def test_the_lowest_share_is_isolated(scores: list[float], rate: float) -> None:
    count = round(rate * len(scores))
    if not 0 < count < len(scores):
        with pytest.raises(ConfigError, match="leaves none on one side"):
            isolate(torch.tensor(scores), "rate", rate, 0)
        return
    suspicious = isolate(torch.tensor(scores), "rate", rate, 0).numpy()
    assert suspicious.sum() == count
    known = np.float32(scores)
    assert known[suspicious].max() <= known[~suspicious].min()


def test_ties_are_isolated_in_order() -> None:
    assert isolate(torch.zeros(5), "rate", 0.4, 0).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(("rate", "samples"), [(0.01, 49), (0.99, 50), (0.5, 1)])
def test_a_rate_that_leaves_nobody_on_one_side_is_one_sentence(rate: float, samples: int) -> None:
    with pytest.raises(ConfigError, match=rf"isolation_rate of {rate:g} isolates \d+ of {samples} samples.*allowed is"):
        isolated_count(rate, samples)


def test_a_mixture_finds_two_groups_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    low, high = torch.rand(30, generator=generator) * 0.1, 2 + torch.rand(170, generator=generator)
    suspicious = isolate(torch.cat([low, high]), "gmm", 0.5, 0)
    assert suspicious.tolist() == [True] * 30 + [False] * 170


def test_the_ascent_ends_at_its_ceiling() -> None:
    losses = torch.tensor([0.5, 3.0, 9.0], requires_grad=True)
    found = bounded_ascent(losses, 3.5)
    assert found.item() == pytest.approx(-(0.5 + 3.0 + 3.5) / 3)
    (slope,) = torch.autograd.grad(found, losses)
    assert slope.tolist() == pytest.approx([-1 / 3, -1 / 3, 0])
    assert bounded_ascent(losses[:0], 3.5).item() == 0


def test_repeated_ascent_stops_at_the_ceiling_and_stays_finite() -> None:
    logits = torch.tensor([[1.0, 0.0]], requires_grad=True)
    optimizer = torch.optim.SGD([logits], 0.1)
    seen = []
    for _ in range(200):
        losses = sample_losses(logits, torch.tensor([0]))
        seen.append(losses.item())
        optimizer.zero_grad()
        bounded_ascent(losses, 2.0).backward()
        optimizer.step()
    assert seen[0] < 0.5
    assert seen == sorted(seen)
    assert 2.0 <= seen[-1] < 2.2
    assert seen[-1] == seen[-2], "nothing moves any more"
