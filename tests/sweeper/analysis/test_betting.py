"""Wealth and bounds, against plain loops and closed forms."""

from collections.abc import Sequence
from itertools import permutations
from math import ceil, exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.analysis.betting import exceedance_upper, fewest, growth, mean_upper, mirrored, wealth

quick = settings(max_examples=25, deadline=None)
shares = st.floats(0, 1)
bounds = st.floats(0.01, 0.99)
many = st.lists(shares, max_size=25)


def by_hand(losses: Sequence[float], mean: float) -> float:
    found = 1.0
    for loss in losses:
        found *= 1 + 0.9 * (mean - loss) / (1 - mean)
    return found


def first_at(wanted: float, mean: float, losses: Sequence[float], rest: float) -> int:
    """Losses after which wealth is as wanted: these, then equal ones."""
    found, count = by_hand(losses, mean), len(losses)
    while found < wanted:
        found *= 1 + 0.9 * (mean - rest) / (1 - mean)
        count += 1
    return count


@pytest.mark.parametrize(
    ("bound", "error", "floor", "lossless", "slight", "with_failures"),
    [
        (0.05, 0.05, 59, 65, 107, (116, 167, 217)),
        (0.1, 0.05, 29, 32, 39, (57, 82, 107)),
        (0.1, 0.1, 22, 25, 30, (50, 75, 100)),
        (0.2, 0.05, 14, 15, 17, (28, 40, 52)),
        (0.2, 0.1, 11, 12, 13, (24, 37, 49)),
    ],
)
def test_as_many_losses_as_the_table_of_the_procedure_has(
    bound: float, error: float, floor: int, lossless: int, slight: int, with_failures: tuple[int, ...]
) -> None:
    assert floor == ceil(log(1 / error) / log(1 / (1 - bound)))  # any valid test needs as many
    assert fewest(bound, error) == lossless == first_at(1 / error, bound, [], 0.0) >= floor
    assert first_at(1 / error, bound, [], 0.02) == slight
    assert tuple(first_at(1 / error, bound, [1.0] * count, 0.0) for count in (1, 2, 3)) == with_failures
    for losses in ([0.0] * lossless, [0.02] * slight, [1.0] + [0.0] * (with_failures[0] - 1)):
        assert wealth(losses, bound) >= 1 / error
        assert wealth(losses[:-1], bound) < 1 / error


def test_growth_at_the_ends() -> None:
    for mean in (0.001, 0.1, 0.5, 0.999):
        assert growth(mean, mean) == 1
        assert growth(1.0, mean) == pytest.approx(0.1)  # nine tenths are staked
        assert growth(0.0, mean) == pytest.approx(1 + 0.9 * mean / (1 - mean))


def test_before_any_loss_wealth_is_one_and_nothing_is_known() -> None:
    assert wealth([], 0.3) == 1
    assert mean_upper([], 0.05) == 1
    assert exceedance_upper([], 0.1, 0.05) == 1


@quick
@given(many, bounds)
def test_wealth_is_a_product_in_any_order(losses: list[float], mean: float) -> None:
    assert wealth(losses, mean) == pytest.approx(by_hand(losses, mean), rel=1e-9)
    assert wealth(sorted(losses), mean) == pytest.approx(wealth(losses, mean), rel=1e-9)


def test_wealth_of_every_order() -> None:
    assert len({round(wealth(list(order), 0.2), 12) for order in permutations([0.0, 0.1, 0.4, 1.0])}) == 1


@quick
@given(many, bounds, st.data())
def test_lower_losses_never_give_less_wealth(losses: list[float], mean: float, data: st.DataObject) -> None:
    lower = [data.draw(st.floats(0, loss)) for loss in losses]
    assert wealth(lower, mean) >= wealth(losses, mean) * (1 - 1e-9)
    opposite, more = [1.0] * 3, [1.0] * 3
    for low, loss in zip(lower, losses, strict=True):
        opposite, more = mirrored(opposite, low, mean), mirrored(more, loss, mean)
    assert all(a <= b * (1 + 1e-9) for a, b in zip(opposite, more, strict=True))


