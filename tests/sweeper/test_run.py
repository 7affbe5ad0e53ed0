"""Whole sweeps through Ray, each on 200 shapes with a network four channels wide."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest
import ray
import torch
import yaml
from mlflow import MlflowClient
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.faults import agree
from sweeper import cli, runner
from sweeper.cluster import RAY_SETTINGS
from sweeper.progress import LiveDisplay
from sweeper.records import TrialRecord
from sweeper.results import finished, read_table
from sweeper.run_folder import RunFolder
from sweeper.runner import Outcome, Plan, run_sweep
from sweeper.spec import validate
from sweeper.study import grid_points
from sweeper.tracking import Tracker
from tests.sweeper.small import fresh_store, make_objectives, preset_with, spec_with, sweep_with
from trainers.data import ImageSet, Splits
from trainers.errors import ConfigError

pytestmark = pytest.mark.ray

VAB = {"name": "vab", "warmup_steps": 2, "warmup_rounds": 1, "mix_epochs": 1, "suppression_epochs": 1, "lr": 0.05}


@pytest.fixture(scope="module", autouse=True)
def _ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray runtime for all; a home of its own, since Ray writes a token there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in RAY_SETTINGS.items():
            patch.setenv(name, value)
        ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


@dataclass
class Ended:
    """What a sweep left."""

    folder: RunFolder
    outcome: Outcome
    uri: str
    shown: str

    @property
    def frame(self) -> pd.DataFrame:
        return self.folder.read_trials()

    @property
    def study(self) -> list[optuna.trial.FrozenTrial]:
        study = optuna.load_study(study_name="small", storage=f"sqlite:///{self.folder.study}")
        return study.get_trials()

    @property
    def runs(self) -> dict[str, Any]:
        """The children of the sweep's MLflow run, by trial."""
        client = MlflowClient(tracking_uri=self.uri)
        experiment = client.get_experiment_by_name("small")
        found = client.search_runs([experiment.experiment_id])
        children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
        assert len({run.data.tags["trial_id"] for run in children}) == len(children)
        return {run.data.tags["trial_id"]: run for run in children}

    def status(self) -> dict[str, str]:
        return dict(zip(self.frame["trial_id"], self.frame["status"], strict=True))

    def agree(self) -> None:
        """Table, study and MLflow say the same of each trial."""
        assert agree(self.folder, self.uri) == self.status()


