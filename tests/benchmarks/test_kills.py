"""One kill; the benchmark kills at random, and more often."""

import random
from pathlib import Path

import pytest

from benchmarks import kills
from benchmarks.faults import PRESET

pytestmark = [pytest.mark.ray, pytest.mark.long]


def test_a_sweep_that_is_killed_once_is_whole_in_the_end(
    tmp_path: Path, ray_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(ray_home))
    monkeypatch.setattr(kills, "VICTIMS", {"all at once": ""})
    monkeypatch.setattr(kills, "LATEST_S", 12.0)
    short = {"defense": PRESET["defense"] | {"mix_epochs": 2, "suppression_epochs": 1}}
    monkeypatch.setattr(kills, "SHORT", kills.SHORT | short)
    lines = kills.run_killed(tmp_path, 1, random.Random(0))
    assert lines[-1].startswith("  whole: ")
