"""What the page of a running sweep shows."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.report import live
from sweeper.report.live import LiveSweep, as_json
from sweeper.report.points import for_json
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.live import RunningTraining, write_live
from tests.sweeper.report.watched import Watched
from tests.sweeper.small import ONE_SETTING, finish, make_objectives, record_of


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is answered anew."""
    monkeypatch.setattr(live, "AGAIN_AFTER_S", -1.0)
    monkeypatch.setattr(live, "FIGURES_SHARE", 0)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "run")


def test_a_running_sweep(watched: Watched) -> None:
    """Two trials finished, two left their races, one runs, one waits; of eight."""
    watched.controls()
    for number, (acc, asr) in enumerate(((0.9, 0.3), (0.8, 0.1))):
        watched.trial(number, val_acc=acc, val_asr=asr)
    for number, asr in ((2, 0.9), (3, 0.8)):
        watched.race_out(watched.trial(number), asr)
    runs, waits = watched.trial(4), watched.trial(5)
    watched.train(runs, ("badnets", 0), val_acc=0.7, val_asr=0.25)
    with RunFolder(watched.folder.path).lock():
        write_live(
            watched.folder,
            [
                RunningTraining("t0004", "blend", 0, "10.0.0.1", 7, "mix"),
                RunningTraining("t0004", "badnets", 0, "10.0.0.2", 9, "mix"),  # it has ended since
                RunningTraining("t0004", "blend", 1, None, 0, None),
                RunningTraining("t0099", "blend", 1, None, 0, None),
            ],
        )
        answer = LiveSweep(watched.folder).answer()
    assert answer["word"] == "running"
    assert answer["over"] is False
    assert answer["trials"] == [4, 8]
    assert answer["trainings"] == [2 * 4 + 2 + 1, 8 * 4]
    assert answer["not_needed"] == 2 * 3
    assert answer["controls"] == 4
    assert answer["notes"] == []
    points = {point["config_id"]: point for point in answer["figures"]["points"]}
    assert {name: point["on_frontier"] for name, point in points.items()} == {"config0": True, "config1": True}
    assert points["config1"]["val_asr_excess"] == pytest.approx(0.05)
    assert points["config1"]["control_acc"] == pytest.approx(0.95)
    assert answer["figures"]["interest"] == 0.5
    best = [(one["level"], one.get("config_id")) for one in answer["summary"]["best"][""]]
    assert best == [(0.05, "config1"), (0.1, "config1"), (0.2, "config1")]
    assert answer["summary"]["levels"] == [0.05, 0.1, 0.2]
    assert [(trial["trial_id"], trial["finished"], trial["all"], trial["running"]) for trial in answer["open"]] == [
        ("t0004", 1, 4, 2), (waits.trial_id, 0, 4, 0),
    ]  # fmt: skip
    assert answer["open"][0]["shown"] == "val_acc 0.700, val_asr_excess 0.200"
    states = {(t["scenario"], t["seed"]): (t["state"], t["host"], t["epoch"]) for t in answer["open"][0]["trainings"]}
    assert states == {
        ("badnets", 0): ("finished", "10.0.0.2", 1), ("badnets", 1): ("waits", None, None),
        ("blend", 0): ("runs", "10.0.0.1", 7), ("blend", 1): ("runs", None, 0),
    }  # fmt: skip
    assert answer["hosts"] == [
        {"host": "10.0.0.1", "trainings": [{"trial_id": "t0004", "scenario": "blend", "seed": 0, "epoch": 7,
                                            "stage": "mix"}]},
        {"host": "", "trainings": [{"trial_id": "t0004", "scenario": "blend", "seed": 1, "epoch": 0, "stage": None}]},
    ]  # fmt: skip
    assert answer["ended"]["count"] == 2
    assert answer["ended"]["reasons"] == [["left its race: val_asr_excess is above the interest of 0.2", 2]]
    assert [trial["trial_id"] for trial in answer["ended"]["trials"]] == ["t0003", "t0002"], "newest first"
    assert json.loads(as_json(answer)) == answer


def test_reasons_are_counted_by_what_they_have_in_common(watched: Watched) -> None:
    for number, (status, error, left) in enumerate((
        ("PRUNED", "t0007 is at least as good as it can become", "blend"),
        ("PRUNED", "t0012 is at least as good as it can become", "blend"),
        ("PRUNED", None, None),
        ("FAILED", "The loss is nan.", None),
    )):  # fmt: skip
        record = watched.trial(number)
        record.ended_by = left
        record.end(status, error)
        watched.write(record)
    assert LiveSweep(watched.folder).answer()["ended"]["reasons"] == [
        ["left its race: another trial is at least as good as it can become", 2],
        ["failed: The loss is nan.", 1],
        ["stopped early", 1],
    ]


