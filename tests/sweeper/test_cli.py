"""The command line, as far as it goes without Ray: what can be known before the first trial is one sentence, exit 2."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import Result
from mlflow import MlflowClient
from PIL import Image
from typer.testing import CliRunner

from sweeper import cli, gallery, launch, runner
from sweeper.run_folder import RunFolder
from sweeper.runner import Outcome
from sweeper.spec import validate
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
from trainers.data import load_data
from trainers.data.batches import Normalizer
from trainers.defenses import DEFENSES
from trainers.models import ModelConfig, build_model
from trainers.saved_model import SavedModel

SWEEP = sweep_with(augment={"crop": 0})
SMALL = ("--set", "data.train_size=200", "--set", "data.test_size=100")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is written beside the code, and nothing of this machine is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/tracking.db")
    for name, value in (("MAX_RETRIES", "1"), ("TIMEOUT", "5")):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
    monkeypatch.setattr(launch, "run_sweep", lambda *_: pytest.fail("the sweep was started"))
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def sentence(result: Result, code: int = 2) -> str:
    """The one line on stderr."""
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return lines[0]


def write_preset(path: Path, **changes: Any) -> str:
    path.write_text(yaml.safe_dump(preset_with(**changes)))
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere.yaml"], ["nowhere.yaml: there is no such file", "presets are ablation.yaml", "quick.yaml"]),
        (["quick", "--set", "colour=red"], ["quick: colour: unknown key"]),
        (["quick", "--set", "search.trails=3"], ["quick: search.trails: unknown key"]),
        (["quick", "--set", "defense.treshold=0.3"], ["quick: defense: treshold is no parameter here"]),
        (["quick", "--set", "scenarios.1.size=3"], ["--set scenarios.1.size=3", "no key scenarios.1.size"]),
        (["quick", "--set", "seeds"], ["--set seeds", "key=value"]),
        (["quick", "--set", "search.trials=many"], ["search.trials", "'many'"]),
        (["quick", "--set", "defense.threshold=1.2"], ["threshold must be a number at least 0 and at most 1"]),
        (["quick", "--set", "scenarios.0.poison_rate=1"], ["poison_rate must be", "below 1"]),
        (["quick", "--set", "scenarios.0.attack=magic"], ["attack must be one of badnets, blend", "magic"]),
        (["quick", "--set", "search.sampler=grid"], ["grid needs steps", "vab.threshold is continuous"]),
        (["quick", "--set", "seeds=[1"], ["--set seeds", "no valid YAML"]),
        (["quick", "--trials", "0"], ["search.trials", "greater than or equal to 1"]),
        (["quick", "--time-budget", "-1"], ["search.time_budget", "greater than 0"]),
        (["quick", *SMALL, "--set", "scenarios.0.target=10"], ["target must be a class from 0 to 9, but got 10"]),
        (["quick", *SMALL, "--set", "scenarios.0.size=17"], ["size 17", "16x16"]),
        (["attacks_cpu", "--set", "scenarios.6.cover_rate=0"], ["scenarios.6", "cover_rate must be", "above 0"]),
        (
            ["attacks_cpu", *SMALL, "--set", "scenarios.0.poison_rate=0.95"],
            ["scenarios.0: A poison_rate of 0.95 is 190 samples, but only 180 can be poisoned by badnets"],
        ),
        (
            ["attacks_cpu", *SMALL, "--set", "scenarios.3={attack: wanet, poison_rate: 0.8, cover_rate: 0.3}"],
            ["scenarios.3: 160 poisoned and 60 cover samples are more than the 200 there are"],
        ),
        (
            [
                "attacks_cpu",
                *SMALL,
                "--set",
                "scenarios.3={attack: wanet, poison_rate: {categorical: [0.1, 0.8]}, "
                "cover_rate: {categorical: [0.3, 0.1]}}",
            ],
            ["scenarios.3: 160 poisoned and 60 cover samples are more than the 200 there are"],
        ),
        (["attacks_cpu", *SMALL, "--set", "scenarios.9.source=10"], ["source must be a class from 0 to 9, but got 10"]),
        (
            ["attacks_cpu", *SMALL, "--set", "scenarios.2.poison_rate=0.01"],
            [
                "scenarios.2: A poison_rate of 0.01 rounds to no sample of 20 in the target class; ",
                "allowed is 0.025 or more",
            ],
        ),
        (
            ["attacks_cpu", *SMALL, "--set", "scenarios.1.trigger=gone.png"],
            ["scenarios.1: The trigger image", "gone.png cannot be read: No such file"],
        ),
        (["quick", "--set", "data.source=mnist"], ["data.source must be shapes, cifar10", "'mnist'"]),
        (["quick", "--set", "data.source=parquet:gone.parquet"], ["gone.parquet"]),
        (["quick", "--set", "data.source=folder:gone"], ["gone"]),
        (["cifar10"], ["cifar-10-batches-py"]),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], parts: list[str]) -> None:
    text = sentence(call("run", *arguments))
    assert all(part in text for part in parts), text
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--set", "data=5", "--data", "shapes"), "--set data.source=shapes: attacks_cpu.yaml has no key data.source"),
        (("--data", "mnist"), "data.source must be shapes, cifar10"),
    ],
)
def test_a_gallery_of_nothing_is_one_sentence(arguments: tuple[str, ...], text: str) -> None:
    assert text in sentence(call("gallery", *arguments))


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def image_folder(root: Path, classes: int = 2) -> Path:
    for split in ("train", "test"):
        for label in range(classes):
            for number in range(4):
                picture(root / split / f"class{label}" / f"{number}.png", seed=number)
    return root


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    broken = image_folder(tmp_path / "images") / "train" / "class1" / "2.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert "2.png" in sentence(call("run", "quick", "--set", f"data.source=folder:{tmp_path / 'images'}", *NO_SIZES))


def test_one_class_is_too_few(tmp_path: Path) -> None:
    image_folder(tmp_path / "images", classes=1)
    text = sentence(call("run", "quick", "--set", f"data.source=folder:{tmp_path / 'images'}", *NO_SIZES))
    assert "class" in text


NO_SIZES = ("--set", "data.train_size=null", "--set", "data.test_size=null")


@pytest.mark.parametrize(
    ("columns", "part"),
    [({"label": [0, 1, 0, 1]}, "image"), ({"img": None, "label": [0, 2, 0, 2]}, "label")],
    ids=["no image column", "labels with a gap"],
)
def test_parquet_that_holds_no_classified_images(tmp_path: Path, columns: dict[str, Any], part: str) -> None:
    content = picture(tmp_path / "one.png").read_bytes()
    table = {name: values or [content] * 4 for name, values in columns.items()}
    for split in ("train", "test"):
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(pa.table(table), tmp_path / "data" / f"{split}.parquet")
    assert part in sentence(call("run", "quick", "--set", f"data.source=parquet:{tmp_path / 'data'}", *NO_SIZES))


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: x\ndata: {source: shapes\nmodel: 3\n")
    text = sentence(call("run", "broken.yaml"))
    assert text.startswith("broken.yaml: no valid YAML in line 3")


def test_an_output_folder_that_holds_another_sweep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sweep.yaml").write_text("x: 1\n")
    text = sentence(call("run", write_preset(tmp_path / "p.yaml"), "--out", "old"))
    assert "old already holds files" in text
    assert (tmp_path / "old" / "sweep.yaml").read_text() == "x: 1\n"


@pytest.mark.parametrize("out", ["file/run", "file", "/proc/nowhere/run"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("")
    assert f"{out} cannot be written" in sentence(call("run", write_preset(tmp_path / "p.yaml"), "--out", out))


def test_a_tracking_server_that_is_away_is_found_out_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    text = sentence(call("run", write_preset(tmp_path / "p.yaml"), "--out", "run"))
    assert "127.0.0.1:9" in text
    assert "secret" not in text


def test_without_arguments_the_default_preset_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(cli, "app", lambda: seen.append(sys.argv))
    monkeypatch.setattr(sys, "argv", ["sweep.py"])
    cli.main()
    monkeypatch.setattr(sys, "argv", ["sweep.py", "select", "x"])
    cli.main()
    assert seen == [["sweep.py", "run", "quick.yaml"], ["sweep.py", "select", "x"]]


def params(**changes: Any) -> dict[str, Any]:
    values = DEFENSES["vab"].Params(**changes).as_dict()
    return {f"param.defense.{key}": list(v) if isinstance(v, tuple) else v for key, v in values.items()}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished sweep of three settings."""
    return sweep_at(tmp_path / "made")


