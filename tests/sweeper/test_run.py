"""Whole sweeps through Ray, each on 200 shapes with a network four channels wide."""

import io
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest
import ray
import yaml
from mlflow import MlflowClient
from rich.console import Console
from typer.testing import CliRunner

from sweeper import cli, runner
from sweeper.progress import LiveDisplay
from sweeper.records import TrialRecord
from sweeper.results import RunFolder, finished
from sweeper.runner import Outcome, run_sweep
from sweeper.spec import validate
from sweeper.tracking import Tracker
from tests.sweeper.small import make_objectives, preset_with
from trainers.data import load_data

pytestmark = pytest.mark.ray

STATES = {"FINISHED": "COMPLETE", "PRUNED": "PRUNED", "FAILED": "FAIL"}
RUNS = {"FINISHED": "FINISHED", "PRUNED": "KILLED", "FAILED": "FAILED"}
VAB = {"name": "vab", "warmup_steps": 2, "warmup_rounds": 1, "mix_epochs": 1, "suppression_epochs": 1, "lr": 0.05}


@pytest.fixture(scope="module", autouse=True)
def _ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray runtime for all; a home of its own, since Ray writes a token there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in runner.RAY_SETTINGS.items():
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
        status = self.status()
        trials = {name: word for name, word in status.items() if name.startswith("t")}
        told = {t.user_attrs["trial_id"]: t.state.name for t in self.study if "trial_id" in t.user_attrs}
        assert {name: told[name] for name in trials} == {name: STATES[word] for name, word in trials.items()}
        runs = self.runs
        assert {n: (r.info.status, r.data.tags["status"]) for n, r in runs.items()} == {
            name: (RUNS[word], word) for name, word in status.items()
        }
        errors = dict(zip(self.frame["trial_id"], self.frame["error"], strict=True))
        for trial in self.study:
            reason = trial.user_attrs.get("error")
            if trial.user_attrs.get("trial_id") in errors:
                assert reason == (errors[trial.user_attrs["trial_id"]] or None)


Sweep = Callable[..., Ended]


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Runs the small preset with changes."""

    def start(name: str = "run", before: Callable[[RunFolder], None] | None = None, **changes: Any) -> Ended:
        preset = preset_with(**changes)
        spec = validate(preset, "small.yaml")
        splits = load_data(spec.data)
        folder = RunFolder.create(tmp_path / name)
        if before:
            before(folder)
        uri = f"sqlite:///{tmp_path / name}.db"
        tracker = Tracker(uri, spec.name, folder, {}, {})
        shown = io.StringIO()
        outcome = run_sweep(spec, preset, splits, folder, tracker, Console(file=shown, width=300))
        return Ended(folder, outcome, uri, shown.getvalue())

    return start


def test_a_sweep_from_the_command_line_to_its_frontier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path / 'tracking.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(preset_with(seeds=[0, 1])))
    out = tmp_path / "run"
    result = CliRunner().invoke(cli.app, ["run", str(tmp_path / "small.yaml"), "--out", str(out), "--trials", "2"])
    assert result.exit_code == 0, result.output
    ended = Ended(RunFolder.open(out), Outcome(2, [], None), uri, result.output)
    ended.agree()

    frame = ended.frame
    assert ended.status() == dict.fromkeys(["c0000", "c0001", "t0000", "t0001"], "FINISHED")
    assert len(frame) == 2 + 2 * 2
    trials = finished(frame)
    assert frame.groupby("role").size().to_dict() == {"control": 2, "trial": 4}
    assert trials[["val_acc", "val_asr", "asr_floor", "test_acc", "test_asr", "control_asr", "weak_attack"]].notna().all(
        axis=None
    )
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
    assert "Pick a setting: sweeper select" in result.output


def test_a_loss_that_is_nan_fails_its_trial_alone(sweep: Sweep) -> None:
    defense = {"name": "none", "epochs": 2, "batch_size": 64, "lr": {"categorical": [0.01, 1e30]}}
    ended = sweep(defense=defense, search={"sampler": "grid", "trials": 2, "workers": 1})
    ended.agree()
    frame = ended.frame
    bad = frame[frame["param.defense.lr"] == 1e30].iloc[0]
    good = frame[frame["param.defense.lr"] == 0.01].iloc[0]
    assert (bad["status"], good["status"]) == ("FAILED", "FINISHED")
    assert "The loss is nan" in bad["error"]
    assert "epoch" in bad["error"]
    assert pd.isna(bad["val_acc"])
    assert good["val_acc"] > 0
    assert bad["attempt"] == 1  # a retry would not help
    assert ended.outcome.finished == 1
    assert ended.outcome.failed == [f"{bad['trial_id']}: {bad['error']}"]


def test_if_every_trial_fails_the_exit_code_is_1_and_the_reason_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'tracking.db'}")
    preset = preset_with(defense={"name": "none", "epochs": 2, "lr": 1e30}, search={"trials": 1})
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(preset))
    result = CliRunner().invoke(cli.app, ["run", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "FAILED t0000: The loss is nan" in result.stdout
    assert result.stderr.strip() == "No trial finished."
    assert RunFolder.open(tmp_path / "run").read_trials()["status"].tolist() == ["FINISHED", "FAILED"]


def test_a_crashed_trial_goes_on_from_its_last_state(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores cannot be written, until the driver mends that when the trial starts again."""
    blocked: list[Path] = []

    class Mending(LiveDisplay):
        def __init__(self, *arguments: Any):
            super().__init__(*arguments)
            self.starts: dict[str, int] = {}

        def trial_started(self, record: TrialRecord) -> None:
            super().trial_started(record)
            self.starts[record.trial_id] = self.starts.get(record.trial_id, 0) + 1
            if self.starts[record.trial_id] == 2:
                blocked[0].unlink(missing_ok=True)

    def block(folder: RunFolder) -> None:
        folder.scores.write_text("")
        blocked.append(folder.scores)

    monkeypatch.setattr(runner, "LiveDisplay", Mending)
    ended = sweep(before=block, defense=VAB, search={"trials": 1, "workers": 1, "retries": 1})
    ended.agree()
    row = ended.frame.set_index("trial_id").loc["t0000"]
    assert (row["status"], row["attempt"], row["error"]) == ("FINISHED", 2, None)
    curves = pq.read_table(ended.folder.curves).to_pandas()
    assert curves[curves["trial_id"] == "t0000"]["epoch"].tolist() == [1, 2, 3, 4]
    run = ended.runs["t0000"]
    history = MlflowClient(tracking_uri=ended.uri).get_metric_history(run.info.run_id, "loss")
    assert [metric.step for metric in history] == [1, 2, 3, 4]
    assert run.data.tags["attempt"] == "2"