def test_a_sweep_that_is_interrupted_says_how_to_go_on_and_nothing_of_it_runs(watched: Watched) -> None:
    watched.trial(0)
    write_live(watched.folder, [RunningTraining("t0000", "blend", 0, "10.0.0.1", 7, "mix")])  # its driver was killed
    answer = LiveSweep(watched.folder).answer()
    assert answer["word"] == "interrupted"
    assert answer["notes"] == [f"The sweep was interrupted. To continue: sweeper resume {watched.folder.path}"]
    assert answer["hosts"] == []
    assert answer["open"][0]["running"] == 0


def test_what_an_interruption_cut_off_waits(watched: Watched) -> None:
    record = watched.trial(0)
    watched.train(record, ("blend", 0))
    record.end("FAILED", "Not finished: the sweep was interrupted.", interrupted=True)
    watched.write(record)
    (trial,) = LiveSweep(watched.folder).answer()["open"]
    assert [training["state"] for training in trial["trainings"]] == ["waits", "waits", "finished", "waits"]


def test_where_the_driver_cannot_say_what_runs_that_is_not_known(watched: Watched) -> None:
    watched.trial(0)
    with RunFolder(watched.folder.path).lock():
        assert LiveSweep(watched.folder).answer()["hosts"] is None


def test_an_ended_sweep_is_its_report(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "run", search={"trials": 1})
    watched.trial(0, val_asr=0.1)
    sweep = LiveSweep(watched.folder)
    with RunFolder(watched.folder.path).lock():
        watched.folder.report.write_text("<p>of an earlier part</p>")
        assert not sweep.is_over()
        assert sweep.answer()["report_at"] is not None
        assert not sweep.is_over()
    assert sweep.is_over()
    assert not LiveSweep(watched.folder).is_over(), "nothing is known before the first answer"
    watched.folder.report.unlink()
    assert not sweep.is_over()
    assert sweep.answer()["notes"] == [
        f"The sweep has ended, and has no report yet. To write it: sweeper report {watched.folder.path}"
    ]


def test_a_report_that_is_older_than_the_results_does_not_replace_the_page(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "run", search={"trials": 1})
    watched.trial(0, val_asr=0.1)
    watched.folder.report.write_text("<p>of an earlier part</p>")
    for number, name in enumerate(("trials.parquet", "records/t0000.json", "report.html")):
        os.utime(watched.folder.path / name, (1e9 + number, 1e9 + number))
    sweep = LiveSweep(watched.folder)
    assert sweep.answer()["over"] is True
    os.utime(watched.folder.trials, (2e9, 2e9))  # as track writes it again
    assert sweep.answer()["over"] is True
    os.utime(watched.folder.records / "t0000.json", (2e9, 2e9))
    answer = sweep.answer()
    assert answer["over"] is False
    assert answer["notes"] == [
        "The sweep has ended, and its report is older than its results. To write it: "
        f"sweeper report {watched.folder.path}"
    ]


def test_what_runs_is_not_known_from_a_file_that_a_killed_driver_left(watched: Watched) -> None:
    watched.trial(0)
    write_live(watched.folder, [RunningTraining("t0000", "blend", 0, "10.0.0.1", 7, "mix")])
    os.utime(watched.folder.live, (1e9, 1e9))
    with RunFolder(watched.folder.path).lock():
        assert LiveSweep(watched.folder).answer()["hosts"] is None


def test_settings_of_attackers_and_without_poison_have_no_bounds_on_attack_success(tmp_path: Path) -> None:
    searched = make_objectives(("val_asr_excess", "maximize"))
    attackers = Watched(tmp_path / "attackers", defense=ONE_SETTING, objectives=searched)
    clean = Watched(tmp_path / "clean")
    clean.trial(0, val_asr=None, asr_floor=None)
    for sweep, heading in ((attackers, "Settings so far"), (clean, "Frontier so far")):
        assert LiveSweep(sweep.folder).answer()["summary"]["levels"] == []
        assert f"<h2>{heading}</h2>" in LiveSweep(sweep.folder).page()


def test_the_preset_and_its_grid_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = {"name": "vab", "threshold": 0.2, "mixing": {"categorical": ["none", "attention"]}}
    watched = Watched(tmp_path / "run", defense=ONE_SETTING | grid, search={"trials": 9, "sampler": "grid"})
    sweep = LiveSweep(watched.folder)
    assert sweep.answer()["trials"] == [0, 2]
    for name in ("sweeper.report.live.grid_points", "sweeper.run_folder.status.grid_points"):
        monkeypatch.setattr(name, None)
    monkeypatch.setattr(RunFolder, "read_sweep", None)
    assert sweep.answer()["trials"] == [0, 2]


def test_a_trial_without_searched_parameters_runs_for_the_first_time(watched: Watched) -> None:
    first, again = record_of("t0000", spec=watched.spec), record_of("k0000", spec=watched.spec)
    first.searched, again.searched, again.role = {}, {}, "confirmation"
    watched.write(first, again)
    settings = {trial["trial_id"]: trial["setting"] for trial in LiveSweep(watched.folder).answer()["open"]}
    assert settings["t0000"].startswith("vab, badnets at rate 0.1, seed 0")
    assert settings["k0000"].startswith("vab again, badnets at rate 0.1, seed 0")


