"""What takes the folder of a sweep: ``resume``, ``confirm``, ``report``, ``track``; and how a sweep ends."""

from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from sweeper import launch
from sweeper.cli.main import app
from sweeper.preset.spec import validate
from sweeper.run_folder.folder import VERSION, RunFolder
from sweeper.running import driver as runner
from sweeper.running.driver import Outcome
from sweeper.running.ledger import Ledger
from sweeper.tracking import background
from tests.sweeper.cli.calls import SWEEP, call, picture, sentence, write_preset
from tests.sweeper.small import (
    control_row,
    finish,
    fresh_store,
    record_of,
    row_with,
    sweep_with,
    write_rows,
)
from trainers.data import load_data
from trainers.errors import ConfigError
from trainers.seeding import NUMERICS


@pytest.mark.parametrize("completed", [0, 1])
def test_if_every_trial_fails_the_exit_code_is_1_and_the_reason_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, completed: int
) -> None:
    failed = row_with("t0000", status="FAILED", val_acc=None, val_asr=None, error="The loss is nan.")

    def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        ledger.folder.write_sweep(SWEEP)
        write_rows(ledger.folder, [control_row(), failed, *[row_with("t0001")] * completed])
        return Outcome(completed, ["t0000: The loss is nan."], None)

    monkeypatch.setattr(launch, "run_sweep", sweep)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "tracking.db"))
    result = call("run", write_preset(tmp_path / "p.yaml"), "--out", "run")
    assert "FAILED t0000: The loss is nan." in result.stdout
    assert result.exit_code == (0 if completed else 1), result.output
    assert result.stderr.strip() == ("" if completed else "No trial finished.")


def test_an_interrupted_sweep_says_what_mlflow_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Event()

    def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        record = finish(record_of())
        ledger.add(record)
        ledger.announce(record)
        return Outcome(1, [], "the sweep was interrupted", in_haste=True)

    def answer(*_: Any) -> None:
        assert answers.wait(60)

    monkeypatch.setattr(launch, "run_sweep", sweep)
    monkeypatch.setattr(launch.Tracker, "trial_ended", answer)
    for name in ("HASTE_S", "WAIT_S"):
        monkeypatch.setattr(background, name, 0.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "tracking.db"))
    result = call("run", write_preset(tmp_path / "p.yaml"), "--out", "run")
    answers.set()
    missing = "MLflow lacks t0000, the sweep's own run; to send what is missing: sweeper track run"
    assert missing in result.stdout.splitlines()


def test_a_grid_that_is_not_run_whole_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        write_rows(ledger.folder, [control_row(), row_with("t0000")])
        return Outcome(1, [], None)

    monkeypatch.setattr(launch, "run_sweep", sweep)
    grid = {"name": "none", "lr": {"categorical": [0.1, 0.2, 0.3]}, "epochs": 1}
    for trials, cut in ((2, True), (3, False)):
        search = {"sampler": "grid", "trials": trials}
        preset = write_preset(tmp_path / "p.yaml", defense=grid, search=search)
        text = " ".join(call("run", preset, "--out", f"of-{trials}").stdout.split())
        wanted = "The grid has 3 points, of which search.trials = 2 are run, drawn at random"
        assert (f"{wanted}; for all: sweeper resume of-2 --trials 3." in text) == cut, text


def test_resume_wants_a_sweep_of_this_version_that_nobody_works_on(run_dir: Path, tmp_path: Path) -> None:
    for command in ("resume", "confirm", "track", "report"):
        assert "gone holds no sweep: there is no such folder." in sentence(call(command, str(tmp_path / "gone")))
    above = sentence(call("status", str(run_dir.parent)))
    assert above.endswith(f"sweep.yaml and trials.parquet must be there. There are sweeps in it: {run_dir.name}.")
    with RunFolder(run_dir).lock():
        for command in ("resume", "confirm", "track"):
            assert "made is in use by another process" in sentence(call(command, str(run_dir)))
    text = (run_dir / "sweep.yaml").read_text().replace(f"version: {VERSION}\n", "version: 7\n")
    (run_dir / "sweep.yaml").write_text(text)
    for command in ("resume", "confirm", "track", "report", "select"):
        more = ["--max-asr", "0.1"] if command == "select" else []
        assert f"has version 7, but this program reads versions up to {VERSION}." in sentence(
            call(command, str(run_dir), *more)
        )


def test_a_sweep_that_is_refused_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> Outcome:
        raise ConfigError("A training asks for 64 CPUs, which no host has.")

    monkeypatch.setattr(launch, "run_sweep", refused)
    preset = write_preset(tmp_path / "p.yaml")
    (tmp_path / "own").mkdir()
    for name in ("new", "own"):
        assert "64 CPUs" in sentence(call("run", preset, "--out", name))
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "own").iterdir()] == [".lock"], "it was there before"


def test_resume_wants_the_same_data(run_dir: Path) -> None:
    assert "shapes has changed since the sweep began" in sentence(call("resume", str(run_dir)))


