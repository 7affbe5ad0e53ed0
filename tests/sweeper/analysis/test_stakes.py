"""Dividing the error, and the law that keeps it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.analysis.betting import growth
from sweeper.analysis.stakes import Stakes

quick = settings(max_examples=25, deadline=None)
errors = st.floats(0.001, 0.5)
counts = st.integers(1, 10)


def left(stakes: Stakes) -> float:
    return stakes.even + stakes.reserve


def test_one_candidate_stakes_everything() -> None:
    stakes = Stakes.of(0.05, 1)
    assert stakes.next == 0.05
    assert left(stakes.pay()) == 0


def test_stakes_by_hand() -> None:
    stakes = Stakes.of(0.1, 3)
    assert (stakes.even, stakes.reserve) == pytest.approx((0.03, 0.07))
    assert stakes.next == pytest.approx(0.01 + 0.049)
    stakes = stakes.pay()
    assert (stakes.even, stakes.reserve, stakes.remaining) == pytest.approx((0.02, 0.021, 2))
    stakes = stakes.refund(0.059, 0.5)
    assert (stakes.even, stakes.reserve, stakes.remaining) == pytest.approx((0.02, 0.0505, 2))
    stakes = stakes.skip()
    assert stakes.next == pytest.approx(0.0705)  # the last one stakes all that is left


@quick
@given(errors, counts, st.lists(st.sampled_from(["pay", "skip"]), min_size=10, max_size=10))
def test_without_refunds_stakes_never_sum_to_more_than_the_error(error: float, count: int, moves: list[str]) -> None:
    stakes, paid = Stakes.of(error, count), 0.0
    assert left(stakes) == pytest.approx(error)
    for move in moves[:count]:
        assert 0 < stakes.next <= left(stakes) + 1e-12
        if move == "pay":
            paid += stakes.next
            stakes = stakes.pay()
        else:
            stakes = stakes.skip()
        assert paid + left(stakes) == pytest.approx(error)
    if moves[count - 1] == "pay":
        assert paid == pytest.approx(error)  # and nothing is left unused


@quick
@given(errors, st.integers(2, 10), st.floats(0, 1e6))
def test_a_refund_never_exceeds_the_stake(error: float, count: int, wealth: float) -> None:
    stakes = Stakes.of(error, count)
    after = stakes.pay().refund(stakes.next, wealth)
    assert after.even == stakes.pay().even
    refund = left(after) - left(stakes.pay())
    assert refund == pytest.approx(stakes.next * min(wealth, 1.0), abs=1e-12)
    assert refund <= stakes.next + 1e-12
    assert left(after) <= error + 1e-12


@quick
@given(st.floats(0.02, 0.9), errors, counts, st.floats(0, 30), st.booleans())
def test_what_a_bad_candidate_can_win_is_never_more_on_average(
    bound: float, error: float, count: int, wealth: float, ended: bool
) -> None:
    """One step, computed exactly: a loss of 1 with the chance of the bound, else 0; then a refund or none."""
    stakes = Stakes.of(error, count)
    stake, rest = stakes.next, stakes.pay()
    before = left(rest) + stake * wealth

    def after(loss: float) -> float:
        new = wealth * growth(loss, bound)
        return left(rest.refund(stake, new)) if ended else left(rest) + stake * new

    assert bound * after(1.0) + (1 - bound) * after(0.0) <= before + 1e-12


@quick
@given(errors, st.integers(2, 10))
def test_paying_and_skipping_move_nothing_in_or_out(error: float, count: int) -> None:
    stakes = Stakes.of(error, count)
    assert left(stakes.pay()) + stakes.next * 1.0 == pytest.approx(left(stakes))
    assert left(stakes.skip()) == left(stakes)
