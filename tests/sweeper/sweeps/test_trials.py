"""What becomes of the trials of a sweep."""

import os
import signal
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner

from sweeper.cli.main import app
from sweeper.preset.grid import grid_points
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord
from sweeper.run_folder.tables import finished
from sweeper.running.driver import Outcome
from tests.sweeper.small import Watcher, colours, fresh_store, preset_with, spec_with
from tests.sweeper.sweeps.conftest import VAB, Ended, Sweep
from trainers.data import Splits
from trainers.errors import ConfigError

pytestmark = pytest.mark.ray

TWO_SEEDS: dict[str, Any] = {"seeds": [0, 1], "search": {"sampler": "tpe", "trials": 2, "workers": 1, "race": "off"}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A sweep from the command line."""
    place = tmp_path_factory.mktemp("whole")
    uri = fresh_store(place / "tracking.db")
    (place / "small.yaml").write_text(yaml.safe_dump(preset_with(**TWO_SEEDS), sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        arguments = ["run", str(place / "small.yaml"), "--out", str(place / "run"), "--trials", "2"]
        result = CliRunner().invoke(app, arguments)
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
    known = [
        "val_acc",
        "val_asr",
        "asr_floor",
        "val_asr_excess",
        "test_acc",
        "test_asr",
        "test_asr_excess",
        "control_asr",
        "weak_attack",
    ]
    assert trials[known].notna().all(axis=None)
    control = finished(frame, "control").set_index("seed")["val_asr"]
    assert (trials["control_asr"] == trials["seed"].map(control)).all()
    assert (trials["epoch"] == 4).all()
    assert (trials["poison_share"] == 0.1).all()

    for trial in ended.study:
        rows = trials[trials["trial_id"] == trial.user_attrs["trial_id"]]
        assert trial.values == pytest.approx([rows["val_acc"].mean(), rows["val_asr_excess"].mean()], abs=1e-12)
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
    leads = pq.read_table(out / "frontier.parquet").to_pandas()["on_frontier"].any()
    next_step = any(text in ended.shown for text in ("Pick a setting: sweeper select", "Try more trials"))
    assert next_step == leads, "only where there is one to pick"


def test_the_same_sweep_again_gives_the_same_figures(whole: Ended, sweep: Sweep) -> None:
    first, second = (frame.drop(columns="seconds") for frame in (whole.frame, sweep(**TWO_SEEDS).frame))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert (finished(first)["val_acc"] > 0).all()
    assert len(finished(first)) == 4


def test_asha_stops_what_learns_nothing_and_a_nan_fails_alone(sweep: Sweep) -> None:
    def changes(seed: int) -> dict[str, Any]:
        lr = {"categorical": [0.05, 0.04, 1e-8, 1e30]}
        return {
            "seed": seed,
            "defense": {"name": "none", "epochs": 6, "batch_size": 16, "schedule": "cosine", "lr": lr},
            "search": {"sampler": "grid", "trials": 4, "workers": 1, "scheduler": "asha", "grace": 0.3},
        }

    def order(seed: int) -> list[float]:
        return [point["none.lr"] for point in grid_points(spec_with(**changes(seed)))]

    good = {0.05, 0.04}
    seed = next(seed for seed in range(1000) if set(order(seed)[:2]) == good and order(seed)[2:] == [1e30, 1e-8])
    ended = sweep(splits=Splits(colours(200), colours(100)), **changes(seed))
    ended.agree()
    frame = ended.frame
    assert frame["status"].tolist() == ["FINISHED", "FINISHED", "FINISHED", "FAILED", "PRUNED"]
    bad, stopped = frame.iloc[3], frame.iloc[4]
    assert frame.iloc[[1, 2]]["val_acc"].tolist() == [1, 1]
    assert "The loss is nan in epoch 1" in bad["error"]
    assert bad["attempt"] == 1  # a retry would not help
    reason = "badnets, seed 0 was stopped by asha at 33% of its epochs, where 2 of 3 trainings are ahead of it"
    assert (stopped["error"], stopped["trial_error"]) == (reason, reason)
    assert frame.iloc[3:][["val_acc", "val_asr", "asr_floor", "epoch", "seconds"]].isna().all(axis=None)
    epochs = pq.read_table(ended.folder.curves).to_pandas().groupby("trial_id").size()
    assert epochs["t0003"] == 2, "the epoch at which it fell behind is its last"
    record = ended.folder.read_records()["t0003"]
    assert sorted(record.epochs["badnets", 0]) == [1, 2], "and its record holds it"
    assert ended.outcome.finished == 2
    assert ended.outcome.failed == [f"t0002: {bad['error']}"]
    assert "t0003 PRUNED" in ended.shown


def test_a_crashed_trial_goes_on_from_its_last_state(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """States cannot be written. For the first trial the driver mends that when it starts again; the second fails."""
    blocked: list[Path] = []

    class Mending(Watcher):
        started: ClassVar[list[str]] = []

        def trial_changed(self, record: TrialRecord) -> None:
            if record.running:  # else it broke off
                self.started.append(record.trial_id)
            if self.started == ["c0000", "t0000", "t0000"]:
                blocked[0].rmdir()

    def block(folder: RunFolder) -> None:
        blocked.extend(folder.states / training / "run-0.1.safetensors" for training in ("t0000-0", "t0001-0"))
        for path in blocked:
            path.mkdir(parents=True)

    ended = sweep(before=block, followers=[Mending()], defense=VAB, search={"trials": 2, "workers": 1, "retries": 1})
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


def test_a_trial_that_leaves_its_race_is_stopped_and_everything_says_so(sweep: Sweep) -> None:
    """After one of three trainings it is certain that their mean is above the bound."""
    ended = sweep(
        defense=VAB,
        seeds=[0, 1, 2],
        constraints=[{"metric": "images_seen", "max": 100}],
        search={"trials": 1, "workers": 2},
    )
    ended.agree()
    reason = "images_seen cannot be at most 100 any more"
    trial = ended.frame[ended.frame["role"] == "trial"]
    assert sorted(trial["status"]) == ["FINISHED", "PRUNED", "PRUNED"]
    assert set(trial["trial_status"]) == {"PRUNED"}
    assert set(trial["trial_error"]) == {reason}
    assert (trial["val_acc"].notna() == (trial["status"] == "FINISHED")).all()
    assert finished(ended.frame).empty
    assert (ended.outcome.finished, ended.outcome.failed, ended.outcome.interrupted) == (1, [], None)
    assert [trial.state.name for trial in ended.study] == ["COMPLETE"]
    assert ended.study[0].user_attrs["raced_out"] == reason
    assert not ended.folder.states.exists()


class Interrupting(Watcher):
    """Presses Ctrl-C in the second epoch of the first trial."""

    def epoch_ended(self, record: TrialRecord) -> None:
        if record.role == "trial" and len(next(iter(record.epochs.values()))) == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_cleanly_with_everything_so_far(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    ended = sweep(followers=[Interrupting()], defense={**VAB, "mix_epochs": 200}, search={"trials": 3, "workers": 1})
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
    assert (ended.folder.states / "t0000-0" / "run-0.1.safetensors").exists(), "resume goes on from here"


def test_a_trial_that_asks_for_more_than_there_is_is_refused(sweep: Sweep) -> None:
    with pytest.raises(
        ConfigError, match=r"asks for 99 CPUs, which no host has: .* has 2 CPUs and 0 GPUs. Change resources."
    ):
        sweep(resources={"cpu": 99})
