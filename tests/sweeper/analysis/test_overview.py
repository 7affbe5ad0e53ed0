from typing import Any

import pandas as pd
import pytest

from sweeper.analysis.frontier import hypervolume, points
from sweeper.analysis.overview import Best, Overview
from sweeper.analysis.overview import overview as overview_of
from sweeper.preset.spec import SweepSpec
from tests.sweeper.small import ONE_SETTING, control_row, frame_of, make_objectives, row_with, spec_with

REASON = "val_asr_excess is at least 0.900, above the interest of 0.4"
SPEC = spec_with(seeds=[0, 1], search={"race": "bounds", "interest": 0.4})


def overview(frame: pd.DataFrame, spec: SweepSpec) -> Overview:
    return overview_of(frame, spec, points(frame))


def point(config: str, acc: float, excess: float, **changes: Any) -> dict[str, Any]:
    """A training whose floor is 0, so that its excess is its attack success."""
    return row_with(f"t-{config}", config, val_acc=acc, val_asr=excess, asr_floor=0.0, **changes)


def left(trial: str, scenario: str = "badnets", **changes: Any) -> dict[str, Any]:
    """A training that was not needed."""
    known = {"status": "PRUNED", "attempt": 0, "val_acc": None, "val_asr": None, "asr_floor": None, "seconds": None}
    return row_with(trial, scenario=scenario, trial_status="PRUNED", trial_error=REASON, **(known | changes))


def test_the_volume_is_a_share_of_the_area_below_the_interest() -> None:
    found = overview(frame_of(point("a", 0.9, 0.2), point("b", 0.5, 0.1), point("c", 0.99, 0.4), control_row()), SPEC)
    # c is at the interest. a covers 0.9 x 0.2 of an area of 1 x 0.4, and b adds 0.5 x 0.1.
    assert found.volumes == {"": pytest.approx((0.9 * 0.2 + 0.5 * 0.1) / 0.4)}


def test_each_environment_has_a_volume_and_best_settings_of_its_own() -> None:
    rows = [point("a", 0.9, 0.1, poison_rate=0.05), point("b", 0.6, 0.3, poison_rate=0.1),
            control_row(poison_rate=0.05), control_row(trial="c0001", poison_rate=0.1)]  # fmt: skip
    found = overview(frame_of(*rows), SPEC)
    assert found.volumes == pytest.approx({"poison_rate=0.05": 0.9 * 0.3 / 0.4, "poison_rate=0.1": 0.6 * 0.1 / 0.4})
    assert found.best["poison_rate=0.05"][0.1] == Best("a", pytest.approx(0.9), None, 1)
    assert found.best["poison_rate=0.1"] == {0.05: None, 0.1: None, 0.2: None}


def test_the_best_is_the_most_accurate_by_its_mean_over_seeds_among_those_that_are_comparable() -> None:
    rows = [
        point("steady", 0.80, 0.04, seed=0), point("steady", 0.82, 0.06, seed=1),  # mean excess: at the bound
        point("lucky", 0.90, 0.02, seed=0), point("lucky", 0.60, 0.02, seed=1),
        point("higher", 0.85, 0.15),
        point("weak", 0.99, 0.0, weak_attack=True),
        point("unsound", 0.99, 0.0, constraints_kept=False),
    ]  # fmt: skip
    best = overview(frame_of(*({"constraints_kept": True} | row for row in rows)), SPEC).best[""]
    assert best[0.05] == Best("steady", pytest.approx(0.81), pytest.approx(0.02 / 2**0.5), 2)
    assert best[0.1] == best[0.05]
    assert best[0.2] == Best("higher", pytest.approx(0.85), None, 1)


def test_the_worst_scenario_decides_whether_a_setting_is_below_a_bound() -> None:
    rows = [point("torn", 0.95, 0.01), point("torn", 0.95, 0.3, scenario="blend"),
            point("sound", 0.7, 0.1), point("sound", 0.9, 0.1, scenario="blend")]  # fmt: skip
    assert overview(frame_of(*rows), SPEC).best[""] == {
        0.05: None,
        0.1: Best("sound", pytest.approx(0.8), None, 1),
        0.2: Best("sound", pytest.approx(0.8), None, 1),
    }


def test_trainings_and_hours_are_those_of_the_search_and_its_controls() -> None:
    rows = [
        control_row(seconds=100.0), control_row(trial="c0001", seed=7, seconds=1e6),  # a control of confirm
        point("a", 0.9, 0.1, seconds=1000.0, seconds_shared=300.0),
        point("b", 0.9, 0.1, scenario="blend", seconds=2000.0, seconds_shared=None),
        row_with("k0000", role="confirmation", seed=7, seconds=1e6),
        row_with("r0000", role="replicate", seed=8, seconds=1e6),
        row_with("t0007", status="FAILED", seconds=None),
        row_with("t0008", "d", trial_status="PRUNED", trial_error=REASON, seconds=500.0),
        left("t0008", "blend"), left("t0008", "blend", seed=1),
        left("t0009", "badnets"),
        left("t0009", "badnets", seed=1, attempt=1),  # was stopped on its way: what it had computed is not known
        left("t0009", "sig"),  # no training of this scenario finished
        row_with("t0010", status="PRUNED", seconds=None),  # by a scheduler, not by a race
    ]  # fmt: skip
    found = overview(frame_of(*rows), SPEC)
    assert (found.trainings, found.saved) == (3, 5)
    assert found.hours == pytest.approx((100 + 1000 - 300 + 2000 + 500) / 3600)
    assert found.hours_saved == pytest.approx((300 + 2 * 2000 + (1000 + 500) / 2) / 3600)


def test_tables_without_shared_seconds_and_without_trials_are_read() -> None:
    frame = frame_of(point("a", 0.9, 0.1, seconds=360.0)).drop(columns="seconds_shared")
    found = overview(frame, SPEC)
    assert (found.hours, found.hours_saved) == (pytest.approx(0.1), 0.0)
    none = overview(frame[:0], SPEC)
    assert (none.trainings, none.saved, none.hours, none.hours_saved) == (0, 0, 0.0, 0.0)
    assert (none.volumes, none.best) == ({}, {})


def test_an_attackers_sweep_has_costs_alone() -> None:
    spec = spec_with(defense=ONE_SETTING, objectives=make_objectives(("val_asr", "maximize")))
    found = overview(frame_of(point("a", 0.9, 0.9, seconds=36.0), left("t0001")), spec)
    assert (found.volumes, found.best) == ({}, {})
    assert (found.trainings, found.saved) == (1, 1)
    assert (found.hours, found.hours_saved) == (pytest.approx(0.01), pytest.approx(0.01))


def test_nothing_is_read_of_the_test_half() -> None:
    rows = [point("a", 0.9, 0.1), point("b", 0.7, 0.04), control_row()]
    other = [row | {"test_acc": 0.1, "test_asr": 1.0, "test_asr_excess": 1.0} for row in rows]
    assert overview(frame_of(*rows), SPEC) == overview(frame_of(*other), SPEC)


@pytest.mark.parametrize(("interest", "share"), [(0.5, 0.8 * 0.4 / 0.5), (0.1, 0.0), (0.05, 0.0)])
def test_a_point_at_the_interest_or_above_dominates_nothing(interest: float, share: float) -> None:
    assert hypervolume([0.8], [0.1], interest) == pytest.approx(share)