def test_figures_that_were_seen_are_not_sent_again(watched: Watched) -> None:
    watched.trial(0, val_asr=0.1)
    sweep = LiveSweep(watched.folder)
    first = sweep.answer()
    again = sweep.answer(first["version"])
    assert "figures" in first
    assert "figures" not in again
    assert again["version"] == first["version"]
    watched.trial(1, val_asr=0.2)
    more = sweep.answer(first["version"])
    assert [point["config_id"] for point in more["figures"]["points"]] == ["config0", "config1"]


def damage_table(folder: RunFolder) -> None:
    folder.trials.write_bytes(b"half")


def remove_table(folder: RunFolder) -> None:
    folder.trials.unlink()


@pytest.mark.parametrize("harm", [damage_table, remove_table])
def test_a_table_that_cannot_be_read_leaves_the_figures_of_before(
    watched: Watched, harm: Callable[[RunFolder], None]
) -> None:
    watched.trial(0, val_asr=0.1)
    sweep = LiveSweep(watched.folder)
    before = sweep.answer()
    harm(watched.folder)
    now = sweep.answer()
    assert "error" not in now
    assert now["figures"] == before["figures"]


def test_a_folder_that_is_away_is_an_error_until_it_is_back(watched: Watched) -> None:
    watched.trial(0, val_asr=0.1)
    sweep, away = LiveSweep(watched.folder), watched.folder.path.with_name("away")
    watched.folder.path.rename(away)
    assert "sweep.yaml cannot be read" in sweep.answer()["error"]
    away.rename(watched.folder.path)
    assert sweep.answer()["trials"] == [1, 8]


def test_a_damaged_record_hides_only_its_own_trial(watched: Watched) -> None:
    for number in range(3):
        watched.trial(number, val_asr=0.1)
    sweep = LiveSweep(watched.folder)
    (watched.folder.records / "t0001.json").write_text('{"trial_id": "t0')
    assert sweep.answer()["trials"] == [2, 8]


def test_figures_that_are_not_finite_are_null(watched: Watched) -> None:
    watched.trial(0, val_asr=0.1)
    record = watched.trial(1)
    watched.train(record, ("blend", 0), val_acc=float("inf"))
    answer = LiveSweep(watched.folder).answer()
    (figures,) = [t["figures"] for t in answer["open"][0]["trainings"] if t["state"] == "finished"]
    assert figures["val_acc"] is None
    assert json.loads(as_json(answer)) == answer


def test_arrays_and_what_is_not_finite_are_plain_for_json() -> None:
    value = {"a": np.array([1.5, np.inf]), "b": float("nan"), "c": np.int64(3), "d": -float("inf")}
    assert for_json(value) == {"a": [1.5, None], "b": None, "c": 3, "d": None}


def test_only_the_newest_of_many_are_listed(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_ENDED", 2)
    for number in range(3):
        record = record_of(f"t{number:04d}", spec=watched.spec)
        record.end("FAILED", "why")
        record.ended_at = float([5, 9, 7][number])
        watched.write(record)
    ended = LiveSweep(watched.folder).answer()["ended"]
    assert [trial["trial_id"] for trial in ended["trials"]] == ["t0001", "t0002"]
    assert ended["count"] == 3
    assert ended["reasons"] == [["failed: why", 3]]


def test_a_copy_from_a_store_says_of_when_it_is(watched: Watched) -> None:
    content: dict[str, Any] = watched.folder.read_sweep() | {"store": "s3://bucket/run"}
    watched.folder.write_sweep(content)
    watched.trial(0)
    (_, note) = LiveSweep(RunFolder.open(watched.folder.path)).answer()["notes"]
    assert note.startswith(f"What {watched.folder.path} holds is of 20")
    assert note.endswith("is copied to s3://bucket/run, which this page does not follow.")


def test_a_refused_trial_and_a_control_are_listed(watched: Watched) -> None:
    refused = record_of("t0000", spec=watched.spec)
    refused.config, refused.trainings, refused.controls, refused.config_id = None, {}, {}, None
    refused.end("FAILED", "It is not valid.")
    control = record_of("c0000", "control", watched.spec)
    watched.write(refused, control, finish(record_of("t0001", spec=watched.spec)))
    answer = LiveSweep(watched.folder).answer()
    assert answer["ended"]["trials"][0]["why"] == "It is not valid."
    assert answer["open"][0]["setting"] == "no defense, badnets at rate 0.1, seed 0"


def test_the_page_names_the_sweep_and_needs_no_network(watched: Watched) -> None:
    page = LiveSweep(watched.folder).page()
    assert "<title>small - sweep</title>" in page
    assert 'src="http' not in page
    assert "live.json" in page
