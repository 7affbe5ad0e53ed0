import math
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from sweeper.analysis.attackers import attackers
from sweeper.report.attack_plots import MOST_MAPS, MOST_RATES, can_map, draw_attackers, draw_breaking, draw_map
from sweeper.report.plots import BLUE, RED
from sweeper.report.summary import write_frontier
from tests.sweeper.small import ONE_SETTING, control_row, frame_of, make_objectives, row_with, spec_with

ALPHA = "param.scenario.alpha"


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n")


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}


def lines(axes: Axes, colour: str) -> list[list[list[float]]]:
    """The points of each line of this colour that joins several."""
    found = [line for line in axes.lines if line.get_color() == colour and line.get_linestyle() == "-"]
    return [line.get_xydata().tolist() for line in found if len(line.get_xydata()) > 1]


def dots(axes: Axes) -> list[list[float]]:
    clouds = [part for part in axes.collections if isinstance(part, PathCollection)]
    return sorted(point for cloud in clouds for point in np.asarray(cloud.get_offsets()).tolist())


def run(config: str, scenario: str, rate: float, asr: float, acc: float = 0.8, **changes: Any) -> dict[str, Any]:
    known = {"scenario": scenario, "poison_rate": rate, "val_asr": asr, "asr_floor": 0.0, "val_acc": acc}
    return row_with(f"{config}-{scenario}-{rate}", config, **(known | changes))


def control(scenario: str, rate: float, asr: float, **changes: Any) -> dict[str, Any]:
    known = {"scenario": scenario, "poison_rate": rate, "val_asr": asr, "asr_floor": 0.0}
    return control_row(trial=f"c-{scenario}-{rate}", **(known | changes))


