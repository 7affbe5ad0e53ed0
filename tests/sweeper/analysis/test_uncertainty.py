"""Aggregates and intervals against values worked out here by hand."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.analysis.frontier import non_dominated, points
from sweeper.analysis.uncertainty import bootstrap, how_many, over_scenarios
from tests.sweeper.small import frame_of, row_with

NAN = float("nan")


@pytest.mark.parametrize(
    ("over", "value"),
    [("worst", 0.9), ("mean", (0.1 + 0.9 + 0.5 + 0.3) / 4), ("cvar", (0.9 + 0.5) / 2)],
)
def test_scenarios_are_aggregated(over: str, value: float) -> None:
    assert over_scenarios(np.array([0.1, 0.9, 0.5, 0.3]), over) == pytest.approx(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "half"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_the_worst_half_is_rounded_up(count: int, half: int) -> None:
    assert (how_many("cvar", count), how_many("worst", count), how_many("mean", count)) == (half, 1, count)


def test_a_scenario_without_the_figure_does_not_count() -> None:
    asr = np.array([[0.2, NAN, 0.4, NAN], [NAN] * 4])
    assert over_scenarios(asr, "mean")[0] == pytest.approx(0.3)
    assert over_scenarios(asr, "cvar")[0] == pytest.approx(0.4)
    assert np.isnan(over_scenarios(asr, "worst")[1])


CUBES = st.integers(2, 4).flatmap(
    lambda seeds: st.lists(st.lists(st.floats(0, 1), min_size=seeds, max_size=seeds), min_size=1, max_size=5)
)


@settings(deadline=None, max_examples=30)
@given(CUBES)
def test_an_interval_lies_within_the_seeds_and_some_setting_stands_on_every_frontier(cube: list[list[float]]) -> None:
    acc = np.array(cube)[:, :, None]
    found = bootstrap(acc, 1 - acc, np.ones(len(cube), bool), "worst", 50, (0.025, 0.975), non_dominated)
    low, high, asr_low, asr_high, share = found.T
    slack = 1e-9
    assert (low >= acc.min((1, 2)) - slack).all()
    assert (high <= acc.max((1, 2)) + slack).all()
    assert (low <= high + slack).all()
    assert np.allclose(asr_low, 1 - high)
    assert np.allclose(asr_high, 1 - low)
    assert share.sum() >= 1 - slack
    assert ((share >= 0) & (share <= 1)).all()


def test_the_bootstrap_of_two_seeds_has_three_outcomes() -> None:
    acc = np.array([[[0.2], [0.6]], [[0.5], [0.5]]])
    asr = np.zeros_like(acc)
    found = bootstrap(acc, asr, np.array([True, True]), "worst", 2000, (0.0, 1.0), non_dominated)
    assert found[0, :2] == pytest.approx([0.2, 0.6])
    assert found[1, :2] == pytest.approx([0.5, 0.5])
    # The first is better only if its good seed is drawn twice: a quarter of the samples.
    assert found[0, 4] == pytest.approx(0.25, abs=0.04)
    assert found[1, 4] == pytest.approx(0.75, abs=0.04)


def test_the_bootstrap_draws_the_same_seeds_each_time() -> None:
    acc = np.linspace(0.2, 0.9, 12).reshape(3, 4, 1)[:, ::-1]
    usable = np.array([True, True, True])
    one, other = (bootstrap(acc, acc**2, usable, "mean", 25, (0.1, 0.9), non_dominated) for _ in range(2))
    assert np.array_equal(one, other)


def test_what_may_stand_on_no_frontier_pushes_nobody_off_it() -> None:
    acc = np.array([[[0.9], [0.9]], [[0.5], [0.6]]])
    found = bootstrap(acc, np.zeros_like(acc), np.array([False, True]), "worst", 50, (0.0, 1.0), non_dominated)
    assert np.isnan(found[0, 4])
    assert found[1, 4] == 1


def test_where_a_sample_has_no_figure_there_is_no_interval() -> None:
    """The second seed lacks it: of a sample that draws it twice nothing is known."""
    acc = np.array([[[0.5], [NAN]], [[0.4], [0.6]]])
    found = bootstrap(acc, np.zeros_like(acc), np.array([True, True]), "worst", 200, (0.0, 1.0), non_dominated)
    assert np.isnan(found[0, :2]).all()
    assert found[1, :2] == pytest.approx([0.4, 0.6])


def test_spread_and_interval_of_a_point() -> None:
    def run(seed: int, scenario: str, acc: float, asr: float) -> dict[str, object]:
        return row_with(config="a", seed=seed, scenario=scenario, val_acc=acc, val_asr=asr, asr_floor=0.1)

    frame = frame_of(
        run(0, "x", 0.8, 0.1), run(0, "y", 0.6, 0.4), run(1, "x", 0.9, 0.3), run(1, "y", 0.7, 0.2),
    )  # fmt: skip
    (point,) = points(frame).to_dict("records")
    assert point["seeds"] == 2
    assert (point["val_acc"], point["val_asr_excess"]) == (pytest.approx(0.75), pytest.approx(0.2))  # y is the worst
    assert point["val_acc_sd"] == pytest.approx(abs(0.7 - 0.8) / sqrt(2))
    assert point["val_asr_excess_sd"] == point["val_asr_sd"] == pytest.approx(abs(0.4 - 0.2) / sqrt(2))
    assert (point["val_acc_low"], point["val_acc_high"]) == (pytest.approx(0.7), pytest.approx(0.8))
    # Seed 0 twice: y counts with 0.3; seed 1 twice: x with 0.2; both once: y with 0.2.
    assert (point["val_asr_excess_low"], point["val_asr_excess_high"]) == (pytest.approx(0.2), pytest.approx(0.3))
    assert point["frontier_share"] == 1
    (mean,) = points(frame, "mean").to_dict("records")
    assert mean["val_asr_excess"] == pytest.approx(0.15)


def test_one_seed_has_no_spread() -> None:
    (point,) = points(frame_of(row_with())).to_dict("records")
    names = ("val_acc_sd", "val_asr_excess_sd", "val_asr_sd", "val_acc_low", "val_asr_excess_high", "frontier_share")
    assert all(np.isnan(point[name]) for name in names)


def test_one_seed_beside_settings_with_several_has_no_interval() -> None:
    rows = [row_with("t0", "one", val_acc=0.9), row_with("t1", "two", val_acc=0.5)]
    table = points(frame_of(*rows, row_with("t2", "two", seed=1, val_acc=0.7))).set_index("config_id")
    names = ["val_acc_low", "val_acc_high", "val_asr_excess_low", "val_asr_excess_high", "frontier_share"]
    assert table.loc["one", names].isna().all()
    assert table.loc["two", ["val_acc_low", "val_acc_high"]].tolist() == pytest.approx([0.5, 0.7])


def test_the_interval_leaves_two_and_a_half_per_cent_at_either_end() -> None:
    """Of three seeds, the same one is drawn thrice in 1 of 27 samples, which is more than that, and less than 5 %."""
    rows = [row_with(f"t{seed}", "a", seed=seed, val_acc=acc) for seed, acc in enumerate((0.6, 0.7, 0.8))]
    (point,) = points(frame_of(*rows)).to_dict("records")
    assert (point["val_acc_low"], point["val_acc_high"]) == (pytest.approx(0.6), pytest.approx(0.8))
