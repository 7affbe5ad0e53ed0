"""``live.json``."""

import os
from pathlib import Path

import pytest

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.live import RunningTraining, read_live, write_live


def test_what_runs_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    running = [
        RunningTraining("t0003", "badnets", 1, "10.0.0.1", 7, "mix"),
        RunningTraining("c0000", "blend", 0, None, 0, None),
    ]
    write_live(folder, running)
    assert read_live(folder) == running
    assert [path.name for path in tmp_path.iterdir()] == ["live.json"]


@pytest.mark.parametrize(
    "content",
    ["", "[", "7", "null", "[7]", "[{}]", "[" * 100_000,
     '[{"trial_id": 1, "scenario": "a", "seed": 0, "host": null, "epoch": 0, "stage": null}]'],
)  # fmt: skip
def test_a_damaged_file_is_as_none(tmp_path: Path, content: str) -> None:
    folder = RunFolder(tmp_path)
    assert read_live(folder) is None
    folder.live.write_text(content)
    assert read_live(folder) is None


def test_text_of_others_steers_no_terminal(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_live(folder, [RunningTraining("t0000", "badnets", 0, "\x1b[2J", 0, None)])
    (training,) = read_live(folder) or []
    assert training.host == "\\x1b[2J"


def test_a_file_that_is_older_than_the_lock_is_of_a_driver_that_was_killed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    running = [RunningTraining("t0000", "badnets", 0, None, 0, None)]
    write_live(folder, running)
    os.utime(folder.live, (1e9, 1e9))
    with RunFolder(tmp_path).lock():
        assert read_live(folder) is None
        write_live(folder, running)
        assert read_live(folder) == running
