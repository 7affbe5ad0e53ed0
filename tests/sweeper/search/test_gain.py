"""What a trial would add: the area, worked out by hand."""

from dataclasses import replace

import pytest

from sweeper.preset.objectives import Constraint, Objective
from sweeper.search.gain import gain
from sweeper.search.race import Complete, Race, Rules, Run

ACC, ASR = Objective(metric="val_acc", direction="maximize"), Objective(metric="val_asr", direction="minimize")
RUNS = [Run("a", 0), Run("a", 1)]


def seen(acc: float, asr: float | None, interest: float | None = 0.5, *objectives: Objective) -> Race:
    """A race of which one training of two has finished, as accurate as its control but for ``acc``."""
    race = Race(Rules("bounds", interest, objectives or (ACC, ASR)), "here", {run: {} for run in RUNS})
    race.ended[RUNS[0]] = {"scenario": "a", "val_acc": acc, "val_asr": asr}
    return race


def complete(acc: float, asr: float) -> Complete:
    return Complete("t", "here", [acc, asr])


def test_nothing_is_complete_and_the_whole_rectangle_up_to_the_interest_counts() -> None:
    assert gain(seen(0.8, 0.1), []) == pytest.approx(0.8 * (0.5 - 0.1))
    assert gain(seen(0.8, 0.1, None), []) == pytest.approx(0.8 * (1 - 0.1)), "attackers know no interest"


def test_only_what_is_added_counts() -> None:
    known = [complete(0.8, 0.1), complete(0.9, 0.3)]
    assert gain(seen(0.85, 0.2), known) == pytest.approx((0.85 - 0.8) * (0.3 - 0.2))
    assert gain(seen(0.7, 0.0), known) == pytest.approx(0.7 * 0.1)
    assert gain(seen(0.8, 0.1), known) == pytest.approx(0)
    assert gain(seen(0.95, 0.6), known) == 0, "beyond the interest"


def test_a_trial_that_breaks_a_constraint_adds_nothing_and_an_unknown_figure_breaks_none() -> None:
    for bound, added in ((Constraint(metric="val_acc", min=0.85), 0.0), (Constraint(metric="val_acc", min=0.75), 0.32),
                         (Constraint(metric="control_asr", min=0.8), 0.32)):  # fmt: skip
        race = seen(0.8, 0.1)
        race.rules = replace(race.rules, constraints=[bound])
        race.ended[RUNS[0]] = {**race.ended[RUNS[0]], "control_asr": None}
        assert gain(race, []) == pytest.approx(added), bound


def test_the_interest_bounds_one_attack_objective() -> None:
    """As it does where trials leave: the first that is minimised."""
    excess = Objective(metric="val_asr_excess", direction="minimize")
    race = seen(0.8, 0.6, 0.5, ACC, excess, ASR)
    race.ended[RUNS[0]] = {**race.ended[RUNS[0]], "val_asr_excess": 0.1}
    assert gain(race, []) == pytest.approx(0.8 * (0.5 - 0.1) * (1 - 0.6))


def test_what_a_trial_has_not_shown_counts_as_its_best() -> None:
    assert gain(seen(0.8, None), []) == pytest.approx(0.8 * 0.5)


def test_accuracy_is_relative_to_the_controls() -> None:
    """Scenarios differ in what is possible: the control of the missing training is less accurate."""
    race = seen(0.8, 0.1)
    race.controls = {RUNS[0]: {"val_acc": 0.9}, RUNS[1]: {"val_acc": 0.7}}
    assert gain(race, []) == pytest.approx((0.8 - 0.1) * 0.4)


def test_the_highest_attack_success_may_be_what_is_wanted_and_one_objective_is_enough() -> None:
    wanted = Objective(metric="val_asr", direction="maximize")
    assert gain(seen(0.8, 0.7, None, wanted), [Complete("t", "here", [0.4])]) == pytest.approx(0.3)


def test_further_axes_of_a_complete_trial_are_left_out() -> None:
    assert gain(seen(0.8, 0.1, 0.5, ACC), [complete(0.6, 0.0)]) == pytest.approx(0.2)
