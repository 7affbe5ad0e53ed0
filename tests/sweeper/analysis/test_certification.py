"""The test as a whole: verdicts, order, budget, and how often it is wrong."""

from collections.abc import Callable, Sequence
from math import ceil, log, sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sweeper.analysis.betting import mean_upper
from sweeper.analysis.certification import (
    CERTIFIED,
    GIVEN_UP,
    INACCURATE,
    REFUTED,
    SKIPPED,
    Certification,
    Terms,
)

quick = settings(max_examples=25, deadline=None)
terms = st.builds(Terms, st.sampled_from([0.05, 0.1, 0.3]), st.sampled_from([0.05, 0.2]), st.integers(1, 4))
some_losses = st.one_of(st.sampled_from([0.0, 0.02, 1.0]), st.floats(0, 1))
Source = Callable[[int, int], float]


def run(test: Certification, losses: Source, accuracy: float | None = 0.9) -> list[tuple[int, int]]:
    """Apply losses by candidate and number of the replicate until no turn is left; returns the turns."""
    turns = []
    while (turn := test.turn) is not None:
        turns.append(turn)
        test.apply(losses(*turn), accuracy)
    return turns


def drawn(seed: int, fails: Sequence[float]) -> Source:
    """Losses that depend on candidate and number alone: 1 in a share, else small."""

    def loss(candidate: int, number: int) -> float:
        rng = np.random.default_rng([seed, candidate, number])
        return 1.0 if rng.random() < fails[candidate] else float(rng.beta(1, 40))

    return loss


def verdicts(test: Certification) -> list[str | None]:
    return [candidate.verdict for candidate in test.candidates]


def state(test: Certification) -> object:
    return test.turn, test.spent, test.stakes, [vars(candidate) for candidate in test.candidates]


def test_one_candidate_without_losses_is_certified_with_the_fewest_replicates() -> None:
    test = Certification(Terms(0.1, 0.05, 1))
    assert test.least_left == 32
    assert run(test, lambda *_: 0.0) == [(0, number) for number in range(32)]
    assert (test.certified, test.decided, test.turn, test.least_left) == (0, True, None, 0)
    own = test.candidates[0]
    assert (own.verdict, own.stake, own.pilots, own.replicates, test.spent) == (CERTIFIED, 0.05, [], 32, 32)
    assert own.wealth == pytest.approx([1.1**n for n in range(1, 33)])


def test_one_loss_costs_as_many_replicates_as_the_table_says() -> None:
    test = Certification(Terms(0.1, 0.05, 1))
    assert len(run(test, lambda _, number: float(number == 20))) == 57
    assert test.certified == 0


def test_a_first_replicate_that_fails_ends_nothing_where_one_failure_is_little_evidence() -> None:
    """It leaves a tenth of the wealth, as much as the last candidate must have. 28: of the table of the procedure."""
    test = Certification(Terms(0.2, 0.05, 1))
    assert not test.ends(1.0)
    assert len(run(test, lambda _, number: float(number == 0))) == 28
    assert test.certified == 0


def test_the_first_of_several_has_pilots_and_a_stake_of_its_own() -> None:
    test = Certification(Terms(0.1, 0.05, 3))
    assert len(run(test, lambda *_: 0.0)) == 3 + ceil(log(1 / (0.005 + 0.7 * 0.035)) / log(1.1))
    assert verdicts(test) == [CERTIFIED, None, None]
    assert test.candidates[0].pilots == [0.0] * 3
    assert test.candidates[0].stake == pytest.approx(0.0295)


def test_candidates_whose_losses_are_all_1_are_skipped_and_the_last_is_given_up() -> None:
    test = Certification(Terms(0.1, 0.05, 3))
    assert run(test, lambda *_: 1.0) == [(0, 0), (1, 0), (2, 0)]
    assert verdicts(test) == [SKIPPED, SKIPPED, GIVEN_UP]  # the evidence for the opposite is 6, not yet 20
    assert (test.certified, test.decided, test.turn) == (None, True, None)


def test_strong_evidence_for_the_opposite_refutes() -> None:
    """A failure multiplies three bets against "at most 0.02" by 45.1, 25.5 and 10.8: mean 27, above 1 / 0.05."""
    for bound, losses, verdict in ((0.05, [1.0], GIVEN_UP), (0.2, [0.2, 1.0, 1.0], GIVEN_UP), (0.02, [1.0], REFUTED)):
        test = Certification(Terms(bound, 0.05, 1))
        for loss in losses:
            assert test.turn is not None
            test.apply(loss)
        opposite = np.mean([np.prod([1 + bet * (x - bound) / bound for x in losses]) for bet in (0.9, 0.5, 0.2)])
        assert (opposite >= 20) == (verdict == REFUTED)
        assert verdicts(test) == [verdict]


