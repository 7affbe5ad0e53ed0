"""The race of a trial, on figures made up here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.preset.objectives import Constraint, Objective
from sweeper.search.race import Complete, Experience, Mode, Race, Rules, Run

ACC, ASR = Objective(metric="val_acc", direction="maximize"), Objective(metric="val_asr", direction="minimize")


def rules(mode: Mode = "bounds", interest: float | None = 0.5, **changes: Any) -> Rules:
    return Rules(mode, interest, **{"objectives": (ACC, ASR), **changes})


def race(told: Rules, scenarios: str = "ab", seeds: int = 2, control: float | None = 0.9, **before: Any) -> Race:
    """Scenarios named by single letters, with controls of equal accuracy."""
    made = Race(told, "", {Run(k, s): before for k in scenarios for s in range(seeds)})
    if control is not None:
        made.controls = {run: {"val_acc": control, "val_asr": 1.0} for run in made.missing}
    return made


def row(scenario: str, acc: float, asr: float | None, **others: Any) -> dict[str, Any]:
    return {"scenario": scenario, "val_acc": acc, "val_asr": asr, **others}


def see(told: Race, **figures: Sequence[tuple[float, float]]) -> Race:
    """Let trainings finish: by scenario, accuracy and attack success of its seeds from 0."""
    for scenario, values in figures.items():
        for seed, (acc, asr) in enumerate(values):
            told.ended[Run(scenario, seed)] = row(scenario, acc, asr)
    return told


def why(told: Race, complete: Iterable[Complete] = (), experience: Experience | None = None) -> str | None:
    left = told.leaves(complete, experience or Experience(), "a")
    return None if left is None else left.reason


# When a trial leaves


def test_a_trial_leaves_once_its_attack_success_must_end_above_the_interest() -> None:
    """Of two seeds, one at 1.0 leaves a mean of 0.5 or more, which is not above 0.5; a second one above 0 is."""
    assert why(see(race(rules()), a=[(0.8, 1.0)])) is None
    assert (
        why(see(race(rules()), a=[(0.8, 1.0), (0.8, 0.02)])) == "val_asr is at least 0.510, above the interest of 0.5"
    )
    assert (
        why(see(race(rules(interest=0.49)), a=[(0.8, 1.0)])) == "val_asr is at least 0.500, above the interest of 0.49"
    )
    assert why(see(race(rules(interest=None)), a=[(0.8, 1.0)] * 2)) is None, "attackers have no such interest"


def test_the_mean_over_scenarios_counts_if_the_objective_says_so() -> None:
    mean = Objective(metric="val_asr", direction="minimize", aggregate="mean")
    told = rules(objectives=(ACC, mean), interest=0.45)
    assert why(see(race(told, seeds=1), a=[(0.8, 0.9)])) is None, "(0.9 + 0) / 2 is 0.45"
    assert why(see(race(told, seeds=1), a=[(0.8, 0.92)])) is not None


def test_nothing_is_left_of_a_trial_that_is_complete() -> None:
    assert why(see(race(rules(), seeds=1), a=[(0.1, 1.0)], b=[(0.1, 1.0)])) is None


@pytest.mark.parametrize(
    ("acc", "asr", "leaves"),
    [
        (0.861, 0.1, True),  # (0.8 + 0.92) / 2 is the accuracy that the trial can still reach
        (0.859, 0.1, False),
        (0.861, 0.105, True),  # attack success within the tolerance
        (0.861, 0.106, False),
        (1.0, 0.0, True),
    ],
)
def test_a_trial_leaves_when_a_complete_one_is_as_good_as_it_can_become(acc: float, asr: float, leaves: bool) -> None:
    told = see(race(rules(), seeds=1), a=[(0.8, 0.1)])
    reason = why(told, [Complete("t0003", "", (acc, asr))])
    assert reason == ("t0003 is at least as good as it can become" if leaves else None)


def test_trials_of_other_groups_and_undefined_objectives_dominate_nothing() -> None:
    told = see(race(rules(), seeds=1), a=[(0.8, 0.1)])
    assert why(told, [Complete("t0003", "rate=0.1", (1.0, 0.0))]) is None
    clean = race(rules(), seeds=1, val_asr=None)
    clean.ended[Run("a", 0)] = row("a", 0.8, None)
    assert why(clean, [Complete("t0003", "", (1.0, 0.0))]) is None


def test_without_a_control_a_missing_training_may_be_perfect() -> None:
    told = see(race(rules(), seeds=1, control=None), a=[(0.8, 0.1)])
    assert told.best(Experience()) == [pytest.approx(0.9), pytest.approx(0.1)]
    told.controls[Run("b", 0)] = {"val_acc": 0.5, "val_asr": 1.0}
    assert told.best(Experience()) == [pytest.approx((0.8 + 0.52) / 2), pytest.approx(0.1)]
    told.controls[Run("b", 0)] = {"val_acc": 0.99, "val_asr": 1.0}
    assert told.best(Experience()) == [pytest.approx(0.9), pytest.approx(0.1)], "no accuracy is above 1"


@pytest.mark.parametrize(
    ("constraint", "broken"),
    [
        ({"metric": "images_seen", "max": 100}, True),  # (210 + 0) / 2
        ({"metric": "images_seen", "max": 105}, False),
        ({"metric": "images_seen", "min": 1000}, False),  # the other may see any number
        ({"metric": "val_acc", "min": 0.87}, True),  # (0.8 + 0.92) / 2
        ({"metric": "val_acc", "min": 0.86}, False),
        ({"metric": "detection_auroc", "min": 0.76}, True),  # (0.5 + 1) / 2
        ({"metric": "detection_auroc", "min": 0.75}, False),
        ({"metric": "val_min_class_acc", "min": 0.2}, True),  # of the worst scenario, which is known
        ({"metric": "val_min_class_acc", "max": 0.1}, False),
        ({"metric": "val_asr", "max": 0.05}, True),
        ({"metric": "poison_rate", "max": 0.05}, True),  # known before
        ({"metric": "poison_rate", "max": 0.1}, False),
    ],
)
def test_a_trial_leaves_when_a_constraint_is_broken_for_sure(constraint: dict[str, Any], broken: bool) -> None:
    told = race(rules(constraints=[Constraint(**constraint)]), seeds=1, poison_rate=0.1)
    others = {"images_seen": 210, "detection_auroc": 0.5, "val_min_class_acc": 0.1, "poison_rate": 0.1}
    told.ended[Run("a", 0)] = row("a", 0.8, 0.1, **others)
    assert (why(told) is not None) == broken


def test_what_broke_a_constraint_is_said() -> None:
    told = race(rules(constraints=[Constraint(metric="images_seen", max=100)]), seeds=1)
    told.ended[Run("a", 0)] = row("a", 0.8, 0.1, images_seen=300)
    assert why(told) == "images_seen cannot be at most 100 any more"


def test_an_attackers_trial_leaves_when_a_complete_one_succeeds_at_least_as_often_with_as_little_poison() -> None:
    objectives = (
        Objective(metric="val_asr", direction="maximize"), Objective(metric="poison_rate", direction="minimize"),
    )  # fmt: skip
    told = see(race(rules(objectives=objectives, interest=None), poison_rate=0.05), a=[(0.8, 0.3), (0.8, 0.3)])
    for values, leaves in (((0.3, 0.05), True), ((0.28, 0.05), False), ((0.3, 0.06), False), ((0.295, 0.01), True)):
        assert (why(told, [Complete("t0003", "", values)]) is not None) == leaves, values


# The learned ceiling


def test_the_learned_ceiling_follows_what_the_trial_has_shown() -> None:
    """Worked out anew: distance to the control, and two standard errors of its mean over seen and missing."""
    told = see(race(rules("learned"), "abc", seeds=2), a=[(0.60, 0.1), (0.64, 0.1)])
    distance = ((0.60 - 0.9) + (0.64 - 0.9)) / 2
    ceiling = 0.9 + distance + 2 * 0.1 * sqrt(1 / 2 + 1 / 4)
    assert told.best(Experience())[0] == pytest.approx(((0.60 + 0.64) / 2 + 2 * ceiling) / 3)
    known = Experience()
    for trial in ([-0.1, -0.2], [-0.3, -0.1, -0.2], [0.0]):
        known.add_complete({"val_acc": trial})
    pooled = sqrt((stdev([-0.1, -0.2]) ** 2 + 2 * stdev([-0.3, -0.1, -0.2]) ** 2) / 3)
    assert known.spread("val_acc") == pytest.approx(pooled)
    ceiling = 0.9 + distance + 2 * pooled * sqrt(1 / 2 + 1 / 4)
    assert told.best(known)[0] == pytest.approx(((0.60 + 0.64) / 2 + 2 * ceiling) / 3)


def test_the_learned_ceiling_is_never_above_that_of_the_bounds() -> None:
    seen = {"a": [(0.9, 0.1)]}
    by_bounds = see(race(rules()), **seen).best(Experience())
    assert see(race(rules("learned")), **seen).best(Experience()) == by_bounds


def test_a_spread_is_assumed_until_three_trials_are_complete() -> None:
    known = Experience()
    for _ in range(2):
        known.add_complete({"val_acc": [0.0, 0.0]})
        assert known.spread("val_acc") == 0.1
    known.add_complete({"val_acc": [0.0, 0.0]})
    assert (known.spread("val_acc"), known.spread("val_balanced_acc")) == (0.0, 0.1)


def test_what_samplers_are_told_of_a_trial_that_left() -> None:
    """Accuracy: that of all its controls, plus its mean distance to those it met."""
    told = see(race(rules(), seeds=1), a=[(0.5, 0.7)])
    told.controls[Run("b", 0)] = {"val_acc": 0.7, "val_asr": 1.0}
    assert told.expected() == [pytest.approx(0.8 - 0.4), 0.7]
    told.controls.clear()
    assert told.expected() == [0.5, 0.7]


# The order


def order(told: Race, experience: Experience, outcome: Callable[[Run], float] = lambda _run: 0.0) -> list[Run]:
    """The trainings one after the other, each with an attack success."""
    found = []
    while (run := told.next(experience)) is not None:
        found.append(run)
        told.ended[run] = row(run.scenario, 0.8, outcome(run))
    return found


def test_seed_after_seed_and_as_in_the_preset_while_nothing_is_learned() -> None:
    assert order(race(rules()), Experience()) == [Run("a", 0), Run("b", 0), Run("a", 1), Run("b", 1)]


def test_the_scenario_that_ended_most_trials_per_second_comes_first() -> None:
    known = Experience()
    for scenario, ended, seconds in (("a", True, 10.0), ("a", False, 10.0), ("b", True, 10.0), ("b", True, 10.0)):
        known.add_training(scenario, seconds)
        if ended:
            known.add_ending(scenario)
    assert [run.scenario for run in order(race(rules(), seeds=1), known)] == ["b", "a"]
    known.add_training("b", 100.0)
    known.add_ending("b")  # now 40 s each: (3.5 / 4) / 40 < (1.5 / 3) / 10
    assert [run.scenario for run in order(race(rules(), seeds=1), known)] == ["a", "b"]


def test_a_scenario_that_was_never_trained_counts_with_the_usual_seconds() -> None:
    known = Experience()
    for _ in range(4):
        known.add_training("a", 20.0)
    assert known.promise("b") == pytest.approx(0.5 / 20)
    assert known.promise("a") == pytest.approx(0.5 / 5 / 20)


def test_whoever_is_losing_is_finished_off() -> None:
    """Scenario b comes out above the interest, and is repeated before a, as long as it may still end the trial."""
    found = order(race(rules(), "ab", seeds=3), Experience(), lambda run: 0.6 if run.scenario == "b" else 0.0)
    assert found == [Run("a", 0), Run("b", 0), Run("b", 1), Run("b", 2), Run("a", 1), Run("a", 2)]
    # 0.6 + 0.0 + at most 1.0 are not above 3 * 0.6.
    found = order(race(rules(interest=0.59), "ab", seeds=3), Experience(), lambda run: {Run("b", 0): 0.6}.get(run, 0.0))
    assert found == [Run("a", 0), Run("b", 0), Run("b", 1), Run("a", 1), Run("a", 2), Run("b", 2)]


def test_what_runs_is_not_begun_again() -> None:
    told = race(rules())
    assert told.next(Experience(), [Run("a", 0), Run("b", 0)]) == Run("a", 1)
    assert told.next(Experience(), told.missing) is None


# The law: with bounds, the frontier below the interest is that of the full sweep, to within the tolerance


Figures = Mapping[Run, tuple[float, float]]
SHARE = st.integers(0, 20).map(lambda n: n / 20)


@st.composite
def populations(draw: st.DrawFn) -> tuple[list[Figures], float]:
    """Settings whose trainings are at most as accurate as their control, 0.9, plus 0.02; and an interest."""
    runs = [Run(k, s) for k, s in product("abc"[: draw(st.integers(1, 3))], range(draw(st.integers(1, 3))))]
    accuracies = st.integers(0, 23).map(lambda n: n / 25)
    figures = st.fixed_dictionaries({run: st.tuples(accuracies, SHARE) for run in runs})
    return draw(st.lists(figures, min_size=1, max_size=6)), draw(SHARE)


def values_of(figures: Figures) -> tuple[float, float]:
    """Mean accuracy, and the worst scenario's mean attack success, by a formula of its own."""
    by_scenario: dict[str, list[float]] = {}
    for run, (_, asr) in figures.items():
        by_scenario.setdefault(run.scenario, []).append(asr)
    by_acc: dict[str, list[float]] = {}
    for run, (acc, _) in figures.items():
        by_acc.setdefault(run.scenario, []).append(acc)
    return fmean(map(fmean, by_acc.values())), max(map(fmean, by_scenario.values()))


