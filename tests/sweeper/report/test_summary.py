"""The frontier of one sweep, and of several together."""

import json
from pathlib import Path
from typing import Any

import pytest

from sweeper.analysis.frontier import points
from sweeper.report import summary
from sweeper.report.summary import caveats, write_joint_frontier
from sweeper.run_folder.folder import RunFolder
from tests.sweeper.small import control_row, frame_of, row_with, sweep_with, write_rows


def run_of(trial: str, config: str, cats: int, dogs: int = 9, **changes: Any) -> dict[str, Any]:
    return row_with(trial, config, val_class_counts=json.dumps([["cat", cats, 10], ["dog", dogs, 10]]), **changes)


def test_settings_that_lost_a_class_are_named_with_their_place() -> None:
    plain = json.dumps([["cat", 8, 10], ["dog", 8, 10]])
    rows = [
        control_row(val_class_counts=plain),
        run_of("t0", "best", 0, 0, val_acc=0.9, val_asr=0.0),
        run_of("t1", "beaten", 0, val_acc=0.5, val_asr=0.5),
        run_of("t2", "good", 8, val_acc=0.95, val_asr=0.1),
    ]
    texts = caveats(points(frame_of(*rows)), frame_of(*rows))
    there = "its accuracy there is below a tenth of that without a defense."
    on, off = (
        f"On the frontier: vab best has lost the classes cat, dog: {there}",
        f"Not on the frontier: vab beaten has lost the class cat: {there}",
    )
    assert [text for text in texts if "lost" in text] == [on, off]
    rows[1] = run_of("t0", "best", 8, val_acc=0.9, val_asr=0.0)
    texts = caveats(points(frame_of(*rows)), frame_of(*rows))
    assert [text for text in texts if "lost" in text] == [off]
    assert not any("lost" in text for text in caveats(points(frame_of(*rows[3:])), frame_of(*rows[3:])))


def test_many_settings_and_many_classes_are_cut_short() -> None:
    names = [f"class{n}" for n in range(8)]
    lost, plain = (json.dumps([[name, right, 10] for name in names]) for right in (0, 9))
    rows = [row_with(f"t{n}", f"s{n}", val_acc=0.1 * n, val_asr=0.1 * n, val_class_counts=lost) for n in range(1, 9)]
    frame = frame_of(control_row(val_class_counts=plain), *rows)
    texts = [text for text in caveats(points(frame), frame) if "lost" in text]
    assert len(texts) == 4
    assert texts[0].startswith(
        "On the frontier: vab s1 has lost the classes class0, class1, class2, class3, class4, 3 more: its"
    )
    assert texts[-1] == "5 other settings have lost a class: lost_classes in frontier.parquet names them."


def test_of_settings_that_lost_a_class_confirmed_ones_come_before_others() -> None:
    lost, plain = (json.dumps([["cat", right, 10]]) for right in (0, 9))
    rows = [row_with("t0", "top", val_acc=0.9, val_asr=0.0, val_class_counts=lost)]
    rows += [row_with(f"t{n}", f"s{n}", val_acc=0.5, val_asr=0.1 * n, val_class_counts=lost) for n in range(1, 6)]
    rows.append(row_with("k1", "s5", role="confirmation", seed=1, val_class_counts=lost))
    frame = frame_of(control_row(val_class_counts=plain), *rows)
    texts = [text for text in caveats(points(frame), frame) if "lost" in text]
    assert [text.partition(" has")[0] for text in texts[:-1]] == [
        "On the frontier: vab top",
        "Not on the frontier: vab s5",
        "Not on the frontier: vab s1",
    ]
    assert texts[-1] == "3 other settings have lost a class: lost_classes in frontier.parquet names them."


def test_sweeps_share_a_frontier_and_only_one_alone_has_roc_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Per-sample scores lie in a sweep's own folder."""
    monkeypatch.setattr(summary, "write_roc", lambda folder, frame, title, into: into / f"roc of {title}")
    for name in ("one", "two"):
        folder = RunFolder.create(tmp_path / name)
        folder.write_sweep(sweep_with())
        write_rows(folder, [control_row(), row_with()])
    alone = write_joint_frontier([tmp_path / "one"], tmp_path / "one")
    assert [path.name for path in alone.files] == ["frontier.parquet", "frontier.png", "roc of one"]
    assert alone.table["config_id"].tolist() == ["config-t0000"]
    together = write_joint_frontier([tmp_path / "one", tmp_path / "two"], tmp_path / "new" / "both")
    assert [path.name for path in together.files] == ["frontier.parquet", "frontier.png"]
    assert all(path.parent == tmp_path / "new" / "both" and path.exists() for path in together.files)
    assert sorted(together.table["config_id"]) == ["one/config-t0000", "two/config-t0000"]
    assert together.volumes.keys() == {""}


@pytest.mark.parametrize(
    ("changes", "names", "label"),
    [
        ("target", ("bird", "cat", "dog"), "target=1 (bird), 2 (cat), 10 (dog)"),
        ("poison_rate", (), "poison_rate=1e-05, 0.005, 0.01"),
    ],
)
def test_weak_environments_are_named_in_the_order_of_their_values(
    changes: str, names: tuple[str, ...], label: str
) -> None:
    values = (10, 1, 2) if names else (0.01, 1e-05, 0.005)
    weak = [row_with(f"t{n}", weak_attack=True, **{changes: value}) for n, value in enumerate(values)]
    known = [{"class.target": {1: "bird", 2: "cat", 10: "dog"}[row["target"]]} if names else {} for row in weak]
    rows = frame_of(*(row | more for row, more in zip(weak, known, strict=True)))
    assert caveats(points(rows), rows)[0].startswith(f"Weak attack in badnets at {label}: ")
