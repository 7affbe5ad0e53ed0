"""Sweeps as a whole, from what lies in their folders; sweeps that train are in tests/sweeper/sweeps."""

from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from PIL import Image
from rich.console import Console

from sweeper import launch
from sweeper.preset import spec as preset_spec
from sweeper.preset.spec import validate
from sweeper.run_folder import folder as run_folder
from sweeper.run_folder.folder import RunFolder
from sweeper.running.driver import Outcome
from sweeper.running.ledger import Ledger
from tests.sweeper.small import (
    control_row,
    finish,
    fresh_store,
    preset_with,
    record_of,
    row_with,
    sweep_with,
    write_rows,
)


def test_track_writes_a_study_that_is_missing_before_it_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"sqlite:///{tmp_path}/team.db"
    monkeypatch.setenv("OPTUNA_STORAGE", database)
    folder = RunFolder.create(tmp_path / "one")
    folder.write_sweep(sweep_with())
    folder.write_tables([], {})
    for number in range(2):
        folder.write_record(finish(record_of(f"t000{number}")))
    tracker = launch.track(folder.path, fresh_store(tmp_path / "mlflow.db"))
    assert tracker.behind == []
    (name,) = optuna.get_all_study_names(database)
    assert [trial.values for trial in optuna.load_study(study_name=name, storage=database).trials] == [[0.8, 0.1]] * 2
    assert len(folder.read_trials()) == 2, "a killed sweep left older tables"


def images(folder: Path) -> str:
    """A data set of two classes, with one image in both splits, and a file that is none."""
    for split, name, seed in (("train", "a", 0), ("train", "b", 1), ("test", "a", 2), ("test", "b", 1)):
        path = folder / split / name
        path.mkdir(parents=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(path / f"{number}.png")
    (folder / "train/a/notes.txt").touch()
    return f"folder:{folder}"


def test_what_is_odd_about_the_data_is_said_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    kept: dict[str, list[str]] = {}

    def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        write_rows(ledger.folder, [control_row(), row_with("t0000")])
        return Outcome(1, [], None)

    def closed(tracker: Any, artifacts: list[Path], *_: Any) -> None:
        kept["artifacts"] = [path.name for path in artifacts if path.exists()]

    monkeypatch.setattr(launch, "run_sweep", sweep)
    monkeypatch.setattr(launch.Tracker, "sweep_ended", closed)
    preset = preset_with(data={"source": images(tmp_path / "images")})
    said = StringIO()
    launch.begin(validate(preset, "small.yaml"), preset, tmp_path / "run", Console(file=said, width=200))
    lines = [
        "Left out, the name does not end as that of an image: train/a/notes.txt.",
        "Warning: 4 of 8 test images are training images too.",
    ]
    table = tmp_path / "run" / "data_findings.csv"
    assert [*lines, f"All of them: {table}"] == said.getvalue().splitlines()[3:6]
    assert table.read_text().splitlines()[:3] == [
        "finding,place,detail",
        "left out: the name does not end as that of an image,train/a/notes.txt,",
        "test image that is a training image,test/b/0.png,train/b/0.png",
    ]
    assert RunFolder.open(tmp_path / "run").read_sweep()["data"]["findings"] == lines
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(f"Data: {line}" in page for line in lines)
    assert "data_findings.csv" in kept["artifacts"]
    preset = preset_with()
    launch.begin(validate(preset, "small.yaml"), preset, tmp_path / "plain", Console(quiet=True))
    assert not (tmp_path / "plain" / "data_findings.csv").exists()


def test_a_sweep_validates_its_preset_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    counted: Counter[str] = Counter()

    def counting(preset: dict[str, Any], where: str) -> preset_spec.SweepSpec:
        counted[where] += 1
        return validate(preset, where)

    def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        ledger.folder.write_sweep(content)
        write_rows(ledger.folder, [control_row(), row_with("t0000")])
        return Outcome(1, [], None)

    monkeypatch.setattr(launch, "run_sweep", sweep)
    for module in (launch, run_folder):
        monkeypatch.setattr(module, "validate", counting)
    preset = preset_with()
    spec = validate(preset, "small.yaml")
    ended = launch.begin(spec, preset, tmp_path / "run", Console(file=(tmp_path / "log").open("w")))
    assert counted == {}, "the report and the status take what was validated"
    assert ended.folder.spec() is spec
    assert ended.folder.spec() == RunFolder.open(tmp_path / "run").spec()
    assert sum(counted.values()) == 1
    launch.resume(tmp_path / "run", Console(file=(tmp_path / "log").open("w")))
    assert sum(counted.values()) == 2