def sweep_at(path: Path, **changes: Any) -> Path:
    folder = RunFolder.create(path)
    folder.write_sweep(SWEEP)
    points = [(0.9, 0.4, 0.1), (0.8, 0.1, 0.2), (0.7, 0.05, 0.3)]
    rows = [
        row_with(f"t000{i}", f"config{i}", **({"val_acc": acc, "val_asr": asr} | params(threshold=t) | changes))
        for i, (acc, asr, t) in enumerate(points)
    ]
    write_rows(folder, [control_row(), *rows])
    return path


def test_select_writes_the_setting_to_deploy(run_dir: Path) -> None:
    result = call("select", str(run_dir), "--max-asr", "0.15")
    assert result.exit_code == 0, result.output
    assert "config1 (t0001): val_acc 0.800, worst val_asr 0.100 (floor 0.050, control 1.000)" in result.stdout
    assert "1 others qualified" in result.stdout
    assert "one seed" in result.stdout
    content = yaml.safe_load((run_dir / "deploy.yaml").read_text())
    assert (content["defense"], content["params"]["threshold"]) == ("vab", 0.2)
    assert DEFENSES["vab"].Params(**content["params"]) == DEFENSES["vab"].Params(threshold=0.2)
    assert content["chosen_for"]["max_asr"] == 0.15
    assert content["source"]["config_id"] == "config1"


