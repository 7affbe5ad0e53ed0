"""Sweeps as a whole, from what lies in their folders; sweeps that train are in tests/sweeper/sweeps."""

from collections import Counter
from collections.abc import Callable, Iterator
from errno import ENOSPC
from io import StringIO
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import optuna
import pytest
import torch
import yaml
from mlflow import MlflowClient
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file

from sweeper import launch
from sweeper.preset import fitting
from sweeper.preset import spec as preset_spec
from sweeper.preset.spec import validate
from sweeper.run_folder import folder as run_folder
from sweeper.run_folder.errors import SweepBroken, SweepInterrupted
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import FAILED, FINISHED
from sweeper.running.driver import Outcome
from sweeper.running.ledger import Ledger
from sweeper.tracking import background
from sweeper.tracking.sweep_run import WHOLE_SWEEP
from sweeper.words import lacking
from tests.sweeper.cli.calls import picture
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
from trainers.models import ModelConfig, build_model


@pytest.mark.parametrize(
    ("bfloat16", "chosen", "words"),
    [(True, "on", "bfloat16 in this sweep, since the processor of this host computes in bfloat16"),
     (False, None, "float32 in this sweep, since the processor of this host does not compute in bfloat16")],
)  # fmt: skip
def test_the_numeric_format_is_chosen_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bfloat16: bool, chosen: str | None, words: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bfloat16})
    trained: list[Any] = []

    def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        trained.append(spec.amp)
        write_rows(ledger.folder, [control_row(), row_with("t0000")])
        return Outcome(1, [], None)

    monkeypatch.setattr(launch, "run_sweep", sweep)
    monkeypatch.setattr(launch.Tracker, "sweep_ended", lambda *_: None)
    preset, said = preset_with(amp="auto"), StringIO()
    launch.begin(validate(preset, "small.yaml"), preset, tmp_path / "run", Console(file=said, width=200))
    assert f"amp: auto is {words}." in said.getvalue()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": not bfloat16})
    folder = RunFolder.open(tmp_path / "run")
    assert (trained, folder.spec().amp) == ([chosen], chosen), "also where the sweep is resumed"


@pytest.mark.parametrize(
    ("changes", "amp", "words"),
    [
        ({"amp": "auto", "device": "auto", "resources": {"gpu": 1}}, None, "amp: auto is bfloat16, since this sweep"),
        ({"amp": "on"}, "on", "amp: on is slow here"),
        ({"amp": "off"}, "off", ""),
        ({}, None, ""),
    ],
)
def test_what_is_said_of_the_numeric_format(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], amp: str | None, words: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    said = StringIO()
    assert launch._with_amp(spec_with(**changes), Console(file=said, width=200)).amp == amp
    assert said.getvalue().startswith(words)
    assert bool(said.getvalue()) == bool(words)


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
    assert [trial.values for trial in optuna.load_study(study_name=name, storage=database).trials] == [[0.8, 0.05]] * 2
    assert len(folder.read_trials()) == 2, "a killed sweep left older tables"


def test_the_parent_run_has_figures_that_compare_sweeps(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "one")
    folder.write_sweep(sweep_with())
    folder.write_tables([], {})
    for record in (record_of("c0000", "control"), record_of("t0000")):
        folder.write_record(finish(record, val_asr=1.0 if record.role == "control" else 0.1))
    uri = fresh_store(tmp_path / "mlflow.db")
    metrics = MlflowClient(tracking_uri=uri).get_run(launch.track(folder.path, uri).parent).data.metrics
    assert metrics == pytest.approx({
        "hypervolume": 0.8 * 0.95, "hypervolume_below_interest": 0.8 * 0.45 / 0.5, "trainings_run": 1,
        "trainings_saved": 0, "hours": 3 / 3600, "hours_saved": 0, "best_acc_at_0.05": 0.8, "best_acc_at_0.1": 0.8,
        "best_acc_at_0.2": 0.8,
    })  # fmt: skip


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
    told = [line for line in said.getvalue().splitlines() if line.startswith(("Left out", "Warning", "All are"))]
    assert told == [*lines, f"All are listed in {table}"]
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
    for module in (fitting, run_folder):
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
    with pytest.raises(SweepInterrupted, match=f"^Interrupted. .* to continue: sweeper resume {path}$") as caught:
        launch.begin(spec_with(), preset_with(), path, Console(file=StringIO()))
    assert caught.value.finished == finished
    assert len(RunFolder.open(path).read_records()) == finished


def test_a_resumed_sweep_begins_before_mlflow_knows_its_ended_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    begun, told = Event(), []
    trial_ended = launch.Tracker.trial_ended

    def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        if not ledger.records:
            for number in range(3):
                ledger.folder.write_record(finish(record_of(f"t000{number}")))
        begun.set()
        return Outcome(3, [], None)

    def when_begun(tracker: Any, record: Any, rows: Any) -> None:
        assert begun.wait(60)
        told.append(record.trial_id)
        trial_ended(tracker, record, rows)

    monkeypatch.setattr(launch, "run_sweep", sweep)
    monkeypatch.setattr(launch.Tracker, "trial_ended", when_begun)
    path = tmp_path / "run"
    launch.begin(spec_with(), preset_with(), path, Console(quiet=True))
    assert told == [], "nobody told of them"
    begun.clear()
    ended = launch.resume(path, Console(quiet=True))
    assert told == ["t0000", "t0001", "t0002"]
    assert ended.tracker.behind == []