def test_resume_wants_the_same_trigger_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patches = [picture(tmp_path / f"{name}.png", seed) for seed, name in enumerate(("one", "other"))]
    attacks = [
        {"attack": "badnets", "name": "a", "trigger": {"categorical": [str(path) for path in patches]}},
        {"attack": "badnets", "name": "b"},
    ]
    monkeypatch.setattr(launch, "run_sweep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    preset = write_preset(tmp_path / "p.yaml", scenarios=attacks)
    call("run", preset, "--out", "with-patch")
    patches[1].write_bytes(patches[0].read_bytes())
    wanted = f"The trigger image {patches[1]} has changed since the sweep began; figures would not be comparable."
    assert sentence(call("resume", "with-patch")) == wanted
    patches[0].unlink()
    assert f"The trigger image {patches[0]} cannot be read" in sentence(call("resume", "with-patch"))


def test_a_sweep_that_has_ended_is_shown_again_without_starting_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whatever a killed driver left behind is made good."""
    monkeypatch.setattr(launch, "run_sweep", runner.run_sweep)
    monkeypatch.setattr(runner, "ray_runtime", lambda: pytest.fail("Ray was started"))
    sweep = sweep_with(search={"sampler": "random", "trials": 1})
    spec = validate(sweep["preset"], "preset")
    fingerprint = load_data(spec.data).fingerprint
    folder = RunFolder.create(tmp_path / "done")
    folder.write_sweep(sweep | {"data_fingerprint": fingerprint})
    records = [finish(record_of(spec=spec)), finish(record_of("c0000", "control", spec=spec), val_asr=0.9)]
    for record in records:
        folder.write_record(record)
    folder.write_tables([], {})
    result = call("resume", str(folder.path))
    assert result.exit_code == 0, result.output
    assert "nothing is left to run" in result.stdout
    assert "t0000" in result.stdout
    assert len(folder.read_trials()) == 2
    (trial,) = optuna.load_study(study_name="small", storage=f"sqlite:///{folder.study}").trials
    assert trial.state.name == "COMPLETE"
    monkeypatch.setattr(runner, "ray_runtime", partial(pytest.fail, "Ray was started"))
    with pytest.raises(pytest.fail.Exception, match="Ray was started"):
        CliRunner().invoke(app, ["resume", str(folder.path), "--trials", "2"], catch_exceptions=False)


def test_confirm_wants_a_sweep_that_has_ended(run_dir: Path) -> None:
    RunFolder(run_dir).write_record(record_of("t0003"))
    text = sentence(call("confirm", str(run_dir)))
    assert "did not end (t0003); run sweeper resume" in text


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--top", "0"], ["--max-asr", "2"]])
def test_confirm_wants_numbers_in_range(run_dir: Path, arguments: list[str]) -> None:
    assert call("confirm", str(run_dir), *arguments).exit_code == 2


def test_report_writes_the_page(run_dir: Path) -> None:
    result = call("report", str(run_dir))
    assert result.exit_code == 0, result.output
    assert "config1" in (run_dir / "report.html").read_text()


def test_track_writes_a_sweep_into_another_store_once(run_dir: Path, tmp_path: Path) -> None:
    folder = RunFolder(run_dir)
    records = [finish(record_of("c0000", "control")), finish(record_of("t0000"))]
    for record in records:
        folder.write_record(record)
    folder.write_tables(records, {})
    uri = fresh_store(tmp_path / "other.db")
    for _ in range(2):
        result = call("track", str(run_dir), "--to", uri)
        assert result.exit_code == 0, result.output
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert sorted(run.data.tags.get("trial_id", "") for run in runs) == ["", "c0000", "t0000"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_track_says_when_the_store_is_away(run_dir: Path) -> None:
    assert "127.0.0.1:9 cannot be used" in sentence(call("track", str(run_dir), "--to", "http://127.0.0.1:9"))


def test_nothing_is_trained_across_numerics_and_what_is_there_can_be_read(run_dir: Path) -> None:
    folder = RunFolder.open(run_dir)
    sweep = {name: value for name, value in folder.read_sweep().items() if name not in ("version", "numerics")}
    folder.write_sweep(sweep)  # as commit 6f02d73 wrote it
    refused = (
        f"{run_dir} was trained with numerics 1, and this program trains with {NUMERICS}: new figures would not be "
        "comparable; run its preset as a new sweep (select, report and track can read this one)."
    )
    for command in (("resume", str(run_dir)), ("confirm", str(run_dir))):
        assert sentence(call(*command)) == refused
    (run_dir / "sweep.yaml").write_text((run_dir / "sweep.yaml").read_text() + "numerics: new\n")
    assert "its key numerics is damaged" in sentence(call("select", str(run_dir), "--max-asr", "0.9"))
    folder.write_sweep(sweep)
    note = f"trained with numerics 1, and this program trains with {NUMERICS}"
    chosen = call("select", str(run_dir), "--max-asr", "0.9")
    assert chosen.exit_code == 0, chosen.output
    assert note in " ".join(chosen.stdout.split())
    assert "sweeper confirm" not in chosen.stdout
    assert call("report", str(run_dir)).exit_code == 0
    assert note in (run_dir / "report.html").read_text()
    assert call("frontier", str(run_dir)).exit_code == 0