def test_select_says_what_comes_nearest_and_exits_3(run_dir: Path) -> None:
    text = sentence(call("select", str(run_dir), "--max-asr", "0.01"), code=3)
    assert "nearest is config2" in text
    assert not (run_dir / "deploy.yaml").exists()


def test_weak_evidence_exits_3(tmp_path: Path) -> None:
    weak = sweep_at(tmp_path / "weak", weak_attack=True, control_asr=0.3)
    assert "sound evidence" in sentence(call("select", str(weak), "--max-asr", "0.5"), code=3)


def test_select_wants_a_sweep(tmp_path: Path, run_dir: Path) -> None:
    assert "holds no sweep" in sentence(call("select", str(tmp_path / "empty"), "--max-asr", "0.1"))
    (run_dir / "trials.parquet").write_bytes(b"PAR1 no table")
    assert "trials.parquet cannot be read" in sentence(call("select", str(run_dir), "--max-asr", "0.1"))


def test_select_wants_a_whole_description(run_dir: Path) -> None:
    (run_dir / "sweep.yaml").write_text("a: [1\n")
    assert "sweep.yaml cannot be read" in sentence(call("select", str(run_dir), "--max-asr", "0.15"))


@pytest.mark.parametrize("bound", ["-0.1", "1.5", "much"])
def test_a_bound_is_a_share(run_dir: Path, bound: str) -> None:
    result = call("select", str(run_dir), "--max-asr", bound)
    assert result.exit_code == 2
    assert "--max-asr" in result.stderr


def test_frontier_of_one_sweep(run_dir: Path) -> None:
    result = call("frontier", str(run_dir))
    assert result.exit_code == 0, result.output
    assert "hypervolume" in result.stdout
    assert "one seed" in result.stdout
    assert (run_dir / "frontier.png").read_bytes().startswith(b"\x89PNG")
    table = pq.read_table(run_dir / "frontier.parquet").to_pandas()
    assert table["on_frontier"].tolist() == [True, True, True]


