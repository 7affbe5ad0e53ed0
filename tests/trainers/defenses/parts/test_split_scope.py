"""Scores compared within each given label."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.defenses.parts.entropy import normalise
from trainers.defenses.parts.isolation import isolate
from trainers.defenses.parts.split_scope import normalise_within, rank_within

SETS = st.lists(st.tuples(st.integers(0, 4), st.floats(-100, 100, width=32)), min_size=2, max_size=60)


def columns(pairs: list[tuple[int, float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and scores."""
    labels, scores = zip(*pairs, strict=True)
    return torch.tensor(labels), torch.tensor(scores)


def test_min_max_of_each_label_by_hand() -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    scores = torch.tensor([2.0, 10.0, 6.0, 30.0, 3.0, 15.0])
    assert normalise_within(scores, labels).tolist() == [0.0, 0.0, 1.0, 1.0, 0.25, 0.25]


def test_a_label_that_says_nothing_keeps_its_place_in_the_whole_set() -> None:
    """One sample alone; and two of equal score. A label between them has no sample at all."""
    labels = torch.tensor([0, 0, 1, 4, 4])
    scores = torch.tensor([0.0, 10.0, 7.0, 2.0, 2.0])
    assert normalise_within(scores, labels).tolist() == pytest.approx([0.0, 1.0, 0.7, 0.2, 0.2])


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_scores_that_are_all_equal_are_0_as_over_the_whole_set(labels: list[int]) -> None:
    assert normalise_within(torch.full((3,), 0.3), torch.tensor(labels)).tolist() == [0.0] * 3


def test_rounding_is_not_what_a_label_says() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1])
    scores = torch.tensor([0.5, 0.5 + 2**-23, 0.5, 0.9, 0.1])
    assert scores[0] < scores[1]
    assert normalise_within(scores, labels).tolist() == pytest.approx([0.5, 0.5, 0.5, 1.0, 0.0])
    scores[1] = 0.5001
    assert normalise_within(scores, labels).tolist() == pytest.approx([0.0, 1.0, 0.0, 1.0, 0.0])


@given(SETS)
def test_each_label_that_says_something_reaches_both_ends_in_order(pairs: list[tuple[int, float]]) -> None:
    labels, scores = columns(pairs)
    within = normalise_within(scores, labels)
    assert ((within >= 0) & (within <= 1)).all()
    for label in labels.unique():
        own, values = scores[labels == label].double().numpy(), within[labels == label].double().numpy()
        if own.max() - own.min() > 1e-3:
            assert np.allclose(values, (own - own.min()) / (own.max() - own.min()), atol=1e-3)
            assert (values.min(), values.max()) == (0.0, 1.0)


@given(SETS)
def test_with_one_label_it_is_the_whole_set(pairs: list[tuple[int, float]]) -> None:
    _, scores = columns(pairs)
    assert normalise_within(scores, torch.zeros(len(scores), dtype=torch.int64)).equal(normalise(scores))


def test_ranks_of_each_label_by_hand() -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 0, 2])
    scores = torch.tensor([5.0, -1.0, 2.0, -3.0, 2.0, -2.0, 9.0, 0.0])
    # In eighths and sixths: 5 (third of four), 5 (third of three), 1, 1, 3 (ties go by order), 3, 7 (fourth); one alone
    # is in the middle, as the second of three, which has a lower score.
    assert rank_within(scores, labels).tolist() == [5, 6, 0, 1, 2, 3, 7, 4]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_says_nothing_where_scores_differ(given: list[int], random: Random) -> None:
    """Labels of the same size too, whose ranks give the same fractions."""
    labels = torch.tensor(given * 3)
    scores = torch.tensor(random.sample(range(1000), len(labels))).float()
    order = torch.tensor(random.sample(range(len(labels)), len(labels)))
    within = rank_within(scores, labels)
    assert rank_within(scores[order], labels[order]).equal(within[order])
    assert within.sort().values.tolist() == list(range(len(labels)))


def test_of_labels_of_the_same_size_those_with_the_lowest_scores_give_up_a_sample_first() -> None:
    labels = torch.arange(10).repeat_interleave(30)
    scores = 1 + torch.rand(300, generator=torch.Generator().manual_seed(0))
    scores[labels >= 7] -= 1
    suspicious = isolate(rank_within(scores, labels), "rate", 0.01, 0)
    assert labels[suspicious].tolist() == [7, 8, 9]


@given(SETS, st.floats(0.05, 0.95))
def test_the_lowest_share_of_ranks_is_that_share_of_each_label(pairs: list[tuple[int, float]], rate: float) -> None:
    labels, scores = columns(pairs)
    wanted = round(rate * len(scores))
    if not 0 < wanted < len(scores):
        return
    suspicious = isolate(rank_within(scores, labels), "rate", rate, 0)
    assert int(suspicious.sum()) == wanted
    for label in labels.unique():
        own, taken = scores[labels == label], suspicious[labels == label]
        if taken.any() and not taken.all():
            assert own[taken].max() <= own[~taken].min(), "the lowest of the label"
    # No label gives up more than one sample before another has given up as large a share.
    counts = torch.bincount(labels)
    given_up = torch.bincount(labels[suspicious], minlength=len(counts))
    next_ones = ((given_up + 0.5) / counts)[(counts > 0) & (given_up < counts)]
    last_ones = ((given_up - 0.5) / counts)[given_up > 0]
    assert last_ones.max() <= next_ones.min() + 1e-6


def test_of_a_small_label_a_rate_may_take_nothing() -> None:
    labels = torch.tensor([0] * 97 + [1] * 3)
    suspicious = isolate(rank_within(torch.arange(100.0).flip(0), labels), "rate", 0.1, 0)
    assert (int(suspicious[:97].sum()), int(suspicious[97:].sum())) == (10, 0)
    assert isolate(torch.arange(100.0).flip(0), "rate", 0.1, 0)[97:].all(), "over the whole set it would go whole"