Sweep = Callable[..., Ended]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Runs the small preset with changes."""

    def start(
        name: str = "run",
        before: Callable[[RunFolder], None] | None = None,
        splits: Splits | None = None,
        **changes: Any,
    ) -> Ended:
        preset = preset_with(**changes)
        spec = validate(preset, "small.yaml")
        splits = splits or spec.load()
        folder = RunFolder.create(tmp_path / name)
        if before:
            before(folder)
        uri = fresh_store(tmp_path / f"{name}.db")
        content = sweep_with(name, **changes)
        tracker = Tracker(uri, folder, content)
        shown = io.StringIO()
        plan = Plan(spec.search.trials)
        outcome = run_sweep(spec, content, splits, folder, tracker, Console(file=shown, width=300), plan)
        return Ended(folder, outcome, uri, shown.getvalue())

    return start


TWO_SEEDS: dict[str, Any] = {"seeds": [0, 1], "search": {"sampler": "tpe", "trials": 2, "workers": 1}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A sweep from the command line."""
    place = tmp_path_factory.mktemp("whole")
    uri = fresh_store(place / "tracking.db")
    (place / "small.yaml").write_text(yaml.safe_dump(preset_with(**TWO_SEEDS), sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        arguments = ["run", str(place / "small.yaml"), "--out", str(place / "run"), "--trials", "2"]
        result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    return Ended(RunFolder.open(place / "run"), Outcome(2, [], None), uri, result.output)


def test_a_sweep_from_the_command_line_to_its_frontier(whole: Ended) -> None:
    ended, uri, out = whole, whole.uri, whole.folder.path
    ended.agree()
    frame = ended.frame
    assert ended.status() == dict.fromkeys(["c0000", "c0001", "t0000", "t0001"], "FINISHED")
    assert len(frame) == 2 + 2 * 2
    trials = finished(frame)
    assert frame.groupby("role").size().to_dict() == {"control": 2, "trial": 4}
    known = ["val_acc", "val_asr", "asr_floor", "test_acc", "test_asr", "control_asr", "weak_attack"]
    assert trials[known].notna().all(axis=None)
    control = finished(frame, "control").set_index("seed")["val_asr"]
    assert (trials["control_asr"] == trials["seed"].map(control)).all()
    assert (trials["epoch"] == 4).all()
    assert (trials["poison_share"] == 0.1).all()

    for trial in ended.study:
        rows = trials[trials["trial_id"] == trial.user_attrs["trial_id"]]
        assert trial.values == pytest.approx([rows["val_acc"].mean(), rows["val_asr"].mean()], abs=1e-12)
        assert (rows["param.defense.threshold"] == trial.params["vab.threshold"]).all()
        assert (rows["param.defense.mixing"] == trial.params["vab.mixing"]).all()

    client = MlflowClient(tracking_uri=uri)
    for row in trials.to_dict("records"):
        run = ended.runs[row["trial_id"]]
        history = client.get_metric_history(run.info.run_id, f"badnets/seed{row['seed']}/val_acc")
        assert history[-1].value == row["val_acc"]
        assert run.data.params["defense.threshold"] == str(row["param.defense.threshold"])
        assert (run.data.tags["role"], run.data.tags["attack"]) == ("trial", "badnets")
        artifacts = {a.path for a in client.list_artifacts(run.info.run_id)}
        assert {"curves.png", "entropy-badnets-0.png", "entropy-badnets-1.png"} <= artifacts
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in ended.runs.values()}
    assert client.get_run(parent).info.status == "FINISHED"
    assert "frontier.png" in {a.path for a in client.list_artifacts(parent)}

    files = {path.name for path in out.iterdir()}
    assert files >= {"sweep.yaml", "trials.parquet", "curves.parquet", "scores", "study.db", "frontier.parquet"}
    assert "states" not in files
    curves = pq.read_table(out / "curves.parquet").to_pandas()
    assert curves.groupby(["trial_id", "seed"]).size().to_dict() == {
        ("c0000", 0): 1, ("c0001", 1): 1, ("t0000", 0): 4, ("t0000", 1): 4, ("t0001", 0): 4, ("t0001", 1): 4,
    }  # fmt: skip
    scores = pq.read_table(out / "scores" / "t0000-badnets-1.parquet").to_pandas()
    assert (len(scores), int(scores["poisoned"].sum())) == (200, 20)
    assert ended.folder.read_sweep()["preset"]["search"]["trials"] == 2
    assert "Pick a setting: sweeper select" in ended.shown


def test_the_same_sweep_again_gives_the_same_figures(whole: Ended, sweep: Sweep) -> None:
    first, second = (frame.drop(columns="seconds") for frame in (whole.frame, sweep(**TWO_SEEDS).frame))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert (finished(first)["val_acc"] > 0).all()
    assert len(finished(first)) == 4


def colours(count: int) -> ImageSet:
    """Four colours, which any network tells apart after an epoch."""
    labels = torch.arange(count) % 4
    shades = torch.tensor([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    images = shades[labels][:, :, None, None].repeat(1, 1, 8, 8)
    return ImageSet(images, labels, ("black", "red", "green", "blue"))


def test_asha_prunes_what_learns_nothing_and_a_nan_fails_alone(sweep: Sweep) -> None:
    def changes(seed: int) -> dict[str, Any]:
        lr = {"categorical": [0.05, 1e-8, 1e30]}
        return {
            "seed": seed,
            "defense": {"name": "none", "epochs": 6, "batch_size": 16, "schedule": "cosine", "lr": lr},
            "objectives": make_objectives(("val_acc", "maximize")),
            "search": {"sampler": "grid", "trials": 3, "workers": 1, "scheduler": "asha", "grace_epochs": 2},
        }

    def order(seed: int) -> list[float]:
        return [point["none.lr"] for point in grid_points(spec_with(**changes(seed)))]

    seed = next(seed for seed in range(100) if order(seed) == [0.05, 1e30, 1e-8])  # the good one sets the bar
    ended = sweep(splits=Splits(colours(200), colours(100)), **changes(seed))
    ended.agree()
    frame = ended.frame
    assert frame["status"].tolist() == ["FINISHED", "FINISHED", "FAILED", "PRUNED"]
    good, bad, pruned = (frame.iloc[i] for i in (1, 2, 3))
    assert good["val_acc"] == 1
    assert "The loss is nan in epoch 1" in bad["error"]
    assert bad["attempt"] == 1  # a retry would not help
    assert pd.isna(pruned["error"])
    assert frame.iloc[2:][["val_acc", "val_asr", "asr_floor", "epoch", "seconds"]].isna().all(axis=None)
    epochs = pq.read_table(ended.folder.curves).to_pandas().groupby("trial_id").size()
    assert 2 <= epochs["t0002"] < 6
    assert ended.outcome.finished == 1
    assert ended.outcome.failed == [f"t0001: {bad['error']}"]
    assert "t0002 PRUNED" in ended.shown


def test_a_crashed_trial_goes_on_from_its_last_state(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """States cannot be written. For the first trial the driver mends that when it starts again; the second fails."""
    blocked: list[Path] = []

    class Mending(LiveDisplay):
        started: ClassVar[list[str]] = []

        def trial_started(self, record: TrialRecord) -> None:
            super().trial_started(record)
            self.started.append(record.trial_id)
            if self.started == ["c0000", "t0000", "t0000"]:
                blocked[0].rmdir()

    def block(folder: RunFolder) -> None:
        blocked.extend(folder.states / trial / "run-0.1.safetensors" for trial in ("t0000", "t0001"))
        for path in blocked:
            path.mkdir(parents=True)

    monkeypatch.setattr(runner, "LiveDisplay", Mending)
    ended = sweep(before=block, defense=VAB, search={"trials": 2, "workers": 1, "retries": 1})
    ended.agree()
    assert Mending.started == ["c0000", "t0000", "t0000", "t0001", "t0001"]
    mended, broken = (ended.frame.set_index("trial_id").loc[name] for name in ("t0000", "t0001"))
    assert (mended["status"], mended["attempt"], pd.isna(mended["error"])) == ("FINISHED", 2, True)
    assert (broken["status"], broken["attempt"]) == ("FAILED", 2)
    assert "OSError" in broken["error"]
    curves = pq.read_table(ended.folder.curves).to_pandas()
    assert curves[curves["trial_id"] == "t0000"]["epoch"].tolist() == [1, 2, 3, 4]
    run = ended.runs["t0000"]
    history = MlflowClient(tracking_uri=ended.uri).get_metric_history(run.info.run_id, "loss")
    assert sorted(metric.step for metric in history) == [1, 2, 3, 4]
    assert run.data.tags["attempt"] == "2"


class Interrupting(LiveDisplay):
    """Presses Ctrl-C in the second epoch of the first trial."""

    def epoch_ended(self, record: TrialRecord) -> None:
        super().epoch_ended(record)
        if record.role == "trial" and len(next(iter(record.epochs.values()))) == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_cleanly_with_everything_so_far(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LiveDisplay", Interrupting)
    before = signal.getsignal(signal.SIGINT)
    ended = sweep(defense={**VAB, "mix_epochs": 200}, search={"trials": 3, "workers": 1})
    assert signal.getsignal(signal.SIGINT) is before
    assert ended.outcome.interrupted == "the sweep was interrupted"
    assert ended.outcome.finished == 0
    ended.agree()
    assert ended.status() == {"c0000": "FINISHED", "t0000": "FAILED"}
    row = ended.frame.set_index("trial_id").loc["t0000"]
    assert row["error"] == "Not finished: the sweep was interrupted."
    assert pd.isna(row["val_acc"])
    curves = pq.read_table(ended.folder.curves).to_pandas()
    assert len(curves[curves["trial_id"] == "t0000"]) >= 2
    assert {trial.state.name for trial in ended.study} == {"FAIL"}
    assert ended.folder.read_records()["t0000"].interrupted
    assert (ended.folder.states / "t0000" / "run-0.1.safetensors").exists(), "resume goes on from here"


def test_a_trial_that_asks_for_more_than_there_is_is_refused(sweep: Sweep) -> None:
    with pytest.raises(
        ConfigError, match=r"asks for 99 CPUs, which no host has: .* has 2 CPUs and 0 GPUs. Change resources."
    ):
        sweep(resources={"cpu": 99})


def test_compared_defenses_have_leaders_that_are_confirmed_with_fresh_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colours with a patch: everything is learned in seconds, and the attack is strong. BCU begins as its control."""
    for split, images in (("train", colours(140)), ("test", colours(80))):
        for number, (image, label) in enumerate(zip(images.images, images.labels.tolist(), strict=True)):
            path = tmp_path / "data" / split / images.class_names[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    uri = fresh_store(tmp_path / "tracking.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    training = {"batch_size": 16, "schedule": "cosine", "lr": 0.05}
    preset = preset_with(
        data={"source": f"folder:{tmp_path / 'data'}", "held_out_size": 20},
        defense=[
            {"name": "none", "epochs": 16, **training},
            {"name": "bcu", "training_epochs": 15, "distillation_epochs": 2, **training},
        ],
        control={"epochs": 15, **training},
        scenarios=[{"attack": "badnets", "poison_rate": 0.4, "size": 4}],
        search={"sampler": "tpe", "trials": 2, "workers": 1, "defenses": "turns"},
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(preset))
    out = tmp_path / "run"

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli.app, list(arguments))
        assert result.exit_code == code, result.output
        return result.output

    shown = call("run", str(tmp_path / "small.yaml"), "--out", str(out))
    assert "Who holds the joint frontier" in shown
    assert "Not enough seeds" in call("select", str(out), "--max-asr", "1", "--confidence", "0.9", code=3)
    call("confirm", str(out), "--top", "1", "--seeds", "3")

    frame = RunFolder.open(out).read_trials()
    confirmed = frame[frame["role"] == "confirmation"]
    assert confirmed["trial_id"].tolist() == [f"k000{number}" for number in range(6)]
    assert confirmed.groupby("defense")["seed"].apply(list).to_dict() == {"bcu": [1, 2, 3], "none": [1, 2, 3]}
    controls = finished(frame, "control").set_index("seed")["val_asr"]
    assert confirmed["control_asr"].tolist() == [controls[seed] for seed in (1, 2, 3)] * 2
    assert (controls >= 0.8).all()
    assert agree(RunFolder(out), uri) == dict.fromkeys(frame["trial_id"], "FINISHED")
    assert set(pq.read_table(out / "frontier.parquet")["seeds"].to_pylist()) == {1}, "the search's own figures stay"

    call("select", str(out), "--max-asr", "1", "--confidence", "0.9")
    deploy = yaml.safe_load((out / "deploy.yaml").read_text())
    assert (deploy["seeds"], deploy["asr_upper"]) == (3, pytest.approx(1, abs=0.05))
    own = confirmed[confirmed["defense"] == deploy["defense"]]
    assert {part["trial_id"] for part in deploy["evidence"]} == set(own["trial_id"])
    curves = read_table(out / "curves.parquet")
    of_bcu, of_control = (curves[(curves["trial_id"] == name)]["loss"].tolist() for name in ("t0001", "c0000"))
    assert of_bcu[:15] == of_control, "BCU begins as its control does"
    client = MlflowClient(tracking_uri=uri)
    (parent,) = client.search_runs([client.get_experiment_by_name("small").experiment_id], "tags.role = 'sweep'")
    artifacts = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert artifacts >= {"deploy.yaml", "report.html", "frontier.png", "frontier.parquet", "trials.parquet"}


def artifacts_of(uri: str) -> set[str]:
    """The files of the sweep's own run."""
    client = MlflowClient(tracking_uri=uri)
    (parent,) = client.search_runs([client.get_experiment_by_name("small").experiment_id], "tags.role = 'sweep'")
    return {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}


def test_a_map_over_poison_rates_of_attackers_met_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = fresh_store(tmp_path / "tracking.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    preset = preset_with(
        defense={"name": "none", "epochs": {"categorical": [1, 2]}, "batch_size": 64, "lr": 0.05},
        scenarios=[
            {"attack": "badnets", "poison_rate": {"categorical": [0.02, 0.05, 0.1]}},
            {"attack": "blend", "poison_rate": 0.1},
            {"attack": "sig", "poison_rate": 0.1},
        ],
        search={"sampler": "grid", "trials": 50, "workers": 1, "scenarios": "one", "min_poisoned": 10},
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(preset))
    out = tmp_path / "run"
    result = CliRunner().invoke(cli.app, ["run", str(tmp_path / "small.yaml"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    folder = RunFolder.open(out)

    left_out = ["badnets at rate 0.02 (4 poisoned images)", "sig at rate 0.1 (2 poisoned images)"]
    sweep = folder.read_sweep()
    assert sweep["left_out"] == left_out
    assert [scenario["attack"] for scenario in sweep["preset"]["scenarios"]] == ["badnets", "blend"]
    assert f"Left out: {'; '.join(left_out)}." in result.output
    assert all(f"<li>{words}</li>" in folder.report.read_text() for words in left_out)

    frame = folder.read_trials()
    assert agree(folder, uri) == dict.fromkeys(frame["trial_id"], "FINISHED")
    assert len(frame) == 3 + 2 * 3, "each trial meets one attacker, and each attacker has one control"
    trials = finished(frame)
    assert trials.groupby(["scenario", "poison_rate"])["config_id"].nunique().to_dict() == {
        ("badnets", 0.05): 2, ("badnets", 0.1): 2, ("blend", 0.1): 2,
    }  # fmt: skip
    assert (trials["changed_share"] == trials["poison_rate"]).all()
    assert trials.groupby("scenario")[["psnr", "ssim"]].nunique().max(axis=None) <= 2, "one for each attacker"
    assert trials[["psnr", "ssim"]].notna().all(axis=None)

    names = ("badnets, poison_rate=0.05", "badnets, poison_rate=0.1", "blend")
    assert all(f"Frontier at {name}: no setting stands on it." in result.output for name in names), "weak attacks"
    assert "Breaking point: the smallest poison rate" in result.output
    assert set(pq.read_table(out / "frontier.parquet")["environment"].to_pylist()) == set(names)
    for picture in ("frontier.png", "breaking.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    assert not (out / "attackers.png").exists()
    assert {"frontier.png", "breaking.png"} <= artifacts_of(uri)


def test_an_attackers_sweep_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = fresh_store(tmp_path / "tracking.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    preset = preset_with(
        defense=VAB,
        scenarios=[{"attack": "blend", "poison_rate": {"float": [0.05, 0.2]}, "alpha": {"float": [0.1, 0.5]}}],
        objectives=make_objectives(("val_asr", "maximize"), ("poison_rate", "minimize")),
        constraints=[{"metric": "control_asr", "min": 0.0}],
        search={"sampler": "random", "trials": 3, "workers": 1},
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(preset))
    out = tmp_path / "run"
    result = CliRunner().invoke(cli.app, ["run", str(tmp_path / "small.yaml"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    ended = Ended(RunFolder.open(out), Outcome(3, [], None), uri, result.output)
    ended.agree()

    trials = finished(ended.frame).set_index("trial_id")
    assert trials["config_id"].nunique() == 1, "the defense stays as it is"
    best = [trial for trial in ended.study if not any(
        other.values[0] >= trial.values[0] and other.values[1] < trial.values[1] for other in ended.study
    )]  # fmt: skip
    assert all(trial.values == pytest.approx([trials.loc[trial.user_attrs["trial_id"], name] for name in
                                              ("val_asr", "poison_rate")]) for trial in ended.study)  # fmt: skip
    table = result.output.split("Attackers, those that no other beats first")[1].split("\n\n")[0]
    leads = {row.split()[0] for row in table.splitlines() if " yes " in row}
    assert leads == {trial.user_attrs["trial_id"] for trial in best}
    assert "Pick a setting" not in result.output
    assert "<h2>Attackers</h2>" in ended.folder.report.read_text()
    assert (out / "attackers.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "breaking.png").exists(), "every attacker has another opacity"
    assert {"attackers.png", "report.html"} <= artifacts_of(uri)
    refused = CliRunner().invoke(cli.app, ["confirm", str(out), "--max-asr", "0.1"])
    assert refused.exit_code == 2
    assert "attacker's sweep" in refused.stderr
