import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from sweeper.analysis.comparison import (
    FIGURES,
    NO_DEFENSE,
    compared,
    holders,
    own_frontiers,
    representatives,
    standings,
)
from sweeper.analysis.frontier import points
from sweeper.cli.tables import print_comparison
from sweeper.report.plots import DEFENSE_COLOURS
from sweeper.report.roc import curves, write_roc
from sweeper.report.tables import grid_rows, holder_rows, standing_rows
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.tables import write_table
from tests.sweeper.small import control_row, frame_of, row_with

FRONT = {
    "careful": ("vab", 0.5, 0.0), "middle": ("abl", 0.6, 0.2), "beaten": ("abl", 0.55, 0.3), "bold": ("vab", 0.9, 0.4),
}  # fmt: skip


def trials(front: dict[str, tuple[str, float, float]] = FRONT, **changes: Any) -> pd.DataFrame:
    """A trial for each setting: its defense, accuracy, and what the trigger adds to a floor of 0.05."""
    known = {"images_seen": 1000, "seconds": 2.0, **changes}
    rows = [
        row_with(f"t{n}", name, defense=defense, val_acc=acc, val_asr=added + 0.05, val_asr_excess=added, **known)
        for n, (name, (defense, acc, added)) in enumerate(front.items())
    ]
    return frame_of(*rows, control_row(images_seen=500, seconds=1.0))


def test_several_defenses_are_compared() -> None:
    assert compared(trials())
    assert not compared(frame_of(row_with(), control_row())), "a control is none of them"
    assert compared(points(trials()))


def test_each_defense_has_a_frontier_of_its_own() -> None:
    table = points(trials())
    own = set(table.loc[own_frontiers(table), "config_id"])
    assert own == {"careful", "bold", "middle"}
    assert not own_frontiers(points(trials(weak_attack=True))).any()


def test_who_holds_what_of_the_joint_frontier() -> None:
    """Areas by hand: rectangles of accuracy times what the excess leaves."""
    table = holders(points(trials()))
    assert table["defense"].tolist() == ["vab", "abl"]
    vab, abl = table.to_dict("records")
    assert (vab["settings"], vab["joint"], vab["excess_from"], vab["excess_to"]) == (2, 2, 0.0, 0.4)
    assert (abl["settings"], abl["joint"], abl["excess_from"], abl["excess_to"]) == (2, 1, 0.2, 0.2)
    assert vab["hypervolume"] == pytest.approx(0.9 * 0.6 + 0.5 * 0.4)
    assert abl["hypervolume"] == pytest.approx(0.6 * 0.8)
    assert abl["alone"] == pytest.approx((0.6 - 0.5) * (0.4 - 0.2))
    assert vab["alone"] == pytest.approx(0.5 * 0.2 + 0.3 * 0.6)
    assert holder_rows(table)[1] == ["abl", "2", "0.480", "1", "0.200", "0.020"]


def test_a_defense_that_holds_nothing_says_so() -> None:
    table = holders(points(trials({"good": ("vab", 0.9, 0.0), "bad": ("pt", 0.8, 0.1)})))
    assert holder_rows(table)[1] == ["pt", "1", "0.720", "0", "-", "0.000"]
    assert holders(points(trials(weak_attack=True))).empty


def test_what_defenses_hold_is_told_attacker_by_attacker() -> None:
    """The second rate is harder, and what a defense holds there is nothing beside its figures at the first."""
    mild = trials({"a": ("vab", 0.9, 0.0), "b": ("abl", 0.8, 0.1)}, poison_rate=0.05)
    hard = trials({"c": ("vab", 0.4, 0.5), "d": ("abl", 0.5, 0.5)}, poison_rate=0.2)
    hard = hard.assign(trial_id=hard["trial_id"] + "h")
    table = points(pd.concat([mild, hard], ignore_index=True))
    assert set(table.loc[own_frontiers(table), "config_id"]) == {"a", "b", "c", "d"}
    held = holders(table)
    assert held[["environment", "defense", "joint"]].values.tolist() == [
        ["poison_rate=0.05", "vab", 1], ["poison_rate=0.05", "abl", 0],
        ["poison_rate=0.2", "abl", 1], ["poison_rate=0.2", "vab", 0],
    ]  # fmt: skip
    assert held["hypervolume"].tolist() == pytest.approx([0.9, 0.8 * 0.9, 0.5 * 0.5, 0.4 * 0.5])
    assert held["alone"].tolist() == pytest.approx([0.9 - 0.8 * 0.9, 0.0, (0.5 - 0.4) * 0.5, 0.0])


