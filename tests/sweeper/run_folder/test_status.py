"""How far a sweep is, by its run folder."""

import io
import os
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeper.cli.tables import print_status
from sweeper.run_folder.folder import LOCK_FILE, RunFolder
from sweeper.run_folder.live import RunningTraining, write_live
from sweeper.run_folder.record import FAILED, FINISHED, PRUNED, control_success
from sweeper.run_folder.status import read_status, trials_in_all, unfinished
from tests.sweeper.small import FACTS, epoch_figures, finish, record_of, spec_with, sweep_with
from trainers.errors import ConfigError
from trainers.storage.files import write_text
from trainers.storage.state_store import StateStore, new_attempt


def folder_with(path: Path, records: list[Any], **changes: Any) -> RunFolder:
    folder = RunFolder.create(path)
    folder.write_sweep(sweep_with(**changes))
    for record in records:
        folder.write_record(record)
    return folder


def shown(folder: RunFolder) -> list[str]:
    out = io.StringIO()
    print_status(Console(file=out, width=200), folder, read_status(folder))
    return out.getvalue().splitlines()


def ended(trial_id: str, status: str, seconds_ago: float = 0.0, error: str | None = None) -> Any:
    record = record_of(trial_id)
    record.end(status, error)
    record.ended_at = time.time() - seconds_ago
    return record


def test_a_sweep_that_runs(tmp_path: Path) -> None:
    records = [finish(record_of("c0000", "control")), ended("t0000", PRUNED, 300), ended("t0001", FAILED, 200, "Nan.")]
    folder = folder_with(tmp_path / "run", [*records, record_of("t0002")], search={"trials": 8})
    states = folder.states / "t0002-0"
    with RunFolder(folder.path).lock():
        os.utime(folder.path / LOCK_FILE, (0, time.time() - 400))
        for _ in range(2):
            number = new_attempt(states)
            assert f"  t0002 waits{', attempt 2' if number == 2 else ''}" in shown(folder)
            StateStore(states, attempt=number).begin("host")
        lines = shown(folder)
    assert lines[0].startswith("small: running (process ")
    assert lines[1:5] == ["2 of 8 trials done, 1 stopped early, 1 failed; 1 control",
                          "0 trainings finished, 1 more were not needed", "  t0002 runs, attempt 2",
                          "FAILED t0001: Nan."]  # fmt: skip
    assert lines[5] == "About 20 min left."  # two ends in the 400 s that it runs, six to go
    assert lines[6:] == ["Attacked classes: target 0 (a) in badnets.", f"Results: {folder.path}"]


def test_trainings_are_counted_and_those_that_were_not_needed(tmp_path: Path) -> None:
    spec = spec_with(scenarios=[{"attack": "badnets"}, {"attack": "blend"}], seeds=[0, 1])
    left, open_ = record_of("t0000", spec=spec), record_of("t0001", spec=spec)
    for record, finished in ((left, ["badnets"]), (open_, ["badnets", "blend"])):
        for scenario in finished:
            record.add_epoch((scenario, 0), epoch_figures(1), FACTS)
            record.end_training((scenario, 0), FINISHED)
    left.ended_by = "badnets"
    left.end(PRUNED, "val_asr is at least 0.900, above the interest of 0.5")
    folder = folder_with(tmp_path / "run", [left, open_], search={"trials": 4})
    states = folder.states / "t0001-1"
    with RunFolder(folder.path).lock():
        StateStore(states, attempt=new_attempt(states)).begin("host")
        lines = shown(folder)
    assert lines[1:5] == ["1 of 4 trials done, 1 left their races; 0 controls",
                          "3 trainings finished, 3 more were not needed",
                          "  t0001 (badnets, seed 1) runs", "  t0001: 1 training waits"]  # fmt: skip


