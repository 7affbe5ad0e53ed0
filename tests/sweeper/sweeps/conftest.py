"""Whole sweeps through Ray, each on 200 shapes with a network four channels wide."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from mlflow import MlflowClient
from rich.console import Console

from sweeper.preset.spec import validate
from sweeper.report.plots import draw_trial
from sweeper.run_folder.folder import RunFolder
from sweeper.running.driver import Outcome, Plan, run_sweep
from sweeper.running.ledger import Follower, Ledger
from sweeper.running.progress import LiveDisplay
from sweeper.tracking.background import BackgroundTracker
from sweeper.tracking.sweep_run import Tracker
from tests.agreement import agree
from tests.ray_here import ray_here
from tests.sweeper.small import fresh_store, preset_with, sweep_with
from trainers.data import Splits

VAB = {"name": "vab", "warmup_steps": 2, "warmup_rounds": 1, "mix_epochs": 1, "suppression_epochs": 1, "lr": 0.05}


@pytest.fixture(scope="module", autouse=True)
def _ray(ray_home: Path) -> Iterator[None]:
    """One Ray runtime for all."""
    with ray_here(ray_home, cpus=2):
        yield


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
        followers: Sequence[Follower] = (),
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
        content["data"] = content["data"] | {"class_names": list(splits.train.class_names)}
        tracker = BackgroundTracker(Tracker(uri, folder, content, draw_trial), folder)
        shown = io.StringIO()
        plan = Plan(spec.search.trials)
        display = LiveDisplay(Console(file=shown, width=300), spec.objectives, spec.constraints, plan.trials)
        ledger = Ledger(folder, {}, [tracker, display, *followers])
        outcome = run_sweep(spec, content, splits, ledger, plan, display.say)
        tracker.sweep_ended([], {}, "FINISHED")
        return Ended(folder, outcome, uri, shown.getvalue())

    return start