@settings(deadline=None)
@given(populations())
def test_with_bounds_nothing_of_interest_is_lost(drawn: tuple[list[Figures], float]) -> None:
    population, interest = drawn
    told, known = rules(interest=interest), Experience()
    complete: list[Complete] = []
    for number, figures in enumerate(population):
        running = Race(told, "", {run: {} for run in figures})
        running.controls = {run: {"val_acc": 0.9, "val_asr": 1.0} for run in figures}
        while (run := running.next(known)) is not None:
            acc, asr = figures[run]
            running.ended[run] = row(run.scenario, acc, asr)
            left = running.leaves(complete, known, run.scenario)
            known.add_training(run.scenario, 1.0)
            if left is not None:
                known.add_ending(left.scenario)
                break
        else:
            complete.append(Complete(str(number), "", values_of(figures)))
    for figures in population:
        acc, asr = values_of(figures)
        if asr <= interest - 1e-9:
            as_good = [c for c in complete if c.values[0] >= acc - 1e-9 and c.values[1] <= asr + 0.005 + 1e-9]
            assert as_good, "a setting of interest was lost, and none as good was measured"


# The frontier's axes


def test_what_could_be_on_the_frontier_stays_whatever_the_objectives_are() -> None:
    """Accuracy alone is an objective: the complete trial is more accurate, and its trigger works."""
    told = see(race(rules(objectives=(ACC,), axes=(ASR,))), a=[(0.5, 0.0)])
    assert told.best(Experience()) == [pytest.approx((0.5 + 3 * 0.92) / 4), 0.0]
    assert why(told, [Complete("t0003", "", (1.0, 0.5))]) is None
    assert why(told, [Complete("t0003", "", (1.0, 0.0))]) is not None
    assert told.expected() == [pytest.approx(0.9 + 0.5 - 0.9)], "samplers are told objectives alone"
