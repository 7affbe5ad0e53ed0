"""How far models agree: figures worked out by hand, and laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sweeper.deploy.agreement import (
    OverPairs,
    agreement,
    cohens_kappa,
    jaccard_index,
    nearest,
    over_pairs,
    pair_matrix,
    same_class_share,
    suspicious_share,
)

CLASSES = np.array([[0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 0, 0]])
MARKS = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0]], bool)


def test_overlap_of_two_sets() -> None:
    assert jaccard_index(MARKS[0], MARKS[1]) == 2 / 3
    assert jaccard_index(MARKS[0], MARKS[2]) == 1 / 4
    assert jaccard_index(MARKS[1], ~MARKS[1]) == 0.0
    nobody = np.zeros(5, bool)
    assert jaccard_index(nobody, nobody) == 1.0
    assert jaccard_index(nobody, MARKS[0]) == 0.0


def test_agreement_beyond_chance() -> None:
    """Of four samples, three alike; by chance 0.5 * 0.75 + 0.5 * 0.25 = 0.5 would be."""
    assert cohens_kappa(CLASSES[0], CLASSES[1]) == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    assert cohens_kappa(np.array([0, 0]), np.array([0, 0])) == 1.0, "0/0, and yet they agree"
    assert cohens_kappa(np.array([0, 0]), np.array([1, 1])) == 0.0
    assert cohens_kappa(np.array([0, 1]), np.array([1, 0])) == -1.0


def test_figures_over_pairs_are_worked_out_by_hand() -> None:
    """Equal classes 3/4, 1/4, 2/4; overlaps 2/3, 1/4, 2/4; the second model is nearest to the others."""
    found = agreement(CLASSES, np.delete(MARKS, 4, axis=1))
    assert found.same_class == OverPairs(0.5, 0.25)
    assert found.jaccard == OverPairs(pytest.approx(17 / 36), 0.25)
    # by chance: first and second 0.5, first and third 0.5, second and third 0.75^2 + 0.25^2 = 0.625
    kappas = (0.5, -0.5, (0.5 - 0.625) / 0.375)
    assert found.kappa == OverPairs(pytest.approx(sum(kappas) / 3), -0.5)
    assert (found.marked_by_all, found.marked_by_any, found.nearest) == (1, 4, 1)
    assert found.low == ["kappa -0.11, below 0.8", "Jaccard 0.47, below 0.5"]
    assert found.figures() == {
        "agreement_mean": 0.5, "agreement_min": 0.25, "kappa_mean": pytest.approx(-1 / 9), "kappa_min": -0.5,
        "jaccard_mean": pytest.approx(17 / 36), "jaccard_min": 0.25, "marked_by_all": 1, "marked_by_any": 4,
    }  # fmt: skip
    assert suspicious_share(MARKS).tolist() == [2 / 3, 1.0, 2 / 3, 1 / 3, 0.0]


def test_no_model_marks_anything() -> None:
    found = agreement(CLASSES, np.zeros((3, 4), bool))
    assert (found.jaccard, found.marked_by_all, found.marked_by_any) == (OverPairs(1.0, 1.0), 0, 0)


def test_a_defense_without_verdicts_and_a_single_model_leave_figures_null() -> None:
    found = agreement(CLASSES, None)
    assert (found.jaccard, found.marked_by_all, found.marked_by_any, found.nearest) == (None, None, None, 1)
    alone = agreement(CLASSES[:1], MARKS[:1, :4])
    assert (alone.same_class, alone.kappa, alone.jaccard, alone.nearest, alone.low) == (None, None, None, 0, [])
    assert alone.figures() == {"marked_by_all": 2, "marked_by_any": 2}


def test_ties_are_broken_by_overlap_and_then_by_the_first() -> None:
    alike = np.array([[1, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 1]])
    overlaps = np.array([[1, 0.1, 0.3], [0.1, 1, 0.2], [0.3, 0.2, 1]])
    assert nearest(alike, overlaps) == 2
    assert nearest(alike, alike) == 0
    assert nearest(alike, None) == 0
    assert nearest(np.array([[1, 0.2], [0.2, 1]]), np.array([[1, 0.9], [0.9, 1]])) == 0, "two are equally near"


def test_rounding_breaks_no_tie() -> None:
    """The last three agree with the others on 11 samples of 7 in all; as sums of sevenths these are not all equal."""
    shares = np.array([[7, 0, 0, 1], [0, 7, 6, 5], [0, 6, 7, 5], [1, 5, 5, 7]]) / 7
    assert math.fsum(shares[3]) > math.fsum(shares[1])
    assert nearest(shares, None) == 1


@st.composite
def several_models(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 12)))
    return draw(arrays(np.int64, shape, elements=st.integers(0, 2))), draw(arrays(bool, shape))


@settings(deadline=None, max_examples=60)
@given(several_models(), st.randoms())
def test_figures_lie_in_their_ranges_and_know_no_order(models: tuple[np.ndarray, np.ndarray], random: object) -> None:
    classes, marks = models
    found = agreement(classes, marks)
    for pairs, least in ((found.same_class, 0.0), (found.jaccard, 0.0), (found.kappa, -1.0)):
        assert pairs is None or least <= pairs.lowest <= pairs.mean + 1e-12 <= 1 + 2e-12
    assert (found.same_class is None) == (len(classes) == 1)
    assert found.marked_by_all <= found.marked_by_any <= marks.shape[1]  # type: ignore[operator]
    order = list(range(len(classes)))
    random.shuffle(order)  # type: ignore[attr-defined]
    other = agreement(classes[order], marks[order])
    assert other.figures() == pytest.approx(found.figures())
    shares = pair_matrix(classes, same_class_share)
    assert shares[order[other.nearest]].sum() == pytest.approx(shares.sum(1).max()), "of equally near ones, any"


@settings(deadline=None, max_examples=30)
@given(several_models(), st.integers(2, 4))
def test_identical_models_agree_in_full_and_the_first_is_taken(
    models: tuple[np.ndarray, np.ndarray], count: int
) -> None:
    found = agreement(*(np.repeat(rows[:1], count, axis=0) for rows in models))
    assert (found.same_class, found.kappa, found.jaccard) == (OverPairs(1.0, 1.0),) * 3
    assert (found.nearest, found.marked_by_all == found.marked_by_any, found.low) == (0, True, [])


def test_there_is_no_mean_without_a_pair() -> None:
    assert over_pairs(np.eye(1)) is None
