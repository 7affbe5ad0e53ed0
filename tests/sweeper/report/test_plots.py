from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from sweeper.analysis.frontier import hypervolumes, points
from sweeper.report import plots
from sweeper.run_folder.folder import RunFolder
from tests.sweeper.small import control_row, finish, frame_of, record_of, row_with, spec_with


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n")


def by_label(figure: Figure) -> dict[str, Any]:
    axes = figure.axes[0]
    return dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))


def draw(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    table, again = points(frame_of(*rows)), points(frame_of(*rows), role="confirmation")
    return plots.draw_frontier(table, "small", hypervolumes(table), tmp_path / "frontier.png", again)


def test_the_frontier_with_control_attack_success_and_weak_points(tmp_path: Path, drawn: list[Figure]) -> None:
    weak = {"weak_attack": True, "control_asr": 0.4}
    rows = [row_with("t0", val_acc=0.8, val_asr=0.125, asr_floor=0.125),
            row_with("t1", val_acc=0.9, val_asr=0.375, asr_floor=0.125),
            row_with("t2", val_acc=0.5, val_asr=0.5, asr_floor=0.0),
            row_with("t3", val_acc=0.95, val_asr=0.0, **weak)]  # fmt: skip
    path = draw(tmp_path, control_row(val_acc=0.92, asr_floor=0.25), *rows)
    assert is_png(path)
    (figure,) = drawn
    found = by_label(figure)
    assert found["frontier"].get_xydata().tolist() == [[0.0, 0.8], [0.25, 0.9]]
    assert sorted(found["setting"].get_offsets().tolist()) == [[0.0, 0.8], [0.25, 0.9], [0.5, 0.5]]
    assert found["weak attack: no evidence"].get_offsets().tolist() == [[0.0, 0.95]]
    assert [0.75, 0.92] in found["no defense (control)"].get_offsets().tolist()
    (raw,) = [label for label in found if label.endswith("floor included (val_asr)")]
    assert found[raw].get_offsets().tolist() == [[0.125, 0.8], [0.375, 0.9]]
    assert "one seed" in figure.get_suptitle()
    assert "hypervolume" in figure.axes[0].get_title()


def test_each_defense_has_a_frontier_in_its_colour(tmp_path: Path, drawn: list[Figure]) -> None:
    """A legend names those of every panel."""
    known = [("vab", 0.8, 0.1), ("vab", 0.9, 0.3), ("abl", 0.7, 0.2), ("abl", 0.85, 0.4), ("abl", 0.5, 0.3)]
    rows = [row_with(f"t{n}", defense=name, val_acc=acc, val_asr_excess=x) for n, (name, acc, x) in enumerate(known)]
    rows.append(row_with("t9", defense="bcu", poison_rate=0.2))
    draw(tmp_path, control_row(), *rows)
    (figure,) = drawn
    found = by_label(figure)
    assert found["vab"].get_xydata().tolist() == [[0.1, 0.8], [0.3, 0.9]]
    assert found["abl"].get_xydata().tolist() == [[0.2, 0.7], [0.4, 0.85]], "its own, though others beat it"
    assert found["joint frontier"].get_xydata().tolist() == [[0.1, 0.8], [0.3, 0.9]]
    assert found["vab"].get_color() != found["abl"].get_color()
    (legend,) = figure.legends
    assert {"vab", "abl", "bcu"} < {text.get_text() for text in legend.get_texts()}
    assert "dominated by another setting of its defense" in found
    assert "weak attack: no evidence" not in found, "there is none"


def test_what_fresh_seeds_made_of_a_setting_is_drawn_to_what_the_search_saw(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    rows = [row_with("t0", "a", defense="pt", val_acc=0.85, val_asr_excess=0.1),
            row_with("t1", "b", defense="bcu", val_acc=0.8, val_asr_excess=0.3)]  # fmt: skip
    fresh = [row_with(f"k{seed}", "a", defense="pt", role="confirmation", seed=seed, val_acc=0.8, val_asr_excess=x)
             for seed, x in ((5, 0.9), (6, 1.0))]  # fmt: skip
    draw(tmp_path, control_row(), *rows, *fresh)
    (figure,) = drawn
    axes = figure.axes[0]
    assert "again with 2 fresh seeds (mean, sd)" in by_label(figure)
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert line.get_xydata() == pytest.approx(np.array([[0.1, 0.85], [0.95, 0.8]]))
    (bar,) = axes.containers
    assert bar[0].get_xydata() == pytest.approx(np.array([[0.95, 0.8]]))
    (across, up) = (segments.get_segments()[0] for segments in bar[2])
    sd = 0.1 / 2**0.5
    assert across == pytest.approx(np.array([[0.95 - sd, 0.8], [0.95 + sd, 0.8]]))
    assert up == pytest.approx(np.array([[0.95, 0.8], [0.95, 0.8]]))
    assert line.get_color() == by_label(figure)["pt"].get_color()


def test_without_a_second_seed_a_confirmation_has_no_spread(tmp_path: Path, drawn: list[Figure]) -> None:
    draw(tmp_path, control_row(), row_with("t0", "a"), row_with("k0", "a", role="confirmation", seed=5))
    (bar,) = drawn[0].axes[0].containers
    assert bar[2] == ()


def test_a_panel_per_environment(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [row_with(f"t{i}", poison_rate=rate) for i, rate in enumerate((0.01, 0.05, 0.1, 0.15, 0.2))]
    assert is_png(draw(tmp_path, *rows))
    titles = [axes.get_title() for axes in drawn[0].axes if axes.get_visible()]
    assert len(titles) == 5
    assert titles[0].startswith("poison_rate=0.01: hypervolume 0.76")


def test_several_seeds_are_said(tmp_path: Path, drawn: list[Figure]) -> None:
    draw(tmp_path, row_with(config="a", seed=0), row_with(config="a", seed=1))
    assert "means over 2 seeds" in drawn[0].get_suptitle()


def test_nothing_to_draw_is_a_picture_too(tmp_path: Path) -> None:
    assert is_png(draw(tmp_path, row_with(status="FAILED", val_acc=None, val_asr=None)))
    clean = {"poison_rate": 0.0, "val_asr": None, "weak_attack": None, "control_asr": None, "asr_floor": None}
    assert is_png(draw(tmp_path, row_with(**clean)))
    assert not plt.get_fignums()


def test_curves_and_histograms_of_a_trial(tmp_path: Path, drawn: list[Figure]) -> None:
    record = finish(record_of(spec=spec_with(seeds=[0, 1])), detection_auroc=None)
    folder = RunFolder.create(tmp_path / "run")
    folder.scores.mkdir()
    scores = pa.table({"suspicion": [0.0, 0.5, 1.0, 0.9], "credible": [True, True, False, False],
                       "poisoned": [False, False, False, True]})  # fmt: skip
    pq.write_table(scores, folder.scores / "t0000-badnets-1.parquet")
    made = plots.draw_trial(record, folder, tmp_path)
    assert [path.name for path in made] == ["curves.png", "entropy-badnets-1.png"]
    assert all(is_png(path) for path in made)
    curves, histogram = drawn
    assert [axes.get_title() for axes in curves.axes] == ["badnets, seed 0", "badnets, seed 1"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in curves.axes[0].lines}
    assert lines["val_acc"] == [[1, 0.8], [2, 0.8], [3, 0.8]]
    assert "detection_auroc" not in lines
    labels = histogram.axes[0].get_legend_handles_labels()[1]
    assert labels == ["clean: 3, 66.7% credible", "poisoned: 1, 0.0% credible"]


def test_a_trial_is_drawn_without_pyplot_which_is_for_the_main_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.scores.mkdir()
    scores = pa.table({"suspicion": [0.1], "credible": [True], "poisoned": [False]})
    pq.write_table(scores, folder.scores / "t0000-badnets-0.parquet")
    for name in ("close", "figure", "subplots"):
        monkeypatch.delattr(plots.plt, name)
    assert len(plots.draw_trial(finish(record_of()), folder, tmp_path)) == 2


def test_a_trial_without_an_epoch_has_no_picture(tmp_path: Path) -> None:
    assert plots.draw_trial(record_of(), RunFolder(tmp_path), tmp_path) == []


def test_no_poison_no_second_histogram(tmp_path: Path, drawn: list[Figure]) -> None:
    pq.write_table(pa.table({"suspicion": [0.1], "credible": [True], "poisoned": [False]}), tmp_path / "s.parquet")
    plots.draw_histogram(tmp_path / "s.parquet", "title", tmp_path / "h.png")
    assert drawn[0].axes[0].get_legend_handles_labels()[1] == ["clean: 1, 100.0% credible"]
