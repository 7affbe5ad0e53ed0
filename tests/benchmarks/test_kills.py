"""One kill; the benchmark kills at random, and more often."""

import random
from pathlib import Path

import pytest

from benchmarks import killing, kills, kills_of_trunks
from benchmarks.faults import PRESET

pytestmark = [pytest.mark.ray, pytest.mark.long]


def test_a_sweep_that_is_killed_once_is_whole_in_the_end(
    tmp_path: Path, ray_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(ray_home))
    monkeypatch.setattr(killing, "VICTIMS", {"all at once": ""})
    monkeypatch.setattr(killing, "LATEST_S", 12.0)
    short = {"defense": PRESET["defense"] | {"mix_epochs": 2, "suppression_epochs": 1}}
    monkeypatch.setattr(kills, "SHORT", kills.SHORT | short)
    lines = kills.run_killed(tmp_path, 1, random.Random(0))
    assert lines[-1].startswith("  whole: ")


def test_a_sweep_that_is_killed_as_a_trunk_is_written_has_the_same_rows(
    tmp_path: Path, ray_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(ray_home))
    monkeypatch.setattr(killing, "VICTIMS", {"worker": "Trainable"})
    monkeypatch.setattr(kills_of_trunks, "MOMENTS", [kills_of_trunks.as_one_is_written])
    short = PRESET["defense"] | {"mix_epochs": 2, "suppression_epochs": 1, "late_weight": {"categorical": [0.2, 0.8]}}
    grid = {"defense": short | {"threshold": 0.2}, "search": kills_of_trunks.GRID["search"] | {"trials": 2}}
    monkeypatch.setattr(kills_of_trunks, "GRID", kills_of_trunks.GRID | grid)
    for name in ("alone", "killed"):
        (tmp_path / name).mkdir()
    expected = kills_of_trunks.rows(kills_of_trunks.alone(tmp_path / "alone"))
    lines, sweep = kills_of_trunks.run_killed(tmp_path / "killed", 1, random.Random(0))
    assert lines[0].startswith("worker (1 process) as a trunk is written")
    assert kills_of_trunks.rows(sweep) == expected