def confirmation(config: str, seed: int, **changes: Any) -> dict[str, Any]:
    return row_with(f"k-{config}-{seed}", config, role="confirmation", seed=seed, **changes)


def test_the_setting_nearest_to_the_corner_stands_for_a_defense_and_confirmed_ones_go_before() -> None:
    """Distances: careful 0.5, bold 0.41; middle 0.45."""
    found = representatives(trials())
    assert dict(zip(found["defense"], found["config_id"], strict=True)) == {"abl": "middle", "vab": "bold"}
    fresh = [confirmation("careful", seed, val_acc=0.5, val_asr=0.1) for seed in (5, 6)]
    found = representatives(pd.concat([trials(), frame_of(*fresh)]))
    assert found.groupby("defense")["seed"].apply(list).to_dict() == {"abl": [0], "vab": [5, 6]}
    assert set(found.loc[found["defense"] == "vab", "config_id"]) == {"careful"}
    assert representatives(trials(weak_attack=True)).empty


def test_a_confirmed_setting_goes_before_one_that_beats_it_in_the_search() -> None:
    """As where an earlier version confirmed what led by attack success alone."""
    found = representatives(pd.concat([trials(), frame_of(confirmation("beaten", 5, defense="abl"))]))
    assert set(found.loc[found["defense"] == "abl", "config_id"]) == {"beaten"}


def test_a_weak_seed_among_the_confirming_ones_is_shown_and_does_not_bring_back_the_search() -> None:
    fresh = [confirmation("bold", 5, val_acc=0.7), confirmation("bold", 6, val_acc=0.5, weak_attack=True)]
    fresh.append(confirmation("careful", 5, val_acc=1.0, val_asr=0.0))
    found = representatives(pd.concat([trials(), frame_of(*fresh)]))
    own = found[found["defense"] == "vab"]
    assert own[["config_id", "seed"]].values.tolist() == [["bold", 5], ["bold", 6]], "and the search chose it"
    table = standings(pd.concat([trials(), frame_of(*fresh)])).set_index("defense")
    assert table.loc["vab", "val_acc"] == pytest.approx(0.6)
    assert table["weak"].to_dict() == {"abl": False, "vab": True, NO_DEFENSE: False}


def test_a_control_that_did_not_finish_makes_the_attack_weak_in_the_standings() -> None:
    fresh = [confirmation("bold", seed, weak_attack=weak, control_asr=None) for seed, weak in ((5, False), (6, None))]
    table = standings(pd.concat([trials(), frame_of(*fresh)])).set_index("defense")
    assert table["weak"].to_dict() == {"abl": False, "vab": True, NO_DEFENSE: False}


def test_where_trials_meet_different_attackers_each_has_a_representative() -> None:
    rows = [
        row_with(f"{defense}-{scenario}", f"{defense}-{scenario}", defense=defense, scenario=scenario, val_asr=asr)
        for defense, mild, hard in (("vab", 0.0, 0.5), ("abl", 0.1, 0.2))
        for scenario, asr in (("badnets", mild), ("blend", hard))
    ]
    table = standings(frame_of(*(row | {"images_seen": 1, "seconds": 1.0} for row in rows)))
    assert table[["scenario", "defense", "val_asr"]].values.tolist() == [
        ["badnets", "abl", 0.1], ["badnets", "vab", 0.0], ["blend", "abl", 0.2], ["blend", "vab", 0.5],
    ]  # fmt: skip