def test_frontier_of_two_sweeps_goes_to_the_first_or_where_it_is_told(run_dir: Path, tmp_path: Path) -> None:
    second = sweep_at(tmp_path / "second")
    for arguments, target in (((), run_dir), (("--out", "both"), tmp_path / "both")):
        result = call("frontier", str(run_dir), str(second), *arguments)
        assert result.exit_code == 0, result.output
        table = pq.read_table(target / "frontier.parquet").to_pandas()
        assert sorted(table["trials"]) == [f"{s}/t000{i}" for s in ("made", "second") for i in range(3)]
    assert not (second / "frontier.png").exists()


def test_frontier_needs_sweeps_and_a_place_to_write(run_dir: Path, tmp_path: Path) -> None:
    assert "holds no sweep" in sentence(call("frontier", str(run_dir), str(tmp_path / "gone")))
    (tmp_path / "file").write_text("")
    assert "file/x cannot be written" in sentence(call("frontier", str(run_dir), "--out", "file/x"))


def test_frontier_of_a_sweep_of_which_nothing_finished(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "none")
    folder.write_sweep(SWEEP)
    write_rows(folder, [row_with(status="FAILED", val_acc=None, val_asr=None, error="The loss is nan.")])
    result = call("frontier", str(tmp_path / "none"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "none" / "frontier.png").exists()


@pytest.mark.parametrize("completed", [0, 1])
def test_if_every_trial_fails_the_exit_code_is_1_and_the_reason_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, completed: int
) -> None:
    failed = row_with("t0000", status="FAILED", val_acc=None, val_asr=None, error="The loss is nan.")

    def sweep(spec: Any, content: Any, splits: Any, folder: RunFolder, *_: Any) -> Outcome:
        folder.write_sweep(SWEEP)
        write_rows(folder, [control_row(), failed, *[row_with("t0001")] * completed])
        return Outcome(completed, ["t0000: The loss is nan."], None)

    monkeypatch.setattr(launch, "run_sweep", sweep)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "tracking.db"))
    result = call("run", write_preset(tmp_path / "p.yaml"), "--out", "run")
    assert "FAILED t0000: The loss is nan." in result.stdout
    assert result.exit_code == (0 if completed else 1), result.output
    assert result.stderr.strip() == ("" if completed else "No trial finished.")


def test_resume_wants_a_sweep_of_this_version_that_nobody_works_on(run_dir: Path, tmp_path: Path) -> None:
    for command in ("resume", "confirm", "track", "report"):
        assert "holds no sweep" in sentence(call(command, str(tmp_path / "gone")))
    with RunFolder(run_dir).lock():
        for command in ("resume", "confirm", "track"):
            assert "made is in use by another process" in sentence(call(command, str(run_dir)))
    text = (run_dir / "sweep.yaml").read_text().replace("version: 1\n", "version: 7\n")
    (run_dir / "sweep.yaml").write_text(text)
    for command in ("resume", "confirm", "track", "report", "select"):
        more = ["--max-asr", "0.1"] if command == "select" else []
        assert "has version 7, but this program reads version 1" in sentence(call(command, str(run_dir), *more))


def test_resume_wants_the_same_data(run_dir: Path) -> None:
    assert "shapes has changed since the sweep began" in sentence(call("resume", str(run_dir)))


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
        CliRunner().invoke(cli.app, ["resume", str(folder.path), "--trials", "2"], catch_exceptions=False)


def test_confirm_wants_a_sweep_that_has_ended(run_dir: Path) -> None:
    RunFolder(run_dir).write_record(record_of("t0003"))
    text = sentence(call("confirm", str(run_dir)))
    assert "did not end (t0003); run sweeper resume" in text


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--top", "0"], ["--max-asr", "2"]])
def test_confirm_wants_numbers_in_range(run_dir: Path, arguments: list[str]) -> None:
    assert call("confirm", str(run_dir), *arguments).exit_code == 2


@pytest.mark.parametrize("confidence", ["0.2", "1", "nan"])
def test_a_confidence_lies_between_a_half_and_one(run_dir: Path, confidence: str) -> None:
    text = sentence(call("select", str(run_dir), "--max-asr", "0.1", "--confidence", confidence))
    assert "--confidence must lie in [0.5, 1)" in text