def test_who_waits_for_mlflow_at_the_end_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    answers, said = Event(), StringIO()

    def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        for number in range(4):
            record = finish(record_of(f"t000{number}"))
            ledger.add(record)
            ledger.announce(record)
        return Outcome(4, [], None)

    def answer(*_: Any) -> None:
        assert answers.wait(60)

    def closed(*_: Any) -> None:
        answers.set()
        close(*_)

    close = launch._close
    monkeypatch.setattr(launch, "run_sweep", sweep)
    monkeypatch.setattr(launch, "_close", closed)
    monkeypatch.setattr(launch, "MANY_BEHIND", 3)
    monkeypatch.setattr(launch.Tracker, "trial_ended", answer)
    launch.begin(spec_with(), preset_with(), tmp_path / "run", Console(file=said, width=1000))
    waiting = f"4 trials are still to be sent to MLflow; Ctrl-C leaves them to sweeper track {tmp_path / 'run'}"
    assert waiting in said.getvalue().splitlines()


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Outcome], None]]:
    """Lets sweeps of four trials end in some way, with a store that does not answer until the test is over."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    monkeypatch.setattr(background, "HASTE_S", 0.0)
    monkeypatch.setattr(background, "WAIT_S", 0.0)
    answers = Event()

    def sweeps(outcome: Outcome) -> None:
        def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
            for number in range(4):
                record = finish(record_of(f"t000{number}"))
                ledger.add(record)
                ledger.announce(record)
            return outcome

        monkeypatch.setattr(launch, "run_sweep", sweep)

    def answer(*_: Any) -> None:
        assert answers.wait(60)

    monkeypatch.setattr(launch, "MANY_BEHIND", 3)
    monkeypatch.setattr(launch.Tracker, "trial_ended", answer)
    yield sweeps
    answers.set()


LACKING = ["t0000", "t0001", "t0002", "t0003", WHOLE_SWEEP]


def test_a_sweep_that_was_interrupted_does_not_wait_for_mlflow(
    tmp_path: Path, silent: Callable[[Outcome], None]
) -> None:
    said = StringIO()
    silent(Outcome(4, [], "the sweep was interrupted", in_haste=True))
    ended = launch.begin(spec_with(), preset_with(), tmp_path / "run", Console(file=said, width=1000))
    assert ended.tracker.behind == LACKING
    assert "still to be sent" not in said.getvalue()
    assert ended.folder.report.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(ENOSPC, "No space left on device")])
def test_a_sweep_that_breaks_off_does_not_wait_for_mlflow_and_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: Callable[[Outcome], None], error: BaseException
) -> None:
    def broken(*_: Any) -> None:
        raise error

    said, path = StringIO(), tmp_path / "run"
    silent(Outcome(4, [], None))
    monkeypatch.setattr(launch, "write_frontier", broken)
    with pytest.raises((SweepInterrupted, SweepBroken)):
        launch.begin(spec_with(), preset_with(), path, Console(file=said, width=1000))
    assert said.getvalue().splitlines()[-1] == lacking(LACKING, path)


def test_ctrl_c_while_mlflow_is_waited_for_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: Callable[[Outcome], None]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    said, path = StringIO(), tmp_path / "run"
    silent(Outcome(4, [], None))
    monkeypatch.setattr(launch, "_close", interrupted)
    with pytest.raises(SweepInterrupted):
        launch.begin(spec_with(), preset_with(), path, Console(file=said, width=1000))
    assert said.getvalue().splitlines()[-1] == lacking(LACKING[:-1], path)


@pytest.mark.parametrize("command", ["resume", "confirm"])
def test_ctrl_c_while_the_data_is_loaded_keeps_what_ended(
    tmp_path: Path, begun: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "run"
    begin(preset_with(), path)
    folder = RunFolder.open(path)
    folder.write_record(finish(record_of()))
    again = {
        "resume": lambda: launch.resume(path, Console(file=StringIO())),
        "confirm": lambda: launch.confirm(path, Console(file=StringIO()), top=1, seeds=1),
    }
    monkeypatch.setattr(launch, "confirmations", lambda *_: [record_of("k0000", "confirmation")])
    monkeypatch.setattr(preset_spec, "load_data", interrupted)
    with pytest.raises(SweepInterrupted, match=f"^Interrupted. .* to continue: sweeper resume {path}$") as caught:
        again[command]()
    assert caught.value.finished == 1


def test_a_cluster_that_is_gone_is_noticed_before_the_data_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    said = StringIO()
    with pytest.raises(ConfigError, match=r"No Ray cluster answers at RAY_ADDRESS=127.0.0.1:9"):
        launch.begin(spec_with(), preset_with(), tmp_path / "run", Console(file=said))
    assert said.getvalue() == ""
    assert not (tmp_path / "run").exists()


def fill(root: Path, *names: str) -> Path:
    """A folder of images, four in each class, all different."""
    for label, name in enumerate(names):
        for number in range(4):
            picture(root / name / f"{number}.png", seed=10 * label + number)
    return root


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What sweeps that begin write into sweep.yaml; they train nothing."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    contents: list[dict[str, Any]] = []

    def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        contents.append(content)
        write_rows(ledger.folder, [control_row(), row_with("t0000")])
        return Outcome(1, [], None)

    monkeypatch.setattr(launch, "run_sweep", sweep)
    return contents


def begin(preset: dict[str, Any], out: Path) -> str:
    """Begin a sweep, and return what is said."""
    said = StringIO()
    launch.begin(validate(preset, "small.yaml"), preset, out, Console(file=said, width=200))
    return said.getvalue()


def test_a_sweep_with_classes_by_name_is_kept_by_number(tmp_path: Path, begun: list[dict[str, Any]]) -> None:
    for name, target in (("a", 10), ("b", '"10"'), ("c", "10")):
        scenarios = [{"attack": "badnets", "target": yaml.safe_load(str(target)), "poison_rate": 0.1, "size": 2}]
        data = {"source": f"folder:{fill(tmp_path / name, *map(str, range(12)))}"}
        text = begin(preset_with(scenarios=scenarios, data=data), tmp_path / f"run-{name}")
        assert "Attacked classes: target 10 in badnets." in text
    assert {content["preset"]["scenarios"][0]["target"] for content in begun} == {10}
    assert [content["data"]["class_names"] for content in begun] == [list(map(str, range(12)))] * 3
    assert (
        launch.resume(tmp_path / "run-b", Console(quiet=True)).folder.spec().scenario_blocks[0].values["target"] == 10
    )


def test_states_of_trainings_that_go_on_are_kept_and_no_others(tmp_path: Path, begun: list[dict[str, Any]]) -> None:
    spec = spec_with(seeds=[0, 1])
    begin(preset_with(seeds=[0, 1]), tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    ended, cut, killed = finish(record_of("t0000", spec=spec)), record_of("t0001", spec=spec), record_of("t0002")
    cut.end_training(("badnets", 0), FINISHED)
    cut.end(FAILED, "Not finished: the sweep was interrupted.", interrupted=True)
    for record in (ended, cut, killed):
        folder.write_record(record)
    for name in ("t0000-0", "t0000-1", "t0001-0", "t0001-1", "t0002-0", "t0003-0"):
        (folder.states / name).mkdir(parents=True)
    launch.resume(folder.path, Console(quiet=True))
    assert sorted(path.name for path in folder.states.glob("*")) == ["t0001-1", "t0002-0"]


def test_classes_in_another_order_are_no_longer_the_same_data(tmp_path: Path, begun: list[dict[str, Any]]) -> None:
    """As in a run folder of a version that ordered numbers as text."""
    data = {"source": f"folder:{fill(tmp_path / 'images', '2', '9', '10')}"}
    scenarios = [{"attack": "badnets", "poison_rate": 0.1, "size": 2}]
    begin(preset_with(data=data, scenarios=scenarios), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    sweep = folder.read_sweep()
    sweep["data"]["class_names"], sweep["data_fingerprint"] = ["10", "2", "9"], "that of an earlier order"
    folder.write_sweep(sweep)
    with pytest.raises(ConfigError) as caught:
        launch.resume(folder.path, Console(quiet=True))
    assert str(caught.value) == (
        f"The classes of {data['source']} are in another order than when the sweep began (2, 9, 10; then 10, 2, 9); "
        "figures would not be comparable."
    )


def test_other_weights_are_refused_before_anything_is_trained(tmp_path: Path, begun: list[dict[str, Any]]) -> None:
    weights = tmp_path / "own.safetensors"
    for seed in (1, 2):  # the sweep begins with the first
        if weights.exists():
            begin(preset_with(model={"name": "tiny", "width": 4, "weights": str(weights)}), tmp_path / "run")
        save_file(build_model(ModelConfig(width=4), (3, 16, 16), 10, seed).state_dict(), weights)
    with pytest.raises(ConfigError, match=r"own.safetensors holds other weights than when the sweep began"):
        launch.resume(tmp_path / "run", Console(quiet=True))
    weights.unlink()
    with pytest.raises(ConfigError, match=r"own.safetensors cannot be read: No such file"):
        launch.resume(tmp_path / "run", Console(quiet=True))
    assert RunFolder(tmp_path / "run").spec().model.weights == str(weights), "what only reads does without the file"


def test_all_that_does_not_fit_is_said_before_a_folder_is_made(tmp_path: Path, begun: list[dict[str, Any]]) -> None:
    scenarios = [{"attack": "badnets", "target": "dics"}, {"attack": "blend"}, {"attack": "tact", "source": 10}]
    words = r"^2 parts of the preset .* scenarios\.0 \(badnets\): .* scenarios\.2 \(tact\): "
    with pytest.raises(ConfigError, match=words):
        begin(preset_with(scenarios=scenarios), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert begun == []