def test_the_control_is_that_of_the_same_attack_and_a_seed_counts_once() -> None:
    alpha = "param.scenario.alpha"
    rows = [
        row_with("t0", "a", val_acc=0.8, **{alpha: 0.3}), row_with("t1", "a", val_acc=0.6, **{alpha: 0.3}),
        row_with("t2", "b", defense="abl", val_acc=0.1, val_asr=0.9, **{alpha: 0.1}),
        control_row(val_acc=0.9, **{alpha: 0.3}), control_row(trial="c1", val_acc=0.2, **{alpha: 0.1}),
        row_with("t3", "clean", poison_rate=0.0, val_acc=0.7, val_asr=0.0, weak_attack=None, **{alpha: 0.3}),
    ]  # fmt: skip
    frame = frame_of(*(row | {"images_seen": 1, "seconds": 1.0} for row in rows))
    table = standings(frame[frame["defense"] != "abl"])
    own = table[(table["defense"] == "vab") & (table["poison_rate"] > 0)]
    assert (own["val_acc"].item(), own["seeds"].item()) == (pytest.approx(0.7), 1)
    assert own["val_acc_sd"].isna().all(), "one seed has no spread, however often it ran"
    control = table[(table["defense"] == NO_DEFENSE) & (table["poison_rate"] > 0)]
    assert control["val_acc"].tolist() == [0.9]
    assert not table.loc[table["poison_rate"] == 0, "weak"].any()


def test_each_defense_against_each_attack_beside_no_defense() -> None:
    def run(defense: str, scenario: str, seed: int, acc: float, **more: Any) -> dict[str, Any]:
        figures = {"val_acc": acc, "val_min_class_acc": seed / 10, "val_asr": 0.1, "images_seen": 1000 * (seed + 1),
                   "seconds": 2.0}  # fmt: skip
        name = {"scenario": scenario, "attack": scenario, "seed": seed}
        return row_with(f"{defense}-{scenario}", f"{defense}-1", defense=defense, **name, **figures, **more)

    def control(scenario: str, seed: int, acc: float) -> dict[str, Any]:
        return control_row(scenario=scenario, attack=scenario, seed=seed, val_acc=acc, images_seen=600, seconds=1.0)

    frame = frame_of(
        run("vab", "badnets", 0, 0.8), run("vab", "badnets", 1, 0.9),
        run("vab", "sig", 0, 0.7), run("vab", "sig", 1, 0.7),
        run("abl", "badnets", 0, 0.6, detection_auroc=0.9), run("abl", "badnets", 1, 0.6, detection_auroc=0.7),
        control("badnets", 0, 0.95), control("badnets", 1, 0.93), control("sig", 0, 0.9), control("sig", 1, 0.9),
        control("badnets", 7, 0.1),
    )  # fmt: skip
    table = standings(frame).set_index(["scenario", "defense"])
    assert list(table.index) == [
        ("badnets", "abl"), ("badnets", NO_DEFENSE), ("badnets", "vab"), ("sig", NO_DEFENSE), ("sig", "vab"),
    ]  # fmt: skip
    vab = table.loc[("badnets", "vab")]
    assert (vab["seeds"], vab["val_acc"], vab["images_seen"]) == (2, pytest.approx(0.85), 1500)
    assert vab["val_acc_sd"] == pytest.approx(0.1 / 2**0.5)
    assert table.loc[("badnets", NO_DEFENSE), "val_acc"] == pytest.approx(0.94), "on the seeds of the others"
    assert set(FIGURES) < set(table.columns)
    line = standing_rows(standings(frame))[0]
    assert line == [
        "badnets 0.1", "abl", "abl-1", "2", "0.600 ± 0.000", "0.050 ± 0.071", "0.050 ± 0.000", "0.100 ± 0.000",
        "0.050", "1.000", "0.800 ± 0.141", "1,500", "2",
    ]  # fmt: skip