def test_where_trainings_run_what_is_best_and_what_was_saved_is_said(tmp_path: Path) -> None:
    spec = spec_with(seeds=[0, 1])
    control, best, left, runs = (
        record_of("c0000", "control", spec),
        *(record_of(f"t000{n}", spec=spec) for n in range(3)),
    )
    for state in best.trainings.values():
        state.attempt = 1
    finish(control, val_asr=0.99)
    finish(best, val_asr=0.13, seconds=3600.0)
    left.trainings["badnets", 0].attempt = 1
    left.add_epoch(("badnets", 0), epoch_figures(1, val_asr=0.9, seconds=1800.0), FACTS)
    left.end_training(("badnets", 0), FINISHED)
    left.ended_by = "badnets"
    left.end(PRUNED, "It is beyond the interest.")
    records = [control, best, left, runs]
    folder = folder_with(tmp_path / "run", records, seeds=[0, 1], search={"trials": 4})
    for record in best.controls:  # both seeds have the control of the first
        best.controls[record] = next(iter(control.controls.values()))
    folder.write_tables(records, control_success(records))
    states = folder.states / "t0002-0"
    with RunFolder(folder.path).lock():
        StateStore(states, attempt=new_attempt(states)).begin("node")
        write_live(folder, [RunningTraining("t0002", "badnets", 0, "10.0.0.1", 7, "mix")])
        lines = shown(folder)
    assert lines[2:6] == [
        "3 trainings finished, 1 more were not needed; 0.83 h saved",
        "Best accuracy by val_asr_excess: <= 0.05: -, <= 0.1: 0.800, <= 0.2: 0.800",
        "  t0002 (badnets, seed 0) runs on 10.0.0.1, epoch 7 (mix)", "  t0002: 1 training waits",
    ]  # fmt: skip


@pytest.mark.parametrize(("ago", "left"), [(5000, "About 250 min left."), (150, "About 15 min left."), (50, None)])
def test_only_the_pace_since_it_was_gone_on_with_counts(tmp_path: Path, ago: float, left: str | None) -> None:
    folder = folder_with(tmp_path / "run", [ended("t0000", PRUNED, 4000), ended("t0001", PRUNED, 100)],
                         search={"trials": 8})  # fmt: skip
    with RunFolder(folder.path).lock():
        os.utime(folder.path / LOCK_FILE, (0, time.time() - ago))
        said = [line for line in shown(folder) if line.startswith("About")]
    assert said == ([] if left is None else [left])


def test_the_pace_is_that_of_the_last_ten_ends(tmp_path: Path) -> None:
    """A slow start (two trials in 6000 s) says nothing of the ten that took 100 s each since."""
    ends = [5000.0, 2000.0, *(1000.0 - 100 * n for n in range(10))]
    folder = folder_with(tmp_path / "run", [ended(f"t{n:04d}", PRUNED, ago) for n, ago in enumerate(ends)],
                         search={"trials": 18})  # fmt: skip
    with RunFolder(folder.path).lock():
        os.utime(folder.path / LOCK_FILE, (0, time.time() - 8000))
        status = read_status(folder)
    # From the eleventh end before now, 2000 s ago, there were ten; six trials are to go.
    assert status.seconds_left == pytest.approx(6 * 2000 / 10, abs=5)


def test_with_ten_ends_the_pace_is_that_since_the_start(tmp_path: Path) -> None:
    ends = [1000.0 - 100 * n for n in range(10)]
    folder = folder_with(tmp_path / "run", [ended(f"t{n:04d}", PRUNED, ago) for n, ago in enumerate(ends)],
                         search={"trials": 12})  # fmt: skip
    with RunFolder(folder.path).lock():
        os.utime(folder.path / LOCK_FILE, (0, time.time() - 3000))
        status = read_status(folder)
    assert status.seconds_left == pytest.approx(2 * 3000 / 10, abs=5)


def test_trials_that_ended_before_it_was_gone_on_with_are_not_to_be_run_again(tmp_path: Path) -> None:
    records = [ended("t0000", PRUNED, 4000), ended("t0001", PRUNED, 3000), ended("t0002", PRUNED, 0)]
    folder = folder_with(tmp_path / "run", records, search={"trials": 5})
    with RunFolder(folder.path).lock():
        os.utime(folder.path / LOCK_FILE, (0, time.time() - 600))
        assert read_status(folder).seconds_left == pytest.approx(2 * 600, abs=60)