def test_an_inaccurate_candidate_is_left_after_its_pilots_and_keeps_no_stake() -> None:
    test = Certification(Terms(0.1, 0.05, 2, least_accuracy=0.8))
    for number in range(3):
        assert test.turn == (0, number)
        test.apply(0.0, 0.7)
    assert test.turn == (1, 0)
    assert run(test, lambda *_: 0.0, 0.8)[-1] == (1, 31)  # the other one stakes all of the error
    assert verdicts(test) == [INACCURATE, CERTIFIED]


def test_a_candidate_that_turns_out_inaccurate_at_the_end_gives_its_stake_back() -> None:
    test = Certification(Terms(0.1, 0.05, 2, least_accuracy=0.8))
    for _ in range(3):
        test.apply(0.0, 0.8)
    while test.turn is not None and test.turn[0] == 0:
        test.apply(0.0, 0.7 if test.candidates[0].losses else None)
    assert verdicts(test)[0] == INACCURATE
    assert test.candidates[1].stake == pytest.approx(0.05)
    only = Certification(Terms(0.1, 0.05, 1, least_accuracy=0.8))
    run(only, lambda *_: 0.0, 0.7)
    assert (verdicts(only), only.certified, only.decided) == ([INACCURATE], None, True)


def test_a_given_up_candidate_pays_for_what_it_lost_alone() -> None:
    """Two failures after 17 successes: 1.1 ** 17 / 100 of its stake is left, and goes to the reserve."""
    test = Certification(Terms(0.1, 0.05, 2))
    run_to_the_end = run(test, lambda k, n: float(k == 0 and n in (20, 21)))
    first, second = test.candidates
    assert first.verdict == GIVEN_UP
    assert first.wealth[-1] == pytest.approx(1.1**17 / 100)
    assert first.stake == pytest.approx(0.0075 + 0.7 * 0.035)
    assert second.stake == pytest.approx(0.05 - first.stake * (1 - first.wealth[-1]))
    assert (test.certified, run_to_the_end[-1][0]) == (1, 1)


@quick
@given(terms, st.integers(0, 1000), st.lists(st.sampled_from([0.0, 0.02, 0.3]), min_size=4, max_size=4))
def test_what_certified_holds(told: Terms, seed: int, fails: list[float]) -> None:
    test = Certification(told)
    turns = run(test, drawn(seed, fails))
    assert test.decided
    assert len(turns) == test.spent == sum(candidate.replicates for candidate in test.candidates)
    assert turns == sorted(turns)
    for number, own in enumerate(test.candidates):
        assert own.wealth == pytest.approx(
            np.cumprod([1 + 0.9 * (told.bound - x) / (1 - told.bound) for x in own.losses]).tolist()
        )
        if own.verdict == CERTIFIED:
            assert (test.certified, own.stake is not None) == (number, True)
            assert own.stake * own.wealth[-1] >= 1
            assert own.stake <= told.error + 1e-12
            assert mean_upper(own.losses, own.stake) <= told.bound + 1e-12
        elif own.stake is not None:
            assert max(own.wealth, default=1.0) * own.stake < 1
            assert len(own.losses) <= ceil(3 * log(1 / own.stake) / log(1 + 0.9 * told.bound / (1 - told.bound)))


@quick
@given(terms, st.lists(some_losses, max_size=150), st.floats(0, 1))
def test_a_loss_ends_a_replicate_if_it_and_all_higher_ones_put_the_candidate_out(
    told: Terms, losses: list[float], loss: float
) -> None:
    test = Certification(told)
    for before in losses:
        if test.decided:
            break
        test.apply(before)
    assume(test.turn is not None)
    assert test.turn is not None
    current, applied = test.turn[0], list(test.candidates)

    def out(last: float) -> bool:
        again = Certification(told)
        for own in applied:
            for known in (*own.pilots, *own.losses):
                again.apply(known)
        again.apply(last)
        return again.candidates[current].verdict not in (None, CERTIFIED)

    higher = [loss, (loss + 1) / 2, 1.0]
    assert test.ends(loss) == all(out(value) for value in higher) == out(loss)


@quick
@given(terms, st.lists(some_losses, min_size=1, max_size=150), st.data())
def test_what_happens_is_a_function_of_the_losses(told: Terms, losses: list[float], data: st.DataObject) -> None:
    """Of nothing that was asked between them, and of no training ahead."""
    one, other = Certification(told), Certification(told)
    for loss in losses:
        if one.turn is None:
            break
        one.apply(loss)
        for asked in data.draw(st.lists(st.floats(0, 1), max_size=2)):
            other.ends(asked)
        ahead = list(other.ahead())
        assert ahead[0] == other.turn
        assert len(set(ahead)) == len(ahead)
        other.apply(loss)
    assert state(one) == state(other)


def test_ahead_come_the_surely_needed_then_pilots_then_the_rest() -> None:
    test = Certification(Terms(0.1, 0.05, 3))
    ahead = list(test.ahead())
    sure = 3 + 37
    assert test.least_left == sure
    assert ahead[:sure] == [(0, number) for number in range(sure)]
    assert ahead[sure : sure + 3] == [(1, 0), (1, 1), (1, 2)]
    assert ahead[sure + 3 :] == [(0, number) for number in range(sure, 3 + 111)]  # 3 * 36.97 counted ones at most
    run(test, lambda *_: 0.0)
    assert list(test.ahead()) == []