@quick
@given(bounds, shares)
def test_a_loss_with_the_mean_itself_leaves_wealth_where_it_is_on_average(mean: float, more: float) -> None:
    """With a larger mean it falls, and against the opposite with a smaller one. Of all laws Bernoulli's is enough."""
    chance = mean + (1 - mean) * more
    expected = chance * growth(1.0, mean) + (1 - chance) * growth(0.0, mean)
    assert expected <= 1 + 1e-9
    if more == 0:
        assert expected == pytest.approx(1)
    chance = mean * (1 - more)
    for one, none in zip(mirrored([1.0] * 3, 1.0, mean), mirrored([1.0] * 3, 0.0, mean), strict=True):
        assert none >= 0
        assert chance * one + (1 - chance) * none <= 1 + 1e-9


def test_wealth_against_the_opposite_by_hand() -> None:
    found = [1.0, 1.0, 1.0]
    for loss in (1.0, 0.0, 0.3):
        found = mirrored(found, loss, 0.2)
    expected = [(1 + bet * 4) * (1 - bet) * (1 + bet / 2) for bet in (0.9, 0.5, 0.2)]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("error", [0.5, 0.05, 0.001])
@pytest.mark.parametrize("count", [1, 5, 32, 400])
def test_the_bound_of_equal_losses_has_a_closed_form(count: int, error: float) -> None:
    """Wealth (1 + 0.9 (m - x) / (1 - m)) ** n is 1 / error where (m - x) / (1 - m) = r, so m = (r + x) / (1 + r)."""
    ratio = (exp(log(1 / error) / count) - 1) / 0.9
    for loss in (0.0, 0.25, 0.9):
        assert mean_upper([loss] * count, error) == pytest.approx((ratio + loss) / (1 + ratio), abs=1e-12)
    assert mean_upper([1.0] * count, error) == 1  # also where the search comes next to 1


def test_one_failure_costs_as_much_as_the_closed_form_says() -> None:
    """A first loss of 1 leaves a tenth, whatever the mean: the rest must reach ten times as much."""
    assert mean_upper([1.0] + [0.0] * 50, 0.05) == pytest.approx(mean_upper([0.0] * 50, 0.005), abs=1e-12)


def test_the_bound_is_the_least_of_all_times() -> None:
    good, bad = [0.0] * 30, [1.0] * 5
    assert mean_upper(good + bad, 0.05) == mean_upper(good, 0.05)
    assert mean_upper(bad + good, 0.05) > mean_upper(good, 0.05)


@quick
@given(st.lists(shares, min_size=1, max_size=25), st.floats(0.001, 0.5), st.data())
def test_bounds_are_monotone(losses: list[float], error: float, data: st.DataObject) -> None:
    upper = mean_upper(losses, error)
    assert min(losses) < upper <= 1
    assert mean_upper([data.draw(st.floats(0, loss)) for loss in losses], error) <= upper + 1e-9
    assert mean_upper(losses, error / 2) >= upper - 1e-9
    assert mean_upper([*losses, data.draw(shares)], error) <= upper + 1e-9  # more is never less


@quick
@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=60), st.floats(0.05, 0.9), st.floats(0.001, 0.5))
def test_the_bound_keeps_every_mean_that_wealth_refutes(losses: list[float], bound: float, error: float) -> None:
    highest = max(by_hand(losses[: n + 1], bound) for n in range(len(losses)))
    if abs(highest * error - 1) > 1e-6:
        assert (mean_upper(losses, error) <= bound) == (highest >= 1 / error)


def test_exceedance_counts_losses_above_the_bound_alone() -> None:
    assert exceedance_upper([0.1] * 40, 0.1, 0.05) == mean_upper([0.0] * 40, 0.05)
    assert exceedance_upper([0.1, 0.11, 0.0], 0.1, 0.05) == mean_upper([0.0, 1.0, 0.0], 0.05)
    assert exceedance_upper([0.11] * 40, 0.1, 0.05) == 1


@pytest.mark.parametrize("mean", [1e-4, 1 - 1e-4])
def test_bounds_near_the_ends(mean: float) -> None:
    needed = fewest(mean, 0.05)
    assert wealth([0.0] * needed, mean) >= 20
    assert needed == 1 or wealth([0.0] * (needed - 1), mean) < 20
    assert mean_upper([0.0] * needed, 0.05) <= mean


def test_at_least_one_loss_is_needed() -> None:
    assert fewest(0.5, 0.999999) == 1
