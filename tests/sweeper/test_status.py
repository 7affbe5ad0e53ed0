"""How far a sweep is, by its run folder."""

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeper.records import FAILED, PRUNED
from sweeper.run_folder import RunFolder
from sweeper.status import print_status, read_status
from tests.sweeper.small import finish, record_of, sweep_with
from trainers.errors import ConfigError
from trainers.state_store import StateStore


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
    for _ in range(2):
        StateStore(folder.states / "t0002").begin("host")
    with folder.lock():
        lines = shown(folder)
    assert lines[0].startswith("small: running (process ")
    assert lines[1:4] == ["2 of 8 trials done, 1 stopped early, 1 failed; 1 controls", "  t0002 runs, attempt 2",
                          "FAILED t0001: Nan."]  # fmt: skip
    assert lines[4] == "About 15 min left."  # two ends in 300 s, six to go
    assert lines[5:] == [f"Results: {folder.path}"]


def test_a_sweep_that_was_cut_off(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", [finish(record_of()), record_of("t0001")], search={"trials": 3})
    assert shown(folder) == [
        "small: interrupted", "1 of 3 trials done; 0 controls", "  t0001 waits",
        f"Go on: sweeper resume {folder.path}", f"Results: {folder.path}",
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