def test_a_map_has_a_panel_for_each_attack_and_a_frontier_for_each_rate(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [
        control("badnets", 0.1, 0.95),
        run("a", "badnets", 0.1, 0.1, 0.7), run("b", "badnets", 0.1, 0.4, 0.8), run("c", "badnets", 0.1, 0.5, 0.6),
        run("a", "badnets", 0.01, 0.05, 0.9), run("b", "badnets", 0.01, 0.2, 0.85),
        run("a", "blend", 0.1, 0.3, 0.5),
    ]  # fmt: skip
    assert is_png(draw_map(frame_of(*rows), "small", tmp_path / "map.png"))
    found = panels(drawn[0])
    assert list(found) == ["badnets", "blend"]
    steps = {line.get_label(): line for line in found["badnets"].lines if not line.get_label().startswith("_")}
    assert {name: line.get_xydata().tolist() for name, line in steps.items()} == {
        "0.01": [[0.05, 0.9]], "0.1": [[0.1, 0.7], [0.4, 0.8]],
    }  # fmt: skip
    assert steps["0.01"].get_color() != steps["0.1"].get_color()
    other = {line.get_label(): line for line in found["blend"].lines}
    assert other["0.1"].get_color() == steps["0.1"].get_color(), "a rate has one colour in all panels"
    settings = [[0.05, 0.9], [0.1, 0.7], [0.2, 0.85], [0.4, 0.8], [0.5, 0.6], [0.95, 0.9]]
    leading = [[0.05, 0.9], [0.1, 0.7], [0.4, 0.8]]
    assert dots(found["badnets"]) == sorted(settings + leading), "the second time by attack success: the floor is 0"
    assert "one seed" in drawn[0].get_suptitle()


def test_weak_attacks_make_no_frontier_on_a_map(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [
        run("a", "badnets", 0.1, 0.1, 0.7), run("b", "badnets", 0.1, 0.4, 0.8),
        run("a", "badnets", 0.01, 0.0, 0.9, weak_attack=True), run("b", "badnets", 0.01, 0.0, 0.8, weak_attack=None),
    ]  # fmt: skip
    draw_map(frame_of(*rows), "small", tmp_path / "map.png")
    axes = panels(drawn[0])["badnets"]
    joined = {line.get_label(): line.get_xydata().tolist() for line in axes.lines if line.get_label()[0] != "_"}
    assert joined == {"0.01": [], "0.1": [[0.1, 0.7], [0.4, 0.8]]}
    hollow = [c for c in axes.collections if len(c.get_facecolors()) == 0 and len(c.get_offsets())]
    assert [sorted(map(tuple, c.get_offsets().tolist())) for c in hollow] == [[(0.0, 0.8), (0.0, 0.9)]]


def test_a_missing_control_changes_no_settings_seeds(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [*(run("a", "badnets", 0.1, 0.1, seed=seed) for seed in (0, 1)), control("badnets", 0.1, 0.9)]
    draw_map(frame_of(*rows), "small", tmp_path / "map.png")
    assert "means over 2 seeds" in drawn[0].get_suptitle()
    draw_map(frame_of(*rows, run("b", "badnets", 0.1, 0.2)), "small", tmp_path / "map.png")
    assert "means over 1 to 2 seeds" in drawn[1].get_suptitle()


def test_a_map_of_one_rate_and_of_runs_without_figures(tmp_path: Path) -> None:
    rows = [run("a", "badnets", 0.1, 0.2), run("b", "blend", 0.1, 0.3)]
    unknown = run("c", "blend", 0.1, 0.3, asr_floor=None) | {"val_asr": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert is_png(draw_map(frame_of(*rows, unknown), "small", tmp_path / "map.png"))


def test_success_over_the_rates_for_every_setting_and_without_a_defense(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [
        *(control("badnets", rate, asr, seed=seed) for rate, asr in ((0.01, 0.6), (0.1, 1.0)) for seed in (0, 1)),
        *(run("a", "badnets", rate, asr, seed=seed) for seed, rate, asr in
          ((0, 0.01, 0.1), (1, 0.01, 0.3), (0, 0.1, 0.5), (1, 0.1, 0.9))),
        *(run("b", "badnets", rate, 0.75, asr_floor=0.5, seed=seed) for rate in (0.01, 0.1) for seed in (0, 1)),
        run("a", "once", 0.1, 0.9, seed=0),
    ]  # fmt: skip
    assert is_png(draw_breaking(frame_of(*rows), "small", tmp_path / "breaking.png"))
    found = panels(drawn[0])
    assert list(found) == ["badnets"], "a scenario with one rate breaks nowhere"
    axes = found["badnets"]
    assert lines(axes, RED) == [[[0.01, 0.6], [0.1, 1.0]]]
    assert lines(axes, BLUE) == [
        [[0.01, pytest.approx(0.2)], [0.1, pytest.approx(0.7)]], [[0.01, 0.25], [0.1, 0.25]],
    ]  # fmt: skip
    raw = [line.get_xydata().tolist() for line in axes.lines if line.get_linestyle() == "--"]
    assert [[0.01, 0.75], [0.1, 0.75]] in raw, "attack success beside it, with the floor"
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.01", "0.1"]
    assert "means over 2 seeds" in drawn[0].get_suptitle()
    bars = [np.asarray(bar.get_segments()) for bar in axes.collections if hasattr(bar, "get_segments")]
    lengths = sorted({round(float(low_high[1, 1] - low_high[0, 1]), 6) for bar in bars for low_high in bar})
    assert lengths == pytest.approx([0, 2 * 0.1 * 2**0.5, 2 * 0.2 * 2**0.5], abs=1e-5)


def test_the_rates_on_the_axis_do_not_run_into_each_other(tmp_path: Path, drawn: list[Figure]) -> None:
    rates = [0.03, 0.0301, 0.0302, 0.05, 0.051, 0.1, 0.101234567, 0.15]
    rows = [run("a", "badnets", rate, 0.5) for rate in rates]
    draw_breaking(frame_of(*rows), "small", tmp_path / "breaking.png")
    (axes,) = drawn[0].axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.03", "0.05", "0.1", "0.15"]
    boxes = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    assert all(left.x1 - right.x0 < left.width / 2 for left, right in pairwise(boxes))


@pytest.mark.parametrize(
    ("scenarios", "rates", "legible"),
    [(2, 3, True), (MOST_MAPS, 1, True), (MOST_MAPS + 1, 1, False), (1, MOST_RATES, True), (1, MOST_RATES + 1, False)],
)
def test_a_map_of_too_much_is_not_drawn(scenarios: int, rates: int, legible: bool) -> None:
    rows = [run("a", f"s{s}", (r + 1) / 100, 0.1) for s in range(scenarios) for r in range(rates)]
    assert can_map(frame_of(*rows)) == legible


def test_nothing_is_no_map() -> None:
    assert not can_map(frame_of(row_with(status="FAILED")))


def test_many_attackers_are_a_map_and_those_of_an_attackers_sweep_are_not(tmp_path: Path, drawn: list[Figure]) -> None:
    def written(rows: list[dict[str, Any]]) -> list[str]:
        drawn.clear()
        _, _, files = write_frontier(frame_of(*rows), "small", tmp_path)
        assert all(path.exists() for path in files)
        return [path.name for path in files]

    attacks = [run("a", f"attack{n:02}", 0.1, 0.1) for n in range(13)]
    assert written(attacks) == ["frontier.parquet", "frontier.png"]
    assert list(panels(drawn[0])) == [f"attack{n:02}" for n in range(13)]

    searched = [run("a", "blend", 0.1 + n / 1000, 0.1, **{ALPHA: n / 20}) for n in range(13)]
    assert written(searched) == ["frontier.parquet", "frontier.png"]
    assert list(panels(drawn[0])) == ["13 attackers"]
    assert [line for line in drawn[0].axes[0].lines if len(line.get_xydata()) > 2] == [], "13 frontiers are none"
    assert "frontier" not in drawn[0].axes[0].get_legend_handles_labels()[1]

    few = [run(config, "blend", rate, 0.1) for config in "ab" for rate in (0.05, 0.1)]
    assert written(few) == ["frontier.parquet", "frontier.png", "breaking.png"]
    assert [title.split(":")[0] for title in panels(drawn[0])] == ["poison_rate=0.05", "poison_rate=0.1"]
    assert list(panels(drawn[1])) == ["blend"]


def attackers_of(*rows: dict[str, Any]) -> Any:
    spec = spec_with(
        defense=ONE_SETTING,
        objectives=make_objectives(("val_asr", "maximize"), ("poison_rate", "minimize")),
        constraints=[{"metric": "control_asr", "min": 0.8}],
    )
    return attackers(frame_of(*rows), spec)


def test_attackers_by_rate_and_success(tmp_path: Path, drawn: list[Figure]) -> None:
    table = attackers_of(
        run("a", "blend", 0.05, 0.4, detection_auroc=0.9), run("a", "blend", 0.1, 0.7, detection_auroc=0.45),
        run("a", "blend", 0.12, 0.6, detection_auroc=None), run("a", "blend", 0.02, 0.9, control_asr=0.2),
    )  # fmt: skip
    assert is_png(draw_attackers(table, "val_asr", "small", tmp_path / "attackers.png"))
    (figure,) = drawn
    axes = figure.axes[0]
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    assert found["a constraint is broken"].get_offsets().tolist() == [[0.02, 0.9]]
    assert sorted(found["leads (non-dominated)"].get_offsets().tolist()) == [[0.05, 0.4], [0.1, 0.7]]
    (cloud,) = [c for c in axes.collections if c.get_array() is not None]
    aurocs = np.ma.filled(cloud.get_array().astype(float), np.nan).tolist()
    values = dict(zip(map(tuple, cloud.get_offsets().tolist()), aurocs, strict=True))
    assert values == {(0.05, 0.4): 0.9, (0.1, 0.7): 0.45, (0.12, 0.6): pytest.approx(math.nan, nan_ok=True)}
    assert cloud.get_clim() == (0.45, 1), "what lies below 0.5 keeps a colour of its own"
    floors = sorted(map(tuple, found["ASR floor"].get_offsets().tolist()))
    assert floors == [(0.02, 0.0), (0.05, 0.0), (0.1, 0.0), (0.12, 0.0)]
    assert "one seed" in axes.get_title()
    seeds = [run("a", "blend", 0.05, asr, seed=seed) for seed, asr in ((0, 0.4), (1, 0.6))]
    draw_attackers(attackers_of(*seeds), "val_asr", "small", tmp_path / "attackers.png")
    (bars,) = [c for c in drawn[1].axes[0].collections if hasattr(c, "get_segments") and len(c.get_segments())]
    spread = 0.1 * 2**0.5
    assert bars.get_segments()[0][:, 1].tolist() == pytest.approx([0.5 - spread, 0.5 + spread])
    assert "means over 2 seeds" in drawn[1].axes[0].get_title()


@pytest.mark.parametrize(
    "rows",
    [
        [run("a", "blend", 0.05, 0.4, control_asr=0.1)],
        [run("a", "blend", 0.05, 0.4, detection_auroc=None)],
        [row_with(status="FAILED", val_asr=None)],
    ],
    ids=["none is sound", "no AUROC is known", "none finished"],
)
def test_a_poor_attackers_sweep_has_a_picture_too(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    assert is_png(draw_attackers(attackers_of(*rows), "val_asr", "small", tmp_path / "attackers.png"))
    assert not plt.get_fignums()
