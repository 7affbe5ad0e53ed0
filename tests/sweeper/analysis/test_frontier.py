import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from sweeper.analysis.frontier import (
    POINT_COLUMNS,
    environments,
    harmless,
    hypervolume,
    hypervolumes,
    in_order,
    non_dominated,
    points,
)
from sweeper.analysis.selection import NothingQualifies, select
from sweeper.cli.tables import print_frontier
from sweeper.report.summary import caveats, read_sweeps
from sweeper.run_folder.folder import RunFolder
from tests.sweeper.small import control_row, frame_of, row_with, sweep_with, write_rows

SHARES = st.integers(0, 10).map(lambda n: n / 10)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(SHARES, SHARES), max_size=12))
def test_nobody_beats_a_point_of_the_frontier(pairs: list[tuple[float, float]]) -> None:
    def beaten(acc: float, asr: float) -> bool:
        return any(a >= acc and s <= asr and (a, s) != (acc, asr) for a, s in pairs)

    found = non_dominated(np.array([a for a, _ in pairs]), np.array([s for _, s in pairs]))
    assert found.tolist() == [not beaten(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("pairs", "area"),
    [
        ([], 0.0),
        ([(1.0, 0.0)], 1.0),
        ([(0.8, 0.1)], 0.8 * 0.9),
        ([(0.8, 0.1), (0.6, 0.1)], 0.8 * 0.9),
        ([(0.8, 0.4), (0.5, 0.1)], 0.8 * 0.6 + 0.5 * 0.3),
        ([(0.5, 1.0)], 0.0),
        ([(0.0, 0.2)], 0.0),
    ],
)
def test_hypervolume_is_the_dominated_area(pairs: list[tuple[float, float]], area: float) -> None:
    assert hypervolume([a for a, _ in pairs], [s for _, s in pairs]) == pytest.approx(area)


def test_figures_are_means_over_seeds_then_worst_or_mean_over_scenarios() -> None:
    """Of attack success those of Blend, to which the trigger adds more, whatever attack success is by itself."""

    def run(scenario: str, seed: int, acc: float, asr: float, floor: float, control: float) -> dict[str, Any]:
        figures = {"val_acc": acc, "val_asr": asr, "asr_floor": floor, "test_acc": acc - 0.1, "test_asr": asr + 0.1,
                   "test_asr_floor": floor + 0.01, "control_asr": control}  # fmt: skip
        return row_with(config="a", scenario=scenario, seed=seed, **figures)

    table = points(
        frame_of(
            run("badnets", 0, 0.8, 0.1, 0.02, 1.0), run("badnets", 1, 0.6, 0.3, 0.04, 0.9),
            run("blend", 0, 0.9, 0.5, 0.06, 0.85), run("blend", 1, 0.9, 0.1, 0.08, 0.87),
            control_row(scenario="badnets", seed=0, val_acc=0.9, asr_floor=0.0),
            control_row(scenario="badnets", seed=1, val_acc=0.8, asr_floor=0.1),
            control_row(scenario="blend", seed=0, val_acc=0.7, asr_floor=0.2),
            control_row(scenario="blend", seed=1, val_acc=0.6, asr_floor=0.4),
            control_row(scenario="blend", seed=2, val_acc=0.0),
        )
    )  # fmt: skip
    assert tuple(table.columns) == POINT_COLUMNS
    (point,) = table.to_dict("records")
    assert point["val_acc"] == pytest.approx((0.7 + 0.9) / 2)
    assert point["val_asr_excess"] == pytest.approx((0.44 + 0.02) / 2)  # blend's mean, not 0.44, its highest seed
    assert point["val_asr"] == pytest.approx(0.3)
    assert point["asr_floor"] == pytest.approx(0.07)  # of blend, the worst scenario
    assert point["test_acc"] == pytest.approx(0.7)
    assert point["test_asr_excess"] == pytest.approx((0.53 + 0.11) / 2)
    assert point["test_asr"] == pytest.approx(0.4)
    assert point["test_asr_floor"] == pytest.approx(0.08)
    assert point["control_asr"] == pytest.approx(0.86)
    assert point["control_asr_excess"] == pytest.approx((0.8 + 0.6) / 2)  # of blend's, the lower
    assert point["control_acc"] == pytest.approx((0.9 + 0.8 + 0.7 + 0.6) / 4)
    assert (point["seeds"], point["trials"], point["weak"]) == (2, "t0000", "")
    assert point["on_frontier"]


def test_figures_of_the_classes_are_means_over_seeds_then_mean_and_worst_over_scenarios() -> None:
    def run(scenario: str, seed: int, balanced: float, lowest: float) -> dict[str, Any]:
        figures = {"val_balanced_acc": balanced, "val_min_class_acc": lowest, "test_balanced_acc": balanced / 2,
                   "test_min_class_acc": lowest / 2}  # fmt: skip
        return row_with(config="a", scenario=scenario, seed=seed, **figures)

    rows = [
        run("badnets", 0, 0.8, 0.1),
        run("badnets", 1, 0.6, 0.5),
        run("blend", 0, 0.4, 0.2),
        run("blend", 1, 0.2, 0.3),
    ]
    (point,) = points(frame_of(*rows), over="mean").to_dict("records")
    assert point["val_balanced_acc"] == pytest.approx((0.7 + 0.3) / 2)
    assert point["val_balanced_acc_sd"] == pytest.approx(0.2 / 2**0.5)  # 0.6 and 0.4
    assert point["val_min_class_acc"] == pytest.approx(0.25)  # blend's mean, not 0.1, the lowest seed
    assert point["val_min_class_acc_sd"] == pytest.approx(0.1 / 2**0.5)  # of blend
    assert (point["test_balanced_acc"], point["test_min_class_acc"]) == (pytest.approx(0.25), pytest.approx(0.125))


def test_figures_of_the_classes_need_every_training() -> None:
    """A seed of an earlier version, whose worst class nobody knows, makes the others' no better."""
    rows = [row_with("t0", "a", seed=0, val_balanced_acc=0.7, val_min_class_acc=0.5), row_with("t1", "a", seed=1),
            row_with("t2", "b", val_balanced_acc=0.7, val_min_class_acc=0.5)]  # fmt: skip
    table = points(frame_of(*rows)).set_index("config_id")
    for name in ("val_balanced_acc", "val_min_class_acc"):
        assert np.isnan(table.loc["a", name])
        assert table.loc["b", name] > 0
    assert table["test_min_class_acc"].isna().all()


def test_the_worst_scenario_of_the_test_half_is_its_own() -> None:
    x = {"scenario": "x", "val_asr": 0.1, "asr_floor": 0.01, "test_asr": 0.6, "test_asr_floor": 0.02}
    y = {"scenario": "y", "val_asr": 0.3, "asr_floor": 0.03, "test_asr": 0.2, "test_asr_floor": 0.04}
    (point,) = points(frame_of(row_with(**x), row_with(**y))).to_dict("records")
    assert (point["val_asr_excess"], point["val_asr"], point["asr_floor"]) == (pytest.approx(0.27), 0.3, 0.03)
    assert (point["test_asr_excess"], point["test_asr"], point["test_asr_floor"]) == (pytest.approx(0.58), 0.6, 0.02)


BROKEN = {"scenario": "broken", "val_asr": 0.5, "asr_floor": 0.45}
"""A model that takes half of the images for the target class, and to which the trigger adds little."""
POISONED = {"scenario": "poisoned", "val_asr": 0.3, "asr_floor": 0.02}


def test_attack_success_and_floor_are_those_of_the_scenario_in_which_the_trigger_adds_most() -> None:
    (point,) = points(frame_of(row_with(**BROKEN), row_with(**POISONED))).to_dict("records")
    assert (point["val_asr_excess"], point["val_asr"], point["asr_floor"]) == (pytest.approx(0.28), 0.3, 0.02)
    assert point["val_asr_worst"] == 0.5
    (mean,) = points(frame_of(row_with(**BROKEN), row_with(**POISONED)), "mean").to_dict("records")
    assert (mean["val_asr_excess"], mean["val_asr_worst"]) == (pytest.approx((0.05 + 0.28) / 2), pytest.approx(0.4))
    assert (mean["val_asr"], mean["asr_floor"]) == (pytest.approx(0.4), pytest.approx(0.235))


@pytest.mark.parametrize("order", [("x", "y", "z"), ("z", "y", "x")])
def test_where_the_trigger_adds_nothing_the_highest_attack_success_is_shown(order: tuple[str, ...]) -> None:
    figures = {"x": (0.02, 0.03), "y": (0.2, 0.25), "z": (0.1, 0.1)}
    rows = [row_with(scenario=name, val_asr=figures[name][0], asr_floor=figures[name][1]) for name in order]
    (point,) = points(frame_of(*rows)).to_dict("records")
    assert (point["val_asr_excess"], point["val_asr"], point["asr_floor"]) == (0.0, 0.2, 0.25)
    (half,) = points(frame_of(*rows), "cvar").to_dict("records")
    assert (half["val_asr"], half["asr_floor"]) == (pytest.approx(0.15), pytest.approx(0.175))


def test_the_excess_of_a_training_is_not_below_zero() -> None:
    """So the mean of two is not the difference of two means."""
    rows = [row_with("t0", "a", seed=0, val_asr=0.1, asr_floor=0.3), row_with("t1", "a", seed=1, val_asr=0.5)]
    (point,) = points(frame_of(*rows)).to_dict("records")
    assert point["val_asr_excess"] == pytest.approx((0 + 0.45) / 2)
    assert point["val_asr"] - point["asr_floor"] == pytest.approx(0.125)


def test_a_model_that_lost_the_target_class_leads_no_more_than_another_whose_trigger_does_nothing() -> None:
    """By attack success alone all three would be on the frontier: the last for errors that no trigger made."""
    rows = [
        row_with("t0", "lost", val_acc=0.5, val_asr=0.0, asr_floor=0.0),
        row_with("t1", "healthy", val_acc=0.8, val_asr=0.04, asr_floor=0.05),
        row_with("t2", "worse", val_acc=0.7, val_asr=0.03, asr_floor=0.03),
        row_with("t3", "poisoned", val_acc=0.9, val_asr=0.4, asr_floor=0.02),
    ]
    table = points(frame_of(*rows)).set_index("config_id")
    assert table.index.tolist() == ["healthy", "worse", "lost", "poisoned"]
    assert table["on_frontier"].to_dict() == {"healthy": True, "worse": False, "lost": False, "poisoned": True}
    assert hypervolumes(table.reset_index()) == pytest.approx({"": 0.8 * 1.0 + 0.1 * (1 - 0.38)})


def test_without_a_floor_nobody_knows_what_the_trigger_adds() -> None:
    """As in a table of an earlier version that has no column for it."""
    rows = [row_with("t0", "old", asr_floor=None), row_with("t1", "new", val_asr=0.9)]
    table = points(frame_of(*rows)).set_index("config_id")
    assert table["on_frontier"].to_dict() == {"old": False, "new": True}
    assert np.isnan(table.loc["old", "val_asr_excess"])
    assert np.isnan(table.loc["old", "val_asr"]), "no scenario counts"
    with pytest.raises(NothingQualifies, match="No setting has a floor of its attack success"):
        select(frame_of(rows[0]), max_asr=0.9)


def test_points_come_by_environment_then_the_safest_then_the_most_accurate() -> None:
    """Whatever the order of the rows; the trials of a point stand in their order too."""
    rows = [
        row_with("t9", "worse", val_acc=0.6), row_with("t2", "safe", val_acc=0.2, val_asr=0.0),
        row_with("t3", "better", val_acc=0.7), row_with("t1", "better", val_acc=0.7),
        row_with("t0", "mild", poison_rate=0.05, val_asr=0.9),
    ]  # fmt: skip
    table = points(frame_of(*rows))
    assert table["config_id"].tolist() == ["mild", "safe", "better", "worse"]
    assert table["trials"].tolist() == ["t0", "t2", "t1, t3", "t9"]


@pytest.mark.parametrize("weak", [True, None], ids=["weak", "control without figures"])
def test_no_evidence_against_an_attack_that_fails_by_itself(weak: bool | None) -> None:
    table = points(
        frame_of(
            row_with("t0", val_acc=0.7, val_asr=0.2),
            row_with("t1", scenario="badnets", val_acc=0.9, val_asr=0.0),
            row_with("t1", scenario="blend", val_acc=0.9, val_asr=0.0, weak_attack=weak, control_asr=0.3),
        )
    )
    found = table.set_index("config_id")
    assert found["weak"].to_dict() == {"config-t0": "", "config-t1": "blend"}
    assert found["on_frontier"].to_dict() == {"config-t0": True, "config-t1": False}


def test_where_attackers_differ_the_weak_one_is_named_with_what_it_chose() -> None:
    rows = [row_with("t0", poison_rate=0.01, weak_attack=True), row_with("t1", poison_rate=0.1)]
    (caveat, *_) = caveats(points(frame_of(*rows)), frame_of(*rows))
    assert caveat.startswith("Weak attack in badnets at poison_rate=0.01: ")


def test_where_trials_meet_one_attacker_each_the_weak_ones_are_gathered() -> None:
    rows = [row_with(f"t{n}", poison_rate=rate, weak_attack=True) for n, rate in enumerate((0.1, 0.02, 0.005))]
    rows += [row_with("t3", poison_rate=0.2), row_with("t4", scenario="sig", weak_attack=True)]
    (caveat, *_) = caveats(points(frame_of(*rows)), frame_of(*rows))
    assert caveat.startswith("Weak attack in badnets at poison_rate=0.005, 0.02, 0.1; sig: ")


def test_one_weak_seed_spoils_the_scenario() -> None:
    table = points(frame_of(row_with(config="a", seed=0), row_with(config="a", seed=1, weak_attack=True)))
    assert table["weak"].tolist() == ["badnets"]


def test_settings_are_compared_within_an_environment_only() -> None:
    table = points(
        frame_of(
            row_with("t0", config="a", poison_rate=0.05, val_acc=0.9, val_asr_excess=0.0),
            row_with("t1", config="b", poison_rate=0.1, val_acc=0.7, val_asr_excess=0.3),
            row_with("t2", config="c", poison_rate=0.1, val_acc=0.6, val_asr_excess=0.4),
        )
    )
    on = table.set_index("config_id")["on_frontier"].to_dict()
    assert on == {"a": True, "b": True, "c": False}
    assert set(table["environment"]) == {"poison_rate=0.05", "poison_rate=0.1"}
    assert hypervolumes(table) == pytest.approx({"poison_rate=0.05": 0.9, "poison_rate=0.1": 0.7 * 0.7})


def test_different_rates_of_two_scenarios_are_no_environment() -> None:
    rows = [row_with(t, scenario=s, poison_rate=r) for t in ("t0", "t1") for s, r in (("a", 0.05), ("b", 0.1))]
    assert set(environments(frame_of(*rows))) == {""}


def test_a_searched_attack_parameter_is_the_environment_too() -> None:
    rows = [row_with("t0", **{"param.scenario.size": 2}), row_with("t1", **{"param.scenario.size": 3})]
    assert environments(frame_of(*rows)).tolist() == ["size=2", "size=3"]


def test_the_control_beside_a_point_is_that_of_its_own_environment() -> None:
    size = "param.scenario.size"
    table = points(
        frame_of(
            row_with("t0", **{size: 2}), row_with("t1", **{size: 3}),
            control_row(trial="c0", val_acc=0.9, **{size: 2}), control_row(trial="c1", val_acc=0.5, **{size: 3}),
        )
    )  # fmt: skip
    assert table.set_index("trials")["control_acc"].to_dict() == {"t0": 0.9, "t1": 0.5}


@pytest.mark.parametrize(("key", "one", "other"), [("target", 0, 1), ("poison_rate", 0.1, 0.2), ("seed", 0, 1)])
def test_the_control_beside_a_point_is_that_of_its_own_scenario(key: str, one: Any, other: Any) -> None:
    rows = [row_with("t0", "a", **{key: one}), row_with("t1", "b", **{key: other})]
    controls = [
        control_row(trial="c0", val_acc=0.9, **{key: one}),
        control_row(trial="c1", val_acc=0.5, **{key: other}),
    ]
    table = points(frame_of(*rows, *controls))
    assert table.set_index("config_id")["control_acc"].to_dict() == {"a": 0.9, "b": 0.5}


def test_a_searched_target_class_is_the_environment_too() -> None:
    rows = [row_with("t0", target=0), row_with("t1", target=7)]
    assert environments(frame_of(*rows)).tolist() == ["target=0", "target=7"]


@pytest.mark.parametrize("column", [["a.png", None], [3.0, None]], ids=["text", "number"])
def test_an_attacker_without_a_value_is_another_one(column: list[Any]) -> None:
    """A pattern from a file, say, beside the built-in one."""
    rows = [row_with(f"t{n}", **{"param.scenario.trigger": value}) for n, value in enumerate(column)]
    assert environments(frame_of(*rows)).nunique() == 2


def test_training_on_clean_data_makes_no_threat_of_an_attack_that_fails() -> None:
    clean = {"scenario": "clean", "poison_rate": 0.0, "weak_attack": None, "val_asr": None}
    rows = [
        row_with("t0", weak_attack=True, target=1), row_with("t0", target=1, **clean),
        row_with("t1", weak_attack=False, target=2), row_with("t1", target=2, **clean),
    ]  # fmt: skip
    assert harmless(frame_of(*rows)) == ["target=1"]


def test_controls_and_trials_that_did_not_finish_are_no_points() -> None:
    nothing = {"val_acc": None, "val_asr": None}
    table = points(frame_of(control_row(), row_with("t0", status="FAILED", **nothing), row_with("t1", status="PRUNED")))
    assert len(table) == 0
    assert tuple(table.columns) == POINT_COLUMNS
    assert hypervolumes(table) == {}


def test_without_attack_success_a_setting_stands_on_no_frontier() -> None:
    clean = {"poison_rate": 0.0, "val_asr": None, "weak_attack": None, "control_asr": None}
    table = points(frame_of(row_with("t0", config="a", **clean), row_with("t1", config="b", poison_rate=0.1)))
    assert table.set_index("config_id")["on_frontier"].to_dict() == {"a": False, "b": True}
    assert set(table["weak"]) == {""}


def test_a_scenario_without_poison_counts_for_accuracy_alone() -> None:
    clean = {"poison_rate": 0.0, "val_asr": None, "weak_attack": None, "control_asr": None, "val_acc": 0.9}
    rows = [row_with(scenario="x", val_acc=0.7, val_asr=0.3), row_with(scenario="clean", **clean)]
    (point,) = points(frame_of(*rows), "mean").to_dict("records")
    assert (point["val_acc"], point["val_asr_excess"]) == (pytest.approx(0.8), pytest.approx(0.25))
    assert (point["val_asr"], point["asr_floor"], point["val_asr_worst"]) == (0.3, 0.05, 0.3)
    assert point["on_frontier"]


def test_what_is_no_evidence_adds_nothing_to_the_hypervolume() -> None:
    table = points(frame_of(row_with("t0", val_acc=0.6, val_asr=0.55), row_with("t1", val_acc=1.0, weak_attack=True)))
    assert hypervolumes(table) == pytest.approx({"": 0.6 * 0.5})


def test_two_sweeps_of_one_setting_stay_two_points(tmp_path: Path) -> None:
    """The same parameters on another data set or network are other evidence, and so are their controls."""
    for name, acc in (("cifar", 0.9), ("shapes", 0.5)):
        folder = RunFolder.create(tmp_path / name)
        folder.write_sweep(sweep_with())
        write_rows(folder, [control_row(val_acc=acc + 0.05), row_with("t0", config="a", val_acc=acc)])
    frame = read_sweeps([tmp_path / "cifar", tmp_path / "shapes"])
    table = points(frame).set_index("config_id")
    assert table["val_acc"].to_dict() == {"cifar/a": 0.9, "shapes/a": 0.5}
    assert table["control_acc"].to_dict() == pytest.approx({"cifar/a": 0.95, "shapes/a": 0.55})
    assert table["trials"].to_dict() == {"cifar/a": "cifar/t0", "shapes/a": "shapes/t0"}
    alone = points(read_sweeps([tmp_path / "cifar"]))
    assert alone["config_id"].tolist() == ["a"]


def test_attackers_that_swap_their_rates_are_different_attackers() -> None:
    rows = [
        row_with(trial, scenario=scenario, poison_rate=rate)
        for trial, rates in (("t0", (0.05, 0.1)), ("t1", (0.1, 0.05)), ("t2", (0.1, 0.1)))
        for scenario, rate in zip(("badnets", "blend"), rates, strict=True)
    ]
    frame = frame_of(*rows)
    labels = dict(zip(frame["trial_id"], environments(frame), strict=True))
    assert labels == {
        "t0": "poison_rate=badnets 0.05/blend 0.1", "t1": "poison_rate=badnets 0.1/blend 0.05", "t2": "poison_rate=0.1",
    }  # fmt: skip


# Trials that each meet one of the scenarios

ALPHA, SIZE = "param.scenario.alpha", "param.scenario.size"


def labels(*rows: dict[str, Any]) -> dict[str, str]:
    frame = frame_of(*rows)
    return dict(zip(frame["trial_id"], environments(frame), strict=True))


def test_where_trials_meet_different_scenarios_the_scenario_is_the_environment() -> None:
    assert labels(row_with("t0", scenario="badnets"), row_with("t1", scenario="blend", poison_rate=0.2)) == {
        "t0": "badnets", "t1": "blend",
    }  # fmt: skip


def test_a_parameter_of_one_scenario_is_no_part_of_anothers_label() -> None:
    rows = [
        row_with("t0", scenario="blend", poison_rate=0.05, **{ALPHA: 0.2}),
        row_with("t1", scenario="blend", poison_rate=0.1, **{ALPHA: 0.2}),
        row_with("t2", scenario="badnets", poison_rate=0.1, **{SIZE: 2}),
        row_with("t3", scenario="badnets", poison_rate=0.1, **{SIZE: 3}),
        row_with("t4", scenario="wanet", poison_rate=0.3),
    ]
    assert labels(*rows) == {
        "t0": "blend, poison_rate=0.05", "t1": "blend, poison_rate=0.1", "t2": "badnets, size=2",
        "t3": "badnets, size=3", "t4": "wanet",
    }  # fmt: skip


def test_a_label_names_all_that_varies_in_its_scenario() -> None:
    rows = [
        row_with(f"{rate}-{alpha}", scenario="blend", poison_rate=rate, seed=seed, **{ALPHA: alpha})
        for rate in (0.05, 0.1) for alpha in (0.1, 0.2) for seed in (0, 1)
    ]  # fmt: skip
    found = labels(*rows, row_with("other", scenario="sig", poison_rate=0.5))
    assert found["0.05-0.2"] == "blend, poison_rate=0.05, alpha=0.2"
    assert found["other"] == "sig"
    assert labels(*rows)["0.05-0.2"] == "poison_rate=0.05, alpha=0.2", "one scenario needs no name"


def one_each() -> list[dict[str, Any]]:
    """Two settings against two attackers: a is better against one, and b against the other."""
    return [
        row_with("t0", "a", scenario="badnets", val_acc=0.9, val_asr=0.1),
        row_with("t1", "b", scenario="badnets", val_acc=0.8, val_asr=0.2),
        row_with("t2", "a", scenario="blend", val_acc=0.6, val_asr=0.3),
        row_with("t3", "b", scenario="blend", val_acc=0.7, val_asr=0.25),
        control_row(trial="c0", scenario="badnets", val_acc=0.95),
        control_row(trial="c1", scenario="blend", val_acc=0.85),
    ]


def test_each_attacker_has_a_frontier_of_its_own() -> None:
    table = points(frame_of(*one_each()))
    on = {(row["environment"], row["config_id"]): row["on_frontier"] for row in table.to_dict("records")}
    assert on == {("badnets", "a"): True, ("badnets", "b"): False, ("blend", "a"): False, ("blend", "b"): True}
    assert hypervolumes(table) == pytest.approx({"badnets": 0.9 * (1 - 0.05), "blend": 0.7 * (1 - 0.2)})
    assert table.groupby("environment")["control_acc"].max().to_dict() == {"badnets": 0.95, "blend": 0.85}


def test_a_setting_is_selected_against_the_attacker_that_leaves_least() -> None:
    chosen = select(frame_of(*one_each()), max_asr=0.3)
    assert (chosen.point["config_id"], chosen.point["environment"]) == ("b", "blend")
    assert chosen.hardest_of == ["badnets", "blend"]
    with pytest.raises(NothingQualifies, match=r"No setting at blend has worst val_asr <= 0\.2"):
        select(frame_of(*one_each()), max_asr=0.2)


@pytest.mark.parametrize("attackers", [2, 13])
def test_the_screen_shows_the_frontier_attacker_by_attacker(attackers: int) -> None:
    names = [f"attack{number:02}" for number in range(attackers)]
    frame = frame_of(*(row_with(f"t{name}-{c}", c, scenario=name, val_asr=asr, val_acc=0.8)
                       for name in names for c, asr in (("good", 0.1), ("bad", 0.4))))  # fmt: skip
    table = points(frame)
    console = Console(file=io.StringIO(), width=200)
    print_frontier(console, frame, table, hypervolumes(table))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(name in text for name in names)
    assert text.count("Frontier") == (attackers if attackers == 2 else 1)
    assert (" bad " in text, "one seed" in text) == (False, True)
    if attackers > 2:
        rows = [line.split() for line in text.splitlines() if " good " in line]
        assert rows == [[name, "good", "1", "0.800", "-", "-", "0.050", "0.100", "0.050", "1.000"] for name in names]


def test_what_breaks_a_constraint_of_the_sweep_leads_nowhere(tmp_path: Path) -> None:
    """Of a setting over the budget in one scenario, in a sweep of three."""
    folder = RunFolder.create(tmp_path / "run")
    folder.write_sweep(sweep_with(constraints=[{"metric": "images_seen", "max": 500, "aggregate": "worst"}]))
    rows = [
        row_with(f"t{n}", config, scenario=scenario, val_acc=acc, images_seen=images)
        for n, (config, acc, seen) in enumerate((("dear", 0.9, (400, 600)), ("cheap", 0.7, (500, 500))))
        for scenario, images in zip(("badnets", "blend"), seen, strict=True)
    ]
    control = [control_row(scenario=name, images_seen=900) for name in ("badnets", "blend")]
    write_rows(folder, [*rows, *control])
    frame = folder.read_trials()
    table = points(frame).set_index("config_id")
    assert table["constraints_kept"].to_dict() == {"dear": False, "cheap": True}
    assert table["on_frontier"].to_dict() == {"dear": False, "cheap": True}
    assert select(frame, max_asr=0.2).point["config_id"] == "cheap"
    with pytest.raises(NothingQualifies, match="No setting keeps the constraints of the sweep"):
        select(frame[frame["config_id"] != "cheap"], max_asr=0.2)
    assert points(frame.drop(columns="constraints_kept"))["constraints_kept"].all()


def test_environments_are_in_the_order_of_their_numbers() -> None:
    rates = ["poison_rate=0.1", "poison_rate=1e-05", "poison_rate=0.02"]
    assert in_order(rates) == ["poison_rate=1e-05", "poison_rate=0.02", "poison_rate=0.1"]
    both = ["sig, poison_rate=0.1", "blend, poison_rate=0.5", "blend, poison_rate=1e-05"]
    assert in_order(both) == ["blend, poison_rate=1e-05", "blend, poison_rate=0.5", "sig, poison_rate=0.1"]
    assert in_order(["target=10 (dog)", "target=2 (cat)"]) == ["target=2 (cat)", "target=10 (dog)"]
    assert in_order([""]) == [""]
