import re

import pytest

from sweeper.analysis.overview import Best, Overview
from sweeper.analysis.sweep_metrics import sweep_metrics


def test_metrics_are_named_by_environment_and_bound_and_nulls_are_left_out() -> None:
    found = Overview(
        {"": 0.7}, 12, 4, 1.5, 0.25, {"": {0.05: None, 0.1: Best("a", 0.8, 0.02, 3), 0.2: Best("b", 0.9, None, 1)}}
    )
    assert sweep_metrics({"": 0.6}, found) == {
        "hypervolume": 0.6,
        "hypervolume_below_interest": 0.7,
        "trainings_run": 12,
        "trainings_saved": 4,
        "hours": 1.5,
        "hours_saved": 0.25,
        "best_acc_at_0.1": 0.8,
        "best_acc_at_0.1_sd": 0.02,
        "best_acc_at_0.2": 0.9,
    }


@pytest.mark.parametrize(
    ("environment", "suffix"),
    [("poison_rate=0.05", "/poison_rate 0.05"), ("blend, target=1 (dög: a/b)", "/blend target 1 dg ab")],
)
def test_names_hold_only_what_mlflow_allows(environment: str, suffix: str) -> None:
    found = Overview({environment: 0.7}, 1, 0, 1.0, 0.0, {environment: {0.05: Best("a", 0.8, 0.1, 2)}})
    named = sweep_metrics({environment: 0.5}, found)
    assert named[f"hypervolume{suffix}"] == 0.5
    assert named[f"hypervolume_below_interest{suffix}"] == 0.7
    assert named[f"best_acc_at_0.05{suffix}"] == 0.8
    assert named[f"best_acc_at_0.05_sd{suffix}"] == 0.1
    assert all(re.fullmatch(r"[A-Za-z0-9_. /-]+", name) for name in named)


def test_an_attackers_sweep_has_its_costs() -> None:
    named = sweep_metrics({}, Overview({}, 2, 1, 0.5, 0.25, {}))
    assert named == {"trainings_run": 2, "trainings_saved": 1, "hours": 0.5, "hours_saved": 0.25}