def test_without_confirmed_runs_there_is_no_confidence(run_dir: Path) -> None:
    text = sentence(call("select", str(run_dir), "--max-asr", "0.1", "--confidence", "0.9"), code=3)
    assert text.startswith("Not enough seeds")


def test_select_shows_the_spread_and_warns_of_the_best_of_many(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "seeds")
    folder.write_sweep(SWEEP)
    rows = [row_with("t0", "a", seed=s, val_acc=0.8 + s / 100, val_asr=0.1, **params()) for s in (0, 1)]
    write_rows(folder, rows)
    result = call("select", str(folder.path), "--max-asr", "0.2")
    assert "val_acc 0.805 ± 0.007, worst val_asr 0.100 ± 0.000 (floor" in result.stdout
    assert "flatters itself" in result.stdout
    content = yaml.safe_load(folder.deploy.read_text())
    assert (content["seeds"], content["val_acc_sd"]) == (2, pytest.approx(0.00707, abs=1e-5))


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


@pytest.fixture
def deploy(run_dir: Path) -> Path:
    call("select", str(run_dir), "--max-asr", "0.15")
    return run_dir / "deploy.yaml"


def test_train_wants_a_setting_and_images_that_fit_it(deploy: Path, tmp_path: Path) -> None:
    data = f"folder:{image_folder(tmp_path / 'images')}"
    out = ("--out", str(tmp_path / "model"))
    assert "gone.yaml cannot be read" in sentence(call("train", "gone.yaml", "--data", data, *out))
    text = sentence(call("train", str(deploy), "--data", data, *out))
    assert "The images are 8 x 8, but the setting was found for 16 x 16; --image-size 16 resizes them." in text
    text = sentence(call("train", str(deploy), "--data", data, *out, "--image-size", "16"))
    assert "The classes differ" in text
    assert "class0, class1 was unknown" in text
    assert "data.source must be shapes" in sentence(call("train", str(deploy), "--data", "mnist", *out))
    assert "device must be one of" in sentence(call("train", str(deploy), "--data", data, *out, "--device", "tpu"))
    assert not (tmp_path / "model").exists()


