"""What a race promises: the area that it would add, worked out by hand."""

import pytest

from sweeper.preset.objectives import Objective
from sweeper.search.promise import promise
from sweeper.search.race import Complete, Race, Rules, Run

ACC, ASR = Objective(metric="val_acc", direction="maximize"), Objective(metric="val_asr", direction="minimize")
RUNS = [Run("a", 0), Run("a", 1)]


def seen(acc: float, asr: float | None, interest: float | None = 0.5, *objectives: Objective) -> Race:
    """A race of which one training of two has finished, as accurate as its control but for ``acc``."""
    race = Race(Rules("bounds", interest, objectives or (ACC, ASR)), "here", {run: {} for run in RUNS})
    race.ended[RUNS[0]] = {"scenario": "a", "val_acc": acc, "val_asr": asr}
    return race


def complete(acc: float, asr: float, group: str = "here") -> Complete:
    return Complete("t", group, [acc, asr])


def test_nothing_is_complete_and_the_whole_rectangle_up_to_the_interest_counts() -> None:
    assert promise(seen(0.8, 0.1), []) == pytest.approx(0.8 * (0.5 - 0.1))
    assert promise(seen(0.8, 0.1, None), []) == pytest.approx(0.8 * (1 - 0.1)), "attackers know no interest"


def test_only_what_is_added_counts() -> None:
    known = [complete(0.8, 0.1), complete(0.9, 0.3)]
    assert promise(seen(0.85, 0.2), known) == pytest.approx((0.85 - 0.8) * (0.3 - 0.2))
    assert promise(seen(0.7, 0.0), known) == pytest.approx(0.7 * 0.1)
    assert promise(seen(0.8, 0.1), known) == pytest.approx(0)
    assert promise(seen(0.95, 0.6), known) == 0, "beyond the interest"


def test_trials_of_other_groups_are_not_compared() -> None:
    assert promise(seen(0.8, 0.1), [complete(0.9, 0.0, "elsewhere")]) == pytest.approx(0.8 * 0.4)


def test_what_a_trial_has_not_shown_counts_as_its_best() -> None:
    assert promise(seen(0.8, None), []) == pytest.approx(0.8 * 0.5)


def test_accuracy_is_relative_to_the_controls() -> None:
    """Scenarios differ in what is possible: the control of the missing training is less accurate."""
    race = seen(0.8, 0.1)
    race.controls = {RUNS[0]: {"val_acc": 0.9}, RUNS[1]: {"val_acc": 0.7}}
    assert promise(race, []) == pytest.approx((0.8 - 0.1) * 0.4)


def test_the_highest_attack_success_may_be_what_is_wanted_and_one_objective_is_enough() -> None:
    wanted = Objective(metric="val_asr", direction="maximize")
    assert promise(seen(0.8, 0.7, None, wanted), [Complete("t", "here", [0.4])]) == pytest.approx(0.3)


def test_further_axes_of_a_complete_trial_are_left_out() -> None:
    assert promise(seen(0.8, 0.1, 0.5, ACC), [complete(0.6, 0.0)]) == pytest.approx(0.2)