# Budget


def certifiable(told: Terms, budget: int) -> bool:
    """Whether any losses of 0 and 1, given up at the first, certify within a budget: every skipping is tried."""
    for skipped in range(told.candidates):
        test = Certification(told, budget)
        run(test, lambda k, _, skipped=skipped: float(k < skipped))
        if test.certified is not None:
            assert test.spent <= budget
            return True
    return False


@pytest.mark.parametrize("count", [1, 2, 3, 10])
@pytest.mark.parametrize("trainings", [1, 4])
@pytest.mark.parametrize("bound", [0.1, 0.3])
def test_with_fewer_trainings_than_any_certificate_needs_nothing_is_tested(
    count: int, trainings: int, bound: float
) -> None:
    told = Terms(bound, 0.05, count, trainings=trainings)
    least = told.least_trainings()
    assert least == next(budget for budget in range(1, 1000) if certifiable(told, budget))
    assert Certification(told, least - 1).turn is None
    assert not Certification(told, least - 1).decided
    assert Certification(told, least).turn is not None


@quick
@given(
    terms, st.integers(10, 200), st.integers(0, 1000), st.lists(st.sampled_from([0, 0.1, 0.4]), min_size=4, max_size=4)
)
def test_without_a_turn_nothing_could_be_certified_any_more(
    told: Terms, budget: int, seed: int, fails: list[float]
) -> None:
    """What comes when the budget ends: if everything after it were lossless, no candidate left would get there."""
    test = Certification(told, budget)
    losses = drawn(seed, fails)
    while (turn := test.turn) is not None:
        hopeful = Certification(told, budget)
        for own in test.candidates:
            for known in (*own.pilots, *own.losses):
                hopeful.apply(known)
        assert state(hopeful) == state(test)
        run(hopeful, lambda *_: 0.0)
        assert hopeful.certified is not None
        assert hopeful.spent <= budget
        test.apply(losses(*turn))
    assert test.spent <= budget
    if not test.decided:
        test.allow(test.spent + test.least_left)
        assert test.spent + test.least_left > budget


@quick
@given(st.integers(0, 1000), st.integers(30, 120))
def test_a_raised_budget_goes_on_where_the_other_ended(seed: int, budget: int) -> None:
    told, losses = Terms(0.1, 0.05, 1), drawn(seed, [0.03])
    whole, parts = Certification(told), Certification(told, budget)
    first = run(parts, losses)
    before = state(parts)
    parts.allow(budget)
    assert state(parts) == before
    parts.allow(None)
    assert first + run(parts, losses) == run(whole, losses)
    assert state(parts) == state(whole)


def test_a_budget_that_suffices_for_the_last_alone_turns_to_it() -> None:
    test = Certification(Terms(0.1, 0.05, 3), 32)
    assert (test.turn, verdicts(test)) == ((2, 0), [SKIPPED, SKIPPED, None])
    run(test, lambda *_: 0.0)
    assert (test.certified, test.spent) == (2, 32)
    late = Certification(Terms(0.1, 0.05, 3), 31)
    assert (late.turn, late.decided, verdicts(late)) == (None, False, [None] * 3)
    late.allow(40)
    assert late.turn == (0, 0)


def test_replicates_that_ended_early_leave_trainings_to_others() -> None:
    test = Certification(Terms(0.1, 0.05, 2, trainings=4), 4 * 40)
    test.apply(1.0, 0.9, 1)
    assert (test.spent, test.turn) == (1, (1, 0))
    run(test, lambda *_: 0.0)
    assert (test.certified, test.spent) == (1, 1 + 4 * 32)


# Errors


@pytest.mark.parametrize("count", [1, 3])
def test_it_is_rarely_wrong_and_not_idle(count: int) -> None:
    """Where no setting is good. It fails for stakes of the whole error for each candidate, and for full refunds."""
    error, sweeps, wrong = 0.2, 1200, 0
    rng = np.random.default_rng(7)
    for losses in (rng.random((sweeps, count, 80)) < 0.2).astype(float).tolist():
        test = Certification(Terms(0.2, error, count))
        run(test, lambda k, n, losses=losses: losses[k][n])
        wrong += test.certified is not None
    assert 0.5 * error < wrong / sweeps <= error + 2 * sqrt(error * (1 - error) / sweeps)


def test_a_loss_that_was_not_seen_refutes_nothing() -> None:
    """A replicate that ended early counts as 1, to be on the safe side; that is no evidence for the opposite."""
    for ended, verdict in ((False, REFUTED), (True, GIVEN_UP)):
        test = Certification(Terms(0.045, 0.05, 1))
        for loss in (0.068, 0.072, 0.047, 0.070, 0.078, 0.063):
            test.apply(loss)
        assert test.ends(0.072)
        test.apply(1.0, ended=ended)
        assert (test.candidates[0].verdict, test.decided, test.certified) == (verdict, True, None)
