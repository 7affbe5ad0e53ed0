import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.defenses.parts.entropy import (
    normalise,
    prediction_entropy,
    smooth,
    split_by_mixture,
    split_by_threshold,
    threshold_at,
)

SCORES = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30).map(torch.tensor)


def entropy_of(logits: list[float]) -> float:
    """The formula in plain Python, with 0 log 0 = 0."""
    top = max(logits)
    weights = [math.exp(x - top) for x in logits]
    shares = [w / sum(weights) for w in weights]
    return -sum(p * math.log(p) for p in shares if p > 0) / len(logits)


def test_entropy_by_hand() -> None:
    # Shares 1/4, 3/4, then 1/2, 1/2; natural logarithm, mean over the classes.
    logits = torch.tensor([[0.0, math.log(3)], [5.0, 5.0]])
    by_hand = [(0.25 * math.log(4) + 0.75 * math.log(4 / 3)) / 2, math.log(2) / 2]
    assert prediction_entropy(logits).tolist() == pytest.approx(by_hand, abs=1e-6)


def test_a_share_of_zero_adds_nothing() -> None:
    # exp(-1000) is 0 in every float format: log of it would be -inf, and 0 * -inf NaN.
    scores = prediction_entropy(torch.tensor([[1000.0, 0.0, 0.0], [1000.0, 1000.0, 0.0]]))
    assert scores.tolist() == pytest.approx([0.0, math.log(2) / 3], abs=1e-7)


@given(st.integers(2, 10).flatmap(lambda c: st.lists(st.floats(-50, 50, width=32), min_size=c, max_size=c)))
@settings(max_examples=40)
def test_entropy_against_the_formula(logits: list[float]) -> None:
    score = prediction_entropy(torch.tensor([logits]))
    assert score.shape == (1,)
    assert float(score) == pytest.approx(entropy_of(logits), abs=1e-6)
    assert -1e-7 <= float(score) <= math.log(len(logits)) / len(logits) + 1e-6


def test_entropy_of_half_precision_logits_is_float32() -> None:
    scores = prediction_entropy(torch.tensor([[0.0, 2.0]], dtype=torch.bfloat16))
    assert scores.dtype == torch.float32
    assert float(scores) == pytest.approx(entropy_of([0.0, 2.0]), abs=1e-6)


def test_smoothing_by_hand() -> None:
    first = smooth(torch.tensor([1.0, 0.0]), None, 0.75)
    assert first.tolist() == [1.0, 0.0]
    second = smooth(torch.tensor([0.0, 1.0]), first, 0.75)
    assert second.tolist() == [0.25, 0.75]
    third = smooth(torch.tensor([1.0, 1.0]), second, 0.75)
    assert third.tolist() == [0.8125, 0.9375]


def test_smoothing_with_rate_1_forgets() -> None:
    assert smooth(torch.tensor([0.3]), torch.tensor([0.9]), 1.0).equal(torch.tensor([0.3]))


def test_min_max_by_hand() -> None:
    assert normalise(torch.tensor([2.0, 6.0, 3.0])).tolist() == [0.0, 1.0, 0.25]
    assert normalise(torch.tensor([-1.0, 1.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("scores", [[0.7], [0.3, 0.3, 0.3], [0.0, 0.0]])
def test_scores_that_are_all_equal_are_0_and_suspicious(scores: list[float]) -> None:
    normalised = normalise(torch.tensor(scores))
    assert normalised.tolist() == [0.0] * len(scores)
    assert not split_by_threshold(normalised, 0.0).any()


@given(SCORES)
@settings(max_examples=40)
def test_min_max_keeps_the_order_and_reaches_both_ends(scores: torch.Tensor) -> None:
    normalised = normalise(scores)
    assert ((normalised >= 0) & (normalised <= 1)).all()
    assert (normalised[scores.argsort()].diff() >= 0).all()
    if scores.max() - scores.min() > 1e-3:
        assert (float(normalised.min()), float(normalised.max())) == (0.0, 1.0)


def test_credible_is_strictly_above_the_threshold() -> None:
    assert split_by_threshold(torch.tensor([0.0, 0.5, 0.75, 1.0]), 0.5).tolist() == [False, False, True, True]
    assert not split_by_threshold(torch.tensor([0.0, 1.0]), 1.0).any()


def test_the_threshold_falls_as_in_the_authors_runs() -> None:
    assert [threshold_at(e, 1.0, 0.4, 0.2) for e in (1, 2, 3, 50)] == pytest.approx([0.6, 0.2, 0.2, 0.2])
    # The ImageNet subset: six rounds down to 0.4.
    by_hand = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4]
    assert [threshold_at(e, 1.0, 0.1, 0.4) for e in range(1, 8)] == pytest.approx(by_hand)


def two_clusters(low: int, high: int, scale: float = 1.0) -> torch.Tensor:
    draws = np.random.default_rng(0)
    values = np.concatenate([draws.normal(0.05, 0.01, low), draws.normal(0.8, 0.05, high)])
    return torch.tensor(values * scale, dtype=torch.float32)


@pytest.mark.parametrize(("low", "high"), [(50, 50), (5, 200), (200, 5)])
@pytest.mark.parametrize("scale", [1.0, 1e-4])  # entropies of sure networks are small
def test_the_mixture_parts_two_clear_clusters(low: int, high: int, scale: float) -> None:
    credible = split_by_mixture(two_clusters(low, high, scale), seed=3)
    assert credible.dtype == torch.bool
    assert credible.tolist() == [False] * low + [True] * high


def test_the_mixture_is_decided_by_its_seed_alone() -> None:
    scores = torch.rand(60, generator=torch.Generator().manual_seed(0))
    np.random.seed(0)  # noqa: NPY002  (sklearn's default is the global generator)
    before = np.random.get_state()[1]  # noqa: NPY002
    first = split_by_mixture(scores, seed=2**62 + 1)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert split_by_mixture(scores, seed=2**62 + 1).equal(first)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_constant_scores_cannot_be_split_and_are_suspicious(count: int) -> None:
    assert split_by_mixture(torch.full((count,), 0.4), seed=0).tolist() == [False] * count


@pytest.mark.parametrize("scores", [[0.1, 0.9], [0.1, 0.1, 0.1, 0.9], [0.1, 0.9, 0.9, 0.9]])
def test_two_different_scores_are_split_between_them(scores: list[float]) -> None:
    assert split_by_mixture(torch.tensor(scores), seed=0).tolist() == [s > 0.5 for s in scores]


def test_no_sample_is_credible_below_a_suspicious_one() -> None:
    # A broad component of high entropy must not claim what lies below the narrow one of low entropy.
    draws = np.random.default_rng(0)
    clusters = [draws.normal(0.3, 0.005, 100), draws.normal(0.7, 0.1, 400), [0.2, 0.25]]
    scores = torch.tensor(np.concatenate(clusters), dtype=torch.float32)
    credible = split_by_mixture(scores, seed=0)
    assert credible[scores.argsort()].int().diff().ge(0).all()