def test_a_trial_that_crashes_again_has_failed_with_its_reason(sweep: Sweep) -> None:
    ended = sweep(
        before=lambda folder: folder.scores.write_text("") and None,
        defense=VAB,
        search={"trials": 1, "workers": 1, "retries": 1},
    )
    ended.agree()
    row = ended.frame.set_index("trial_id").loc["t0000"]
    assert (row["status"], row["attempt"]) == ("FAILED", 2)
    assert "FileExistsError" in row["error"] or "NotADirectoryError" in row["error"]
    assert ended.status()["c0000"] == "FINISHED"


def test_two_runs_on_one_worker_give_the_same_figures(sweep: Sweep) -> None:
    search = {"sampler": "tpe", "trials": 3, "workers": 1}
    first, second = (sweep(name, search=search) for name in ("first", "second"))
    pd.testing.assert_frame_equal(
        first.frame.drop(columns="seconds"), second.frame.drop(columns="seconds"), check_exact=True
    )
    assert (finished(first.frame)["val_acc"] > 0).all()


def test_asha_prunes(sweep: Sweep) -> None:
    """One trial learns and one cannot; the second to report at the rung is stopped if it is the worse."""
    defense = {"name": "none", "epochs": 6, "batch_size": 16, "schedule": "cosine",
               "lr": {"categorical": [0.05, 1e-8]}}  # fmt: skip
    ended = sweep(
        defense=defense,
        seed=0,
        objectives=make_objectives(("val_acc", "maximize")),
        search={"sampler": "grid", "trials": 2, "workers": 1, "scheduler": "asha", "grace_epochs": 1},
    )
    ended.agree()
    frame = ended.frame.set_index("trial_id")
    assert frame.loc["c0000", "status"] == "FINISHED"
    by_lr = frame.drop("c0000").set_index("param.defense.lr")
    order = by_lr.index.tolist()
    if order == [0.05, 1e-8]:
        assert by_lr.loc[1e-8, "status"] == "PRUNED"
    assert by_lr.loc[0.05, "status"] == "FINISHED"
    pruned = by_lr[by_lr["status"] == "PRUNED"]
    assert len(pruned) == 1, order
    assert pruned[["val_acc", "val_asr", "epoch"]].isna().all(axis=None)
    curves = pq.read_table(ended.folder.curves).to_pandas()
    assert 1 <= len(curves[curves["trial_id"] == pruned["trial_id"].iloc[0]]) < 6 if "trial_id" in pruned else True


def interrupting(kind: str) -> type[LiveDisplay]:
    """A display that ends the sweep in the second epoch of its first trial."""

    class Interrupting(LiveDisplay):
        def epoch_ended(self, record: TrialRecord) -> None:
            super().epoch_ended(record)
            if record.role == "trial" and kind == "ctrl-c" and len(next(iter(record.epochs.values()))) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    return Interrupting


def test_ctrl_c_ends_cleanly_with_everything_so_far(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LiveDisplay", interrupting("ctrl-c"))
    before = signal.getsignal(signal.SIGINT)
    ended = sweep(defense={**VAB, "mix_epochs": 200}, search={"trials": 3, "workers": 1})
    assert signal.getsignal(signal.SIGINT) is before
    assert ended.outcome.interrupted == "the sweep was interrupted"
    ended.agree()
    status = ended.status()
    assert (status["c0000"], status["t0000"]) == ("FINISHED", "FAILED")
    row = ended.frame.set_index("trial_id").loc["t0000"]
    assert row["error"] == "Not finished: the sweep was interrupted."
    assert pd.isna(row["val_acc"])
    curves = pq.read_table(ended.folder.curves).to_pandas()
    assert len(curves[curves["trial_id"] == "t0000"]) >= 2
    assert {trial.state.name for trial in ended.study} == {"FAIL"}


def test_the_time_budget_ends_cleanly(sweep: Sweep) -> None:
    ended = sweep(
        defense={**VAB, "mix_epochs": 2000}, search={"trials": 3, "workers": 1, "time_budget": 12 / 60}
    )
    assert ended.outcome.interrupted == "the time budget ended"
    assert ended.outcome.finished == 0
    ended.agree()
    frame = ended.frame
    assert (frame[frame["role"] == "trial"]["error"] == "Not finished: the time budget ended.").all()
    assert not ended.folder.states.exists()


def test_nothing_of_a_sweep_is_written_beside_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert mlflow.active_run() is None