def test_confirming_runs_are_part_of_the_whole(tmp_path: Path) -> None:
    confirming = [record_of("k0000"), finish(record_of("k0001"))]
    for record in confirming:
        record.role = "confirmation"
    folder = folder_with(tmp_path / "run", [finish(record_of()), *confirming], search={"trials": 1})
    status = read_status(folder)
    assert (status.budget, status.done, status.word) == (3, 2, "interrupted")


def test_what_was_interrupted_has_neither_failed_nor_ended(tmp_path: Path) -> None:
    """A control that runs has not ended either."""
    cut = record_of("t0001")
    cut.end(FAILED, "Not finished: the sweep was interrupted.", interrupted=True)
    records = [ended("t0000", FAILED, error="Nan."), cut, record_of("c0000", "control")]
    status = read_status(folder_with(tmp_path / "run", records, search={"trials": 2}))
    assert (status.counts, status.failed, status.controls) == ({FAILED: 1}, ["t0000: Nan."], 0)
    assert [training.label for training in status.left] == ["c0000", "t0001"]
    assert (status.done, status.word) == (1, "interrupted")


def test_its_own_driver_does_not_say_that_it_runs(tmp_path: Path) -> None:
    """It writes the report before it lets go of the folder."""
    whole = folder_with(tmp_path / "whole", [finish(record_of())], search={"trials": 1})
    cut = folder_with(tmp_path / "cut", [finish(record_of()), record_of("t0001")], search={"trials": 3})
    with whole.lock(), cut.lock():
        assert unfinished(whole) is None
        assert unfinished(cut) == f"Only 1 of 3 trials have ended; sweeper resume {cut.path} runs the rest."
        assert unfinished(RunFolder(cut.path)) == "Only 1 of 3 trials have ended; it is running."


def test_a_sweep_that_was_cut_off(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", [finish(record_of()), record_of("t0001")], search={"trials": 3})
    assert shown(folder) == [
        "small: interrupted", "1 of 3 trials done; 0 controls", "1 trainings finished", "  t0001 waits",
        f"To continue: sweeper resume {folder.path}", "Attacked classes: target 0 (a) in badnets.",
        f"Results: {folder.path}",
    ]  # fmt: skip


def test_a_sweep_that_has_ended(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", [finish(record_of())], search={"trials": 1})
    assert shown(folder)[0] == "small: ended"
    assert folder.holder() is None


def test_a_grid_ends_with_its_last_point(tmp_path: Path) -> None:
    grid = {"name": "none", "lr": {"categorical": [0.1, 0.2]}, "epochs": 1}
    records = [finish(record_of(name)) for name in ("t0000", "t0001")]
    folder = folder_with(tmp_path / "run", records, defense=grid, search={"sampler": "grid", "trials": 50})
    assert shown(folder)[:2] == ["small: ended", "2 of 2 trials done; 0 controls"]


def test_a_folder_without_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sweep.yaml cannot be read"):
        read_status(RunFolder(tmp_path))


def test_how_many_trials_a_sweep_has_in_the_end() -> None:
    spec = spec_with(search={"trials": 4})
    again = [record_of(f"k000{number}", "confirmation") for number in range(3)]
    known = [record_of(f"t000{number}") for number in range(2)]
    controls = [record_of("c0000", "control")]
    assert trials_in_all(spec, 4, []) == 4
    assert trials_in_all(spec, 4, [*known, *controls]) == 4
    assert trials_in_all(spec, 0, [*known, *controls, *again]) == 5, "confirm asks for no more trials of the search"
    grid = {"name": "vab", "mixing": {"categorical": ["none", "mixup", "attention"]}}
    small = spec_with(defense=grid, search={"sampler": "grid", "trials": 10})
    assert trials_in_all(small, 10, []) == 3, "a grid may have fewer points"
    assert trials_in_all(small, 2, []) == 2


def test_the_trunks_that_are_kept(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", [record_of("t0000")])
    assert not any(line.startswith("Trunks") for line in shown(folder))
    for name in "ab":
        write_text(folder.trunks / f"{name}.safetensors", "x" * 2**20)
    assert "Trunks: 2 kept, 2.0 MiB" in shown(folder)
