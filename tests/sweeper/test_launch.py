"""Sweeps as a whole, from what lies in their folders; sweeps that train are in tests/sweeper/sweeps."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from sweeper import launch
from sweeper.preset import spec as preset_spec
from sweeper.preset.spec import validate
from sweeper.run_folder import folder as run_folder
from sweeper.run_folder.errors import SweepInterrupted
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
    spec_with,
    sweep_with,
    write_rows,
)
from trainers.errors import ConfigError


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


@pytest.mark.parametrize("finished", [0, 1])
def test_ctrl_c_while_the_report_is_written_keeps_what_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))

    def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        for number in range(finished):
            ledger.folder.write_record(finish(record_of(f"t000{number}")))
        return Outcome(finished, [], None)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run_sweep", sweep)
    monkeypatch.setattr(launch, "write_frontier", interrupted)
    path = tmp_path / "run"
    with pytest.raises(SweepInterrupted, match=f"^Interrupted. .* go on: sweeper resume {path}$") as caught:
        launch.begin(spec_with(), preset_with(), path, Console(file=io.StringIO()))
    assert caught.value.finished == finished
    assert len(RunFolder.open(path).read_records()) == finished


def test_a_cluster_that_is_gone_is_noticed_before_the_data_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    said = io.StringIO()
    with pytest.raises(ConfigError, match=r"No Ray cluster answers at RAY_ADDRESS=127.0.0.1:9"):
        launch.begin(spec_with(), preset_with(), tmp_path / "run", Console(file=said))
    assert said.getvalue() == ""
    assert not (tmp_path / "run").exists()