def test_train_does_not_write_over_a_model(deploy: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(deploy.read_text())
    content["images"] = {"image_shape": [3, 8, 8], "class_names": ["class0", "class1"]}
    deploy.write_text(yaml.safe_dump(content))
    data = f"folder:{image_folder(tmp_path / 'images')}"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_text("x")
    text = sentence(call("train", str(deploy), "--data", data, "--out", str(tmp_path / "model")))
    assert "already holds a model" in text
    (tmp_path / "file").write_text("")
    assert "cannot be written" in sentence(call("train", str(deploy), "--data", data, "--out", str(tmp_path / "file")))


def test_train_finds_out_at_the_start_that_the_server_is_away(
    deploy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load(deploy.read_text())
    content["images"] = {"image_shape": [3, 8, 8], "class_names": ["class0", "class1"]}
    deploy.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    data = f"folder:{image_folder(tmp_path / 'images')}"
    text = sentence(call("train", str(deploy), "--data", data, "--out", str(tmp_path / "model")))
    assert "127.0.0.1:9 cannot be used" in text
    assert "secret" not in text


def test_predict_wants_a_model_and_images_that_fit_it(tmp_path: Path) -> None:
    image = picture(tmp_path / "one.png")
    assert "holds no model" in sentence(call("predict", str(tmp_path), str(image)))
    config = ModelConfig("tiny", width=4)
    normalise = Normalizer(torch.zeros(3), torch.ones(3))
    SavedModel(build_model(config, 3, 2, 0), config, normalise, (3, 16, 16), ("cat", "dog")).save(tmp_path / "model")
    text = sentence(call("predict", str(tmp_path / "model"), str(image)))
    assert "takes images of 16 x 16 with 3 channels" in text
    assert "8 x 8 with 3 channels; --resize resizes it" in text
    assert "gone.png" in sentence(call("predict", str(tmp_path / "model"), "gone.png"))
    result = call("predict", str(tmp_path / "model"), str(image), "--resize")
    assert result.exit_code == 0, result.output
    path, name, share = result.stdout.strip().split("\t")
    assert (path, name in ("cat", "dog"), 0.5 <= float(share) <= 1) == (str(image), True, True)


def test_ui_wants_a_report(run_dir: Path) -> None:
    assert "report.html is not there; sweeper report" in sentence(call("ui", str(run_dir)))


GALLERY = {"data": {"source": "shapes", "train_size": 100, "test_size": 40}}


def test_gallery_draws_attacks_and_tracks_what_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "out").mkdir()
    uri = fresh_store(tmp_path / "out" / "mlflow.db")  # where the command looks for it
    attacks = [
        {"attack": "badnets", "poison_rate": {"categorical": [0.04, 0.1]}, "target": 2},
        {"attack": "blend", "name": "faint", "alpha": 0.05, "poison_rate": 0.05},
        {"attack": "wanet", "poison_rate": 0.1, "cover_rate": 0.1},
    ]
    preset = write_preset(tmp_path / "p.yaml", **GALLERY, scenarios=attacks)
    least = ("--set", "search={scenarios: one, min_poisoned: 4}")  # 3 images of badnets are too few
    for _ in range(2):  # the second time the experiment is there
        result = call("gallery", "--preset", preset, *least, "--set", "data.train_size=80", "--out", "out/pictures.png")
        assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "out" / "pictures.png") as image:
        assert (image.format, image.width > image.height) == ("PNG", True)
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("gallery").experiment_id])
    assert [(run.info.status, run.data.tags["role"]) for run in runs] == [("FINISHED", "gallery")] * 2
    run = runs[0]
    assert run.data.params == {
        "data.source": "shapes", "badnets.poison_rate": "0.1", "faint.poison_rate": "0.05", "wanet.poison_rate": "0.1",
    }  # fmt: skip
    shares = {"badnets": 8 / 80, "faint": 4 / 80, "wanet": 16 / 80}
    assert set(run.data.metrics) == {f"{name}/{part}" for name in shares for part in ("changed_share", "psnr", "ssim")}
    assert {name: run.data.metrics[f"{name}/changed_share"] for name in shares} == pytest.approx(shares)
    assert run.data.metrics["faint/psnr"] > run.data.metrics["badnets/psnr"]
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["pictures.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"p.yaml", "out"}, "artifacts lie beside the store"


def test_gallery_says_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = write_preset(tmp_path / "p.yaml", **GALLERY)

    def refused(*arguments: str) -> str:
        return sentence(call("gallery", "--preset", *arguments))

    assert "data.source must be shapes, cifar10" in refused(preset, "--data", "mnist")
    assert "gone.yaml: there is no such file" in refused("gone.yaml")
    for out in (".", "picture.docx"):
        assert f"--out must end in .png, but got {out}" in refused(preset, "--out", out)
    (tmp_path / "file").write_text("")
    assert "file/x.png cannot be written" in refused(preset, "--out", "file/x.png")
    assert "size 20 with inset 0 does not fit images of 16x16" in refused(preset, "--set", "scenarios.0.size=20")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    (tmp_path / "folder.png").mkdir()
    assert "folder.png cannot be written" in refused(preset, "--out", "folder.png")
    blend = [{"attack": "badnets"}, {"attack": "blend", "poison_rate": 0.0}]
    clean = write_preset(tmp_path / "clean.yaml", **GALLERY, scenarios=blend)
    assert "blend has no image to show" in refused(clean, "--out", "x.png")
    assert not (tmp_path / "x.png").exists()


def test_gallery_finds_out_before_it_poisons_that_the_store_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setattr(gallery, "examples", lambda *_: pytest.fail("an attack was made"))
    text = sentence(call("gallery", "--preset", write_preset(tmp_path / "p.yaml", **GALLERY), "--out", "x.png"))
    assert "127.0.0.1:9 cannot be used" in text
    assert "secret" not in text