def test_attack_success_at_a_glance() -> None:
    """ABL's Blend has a high attack success at a high floor: the trigger adds less to it than to BadNets."""
    figures = {"vab": (0.6, (0.1, 0.05), (0.7, 0.05)), "abl": (0.5, (0.3, 0.05), (0.8, 0.7))}
    attacks = [
        row_with(f"t{n}{attack}", name, scenario=attack, defense=name, val_acc=acc, val_asr=asr, asr_floor=floor)
        for n, (name, (acc, *found)) in enumerate(figures.items())
        for attack, (asr, floor) in zip(("badnets", "blend"), found, strict=True)
    ]
    rows = [row | {"trial_id": row["trial_id"][:2]} for row in attacks]
    controls = [control_row(trial=f"c{n}", scenario=attack) for n, attack in enumerate(("badnets", "blend"))]
    headings, lines = grid_rows(standings(frame_of(*rows, *controls)))
    assert headings == ["defense", "setting", "val_acc", "worst excess", "badnets 0.1", "blend 0.1"]
    assert [line[0] for line in lines] == [NO_DEFENSE, "abl", "vab"], "by their worst attack, after no defense"
    assert lines[1][2:] == ["0.500", "0.250", "0.250 (0.300, 0.050)", "0.100 (0.800, 0.700)"]
    assert lines[2][2:] == ["0.600", "0.650", "0.050 (0.100, 0.050)", "0.650 (0.700, 0.050)"]


def test_the_comparison_is_printed_and_one_defense_is_none() -> None:
    def printed(frame: pd.DataFrame) -> str:
        out = io.StringIO()
        print_comparison(Console(file=out, width=200), frame, points(frame))
        return out.getvalue()

    text = printed(trials())
    assert "Joint frontier by defense" in text
    assert "Each defense against each attack" in text
    assert text.index("middle") < text.index("bold")
    assert printed(frame_of(row_with(), control_row())) == ""


def test_a_curve_for_each_seed_of_defenses_that_give_scores(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [
        row_with(f"{defense}{seed}", defense, defense=defense, seed=seed)
        for defense in ("vab", "abl", "bcu")
        for seed in (0, 1)
    ]
    frame = frame_of(control_row(), *rows)
    folder = RunFolder(tmp_path)
    poisoned = [True, True, False, False, False]
    for name, suspicion in {"vab": [1.0, 0.9, 0.2, 0.1, 0.0], "abl": [0.5, 0.1, 0.9, 0.2, 0.0]}.items():
        for seed in (0, 1):
            samples = [{"suspicion": s, "poisoned": p} for s, p in zip(suspicion, poisoned, strict=True)]
            write_table(folder.scores_of(f"{name}{seed}", "badnets", seed), samples, ("suspicion", "poisoned"))
    found = curves(frame, folder)
    assert list(found) == ["badnets at rate 0.1"]
    defenses = found["badnets at rate 0.1"]
    assert {name: len(lines) for name, lines in defenses.items()} == {"vab": 2, "abl": 2}
    wrong, right = defenses["vab"][0]
    assert np.trapezoid(right, wrong) == pytest.approx(1)
    wrong, right = defenses["abl"][0]
    assert np.trapezoid(right, wrong) == pytest.approx(3 / 6), "of six pairs the poisoned sample leads in three"
    assert write_roc(folder, frame[frame["defense"] == "vab"], "one defense", tmp_path) is None
    assert write_roc(RunFolder(tmp_path / "other"), frame, "no scores", tmp_path) is None
    assert write_roc(folder, frame, "small", tmp_path) == folder.roc
    assert folder.roc.stat().st_size > 0
    lines = drawn[0].axes[0].get_lines()
    texts = {text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()}
    assert texts == {"chance", "vab 1.00", "abl 0.50"}  # abl: three of six pairs in the right order
    colours = [line.get_color() for line in lines[1:]]
    assert sorted(colours) == sorted([DEFENSE_COLOURS["vab"], DEFENSE_COLOURS["abl"]] * 2)
