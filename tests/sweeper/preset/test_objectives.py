from typing import Any

import pytest

from sweeper.preset.objectives import Constraint, Objective

ROWS: list[dict[str, Any]] = [
    {"scenario": "badnets", "val_acc": 0.9, "val_asr": 0.1, "control_asr": 1.0, "detection_auroc": None},
    {"scenario": "badnets", "val_acc": 0.7, "val_asr": 0.3, "control_asr": 0.9, "detection_auroc": None},
    {"scenario": "blend", "val_acc": 0.6, "val_asr": 0.5, "control_asr": 0.8, "detection_auroc": None},
    {"scenario": "blend", "val_acc": 0.4, "val_asr": None, "control_asr": 0.6, "detection_auroc": 0.75},
]  # means of badnets: 0.8, 0.2, 0.95, undefined; of blend: 0.5, 0.5, 0.7, 0.75


@pytest.mark.parametrize(
    ("metric", "direction", "aggregate", "expected"),
    [
        ("val_acc", "maximize", None, 0.65),
        ("val_acc", "maximize", "worst", 0.5),
        ("val_asr", "minimize", None, 0.5),
        ("val_asr", "minimize", "mean", 0.35),
        ("val_asr", "maximize", None, 0.2),  # the attacker's worst is the lowest
        ("detection_auroc", "maximize", "worst", 0.75),  # undefined figures are left out
    ],
)
def test_mean_over_seeds_then_worst_or_mean_over_scenarios(
    metric: Any, direction: Any, aggregate: Any, expected: float
) -> None:
    objective = Objective(metric=metric, direction=direction, aggregate=aggregate)
    assert objective.value(ROWS) == pytest.approx(expected)


ADDED: list[dict[str, Any]] = [
    {"scenario": "badnets", "val_asr_excess": 0.1},
    {"scenario": "badnets", "val_asr_excess": 0.3},
    {"scenario": "blend", "val_asr_excess": 0.4},
    {"scenario": "clean", "val_asr_excess": None},
]


@pytest.mark.parametrize(
    ("direction", "aggregate", "expected"),
    [("minimize", None, 0.4), ("minimize", "mean", 0.3), ("maximize", None, 0.2)],
)
def test_what_the_trigger_adds_is_that_of_the_worst_scenario(direction: Any, aggregate: Any, expected: float) -> None:
    objective = Objective(metric="val_asr_excess", direction=direction, aggregate=aggregate)
    assert objective.value(ADDED) == pytest.approx(expected)
    assert objective.value(ADDED[-1:]) is None, "nothing is poisoned"
    assert Constraint(metric="val_asr_excess", max=0.1).violation(ADDED) == pytest.approx(0.3)
    assert Constraint(metric="val_asr_excess", max=0.1).violation(ADDED[-1:]) == float("inf")


CLASSES: list[dict[str, Any]] = [
    {"scenario": "badnets", "val_balanced_acc": 0.8, "val_min_class_acc": 0.5},
    {"scenario": "badnets", "val_balanced_acc": 0.6, "val_min_class_acc": 0.1},
    {"scenario": "blend", "val_balanced_acc": 0.5, "val_min_class_acc": 0.4},
]


def test_the_worst_class_is_that_of_the_worst_scenario_and_balanced_accuracy_a_mean() -> None:
    assert Objective(metric="val_balanced_acc", direction="maximize").value(CLASSES) == pytest.approx(0.6)
    assert Objective(metric="val_min_class_acc", direction="maximize").value(CLASSES) == pytest.approx(0.3)
    assert Constraint(metric="val_min_class_acc", min=0.35).violation(CLASSES) == pytest.approx(0.05)
    mean = Constraint(metric="val_min_class_acc", min=0.35, aggregate="mean")
    assert mean.violation(CLASSES) == pytest.approx(0)
    assert Constraint(metric="val_balanced_acc", min=0.5).violation(CLASSES) == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("metric", "bounds", "expected"),
    [
        ("val_asr", {"max": 0.4}, 0.1),
        ("val_asr", {"max": 0.5}, 0.0),
        ("val_asr", {"max": 0.6, "aggregate": "mean"}, -0.25),
        ("val_acc", {"min": 0.7}, 0.05),
        ("val_acc", {"min": 0.7, "aggregate": "worst"}, 0.2),
        ("control_asr", {"min": 0.8}, 0.1),  # the weakest scenario
        ("control_asr", {"min": 0.7}, 0.0),
    ],
)
def test_a_violation_is_how_far_the_bound_is_missed(metric: Any, bounds: dict[str, Any], expected: float) -> None:
    assert Constraint(metric=metric, **bounds).violation(ROWS) == pytest.approx(expected)


def test_undefined_is_undefined_and_keeps_no_bound() -> None:
    nothing = [{"scenario": "a", "val_acc": None}, {"scenario": "b", "val_acc": None}]
    assert Objective(metric="val_acc", direction="maximize").value(nothing) is None
    assert Objective(metric="val_acc", direction="maximize").value([]) is None
    for bound in ({"min": 0.1}, {"max": 0.9}):
        assert Constraint(metric="val_acc", **bound).violation(nothing) == float("inf")
