"""Whether all that tells of a sweep tells the same as its records, which are the truth."""

from statistics import fmean

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord
from sweeper.run_folder.tables import as_rows, read_table

IN_THE_STUDY = {"FINISHED": "COMPLETE", "PRUNED": "PRUNED", "FAILED": "FAIL"}
IN_MLFLOW = {"FINISHED": "FINISHED", "PRUNED": "KILLED", "FAILED": "FAILED"}


def agree(folder: RunFolder, uri: str) -> dict[str, str]:
    """Hold the tables, the Optuna study and MLflow against the records of a sweep that has ended.

    Args:
        folder: of the sweep.
        uri: of the tracking store.

    Returns:
        The status of each trial and control.

    Raises:
        AssertionError: they do not agree, or one of them lacks something or holds it twice.
    """
    records = folder.read_records()
    _tables(folder, records)
    _study(folder, records)
    _tracking(folder, uri, records)
    return {name: record.status for name, record in records.items()}


def _tables(folder: RunFolder, records: dict[str, TrialRecord]) -> None:
    rows = {(row["trial_id"], row["scenario"], row["seed"]): row for row in as_rows(folder.read_trials())}
    assert len(rows) == len(folder.read_trials()), "a row stands twice in trials.parquet"
    runs = {
        (name, scenario.name, repeat): record for name, record in records.items() for scenario, repeat in record.runs
    }
    refused = {(name, None, None): record for name, record in records.items() if record.config is None}
    assert rows.keys() == runs.keys() | refused.keys()
    for key, record in (runs | refused).items():
        told = {name: rows[key][name] for name in ("role", "trial_status", "trial_error", "status", "error", "attempt")}
        state = record.trainings.get(key[1:])
        own = (record.status, record.error, None) if state is None else (state.status, state.error, state.attempt)
        known = {"role": record.role, "trial_status": record.status, "trial_error": record.error}
        assert told == known | dict(zip(("status", "error", "attempt"), own, strict=True))
    points = as_rows(read_table(folder.curves))
    for (name, scenario, repeat), record in runs.items():
        own = [p for p in points if (p["trial_id"], p["scenario"], p["seed"]) == (name, scenario, repeat)]
        epochs = record.epochs.get((scenario, repeat), {})
        assert [point["epoch"] for point in own] == list(range(1, len(epochs) + 1)), f"epochs of {name}"
        assert [point["val_acc"] for point in own] == [epochs[n + 1].get("val_acc") for n in range(len(epochs))]
        last = epochs[len(epochs)] if record.trainings[scenario, repeat].status == "FINISHED" else {}
        row = rows[name, scenario, repeat]
        assert [row[figure] for figure in ("epoch", "val_acc", "val_asr", "test_acc")] == [
            last.get(figure) for figure in ("epoch", "val_acc", "val_asr", "test_acc")
        ]
    assert len(points) == sum(len(epochs) for record in records.values() for epochs in record.epochs.values())


def _study(folder: RunFolder, records: dict[str, TrialRecord]) -> None:
    name = folder.read_sweep()["preset"]["name"]
    trials = optuna.load_study(study_name=name, storage=f"sqlite:///{folder.study}").get_trials()
    proposed = [record for record in records.values() if record.role == "trial"]
    assert [trial.user_attrs["trial_id"] for trial in trials] == [record.trial_id for record in proposed]
    for trial, record in zip(trials, proposed, strict=True):
        told = {name: trial.user_attrs[name] for name in ("error", "raced_out") if name in trial.user_attrs}
        if record.ended_by is None:
            assert trial.state.name == IN_THE_STUDY[record.status]
            assert told == ({} if record.error is None else {"error": record.error})
        else:
            assert (record.status, told) == ("PRUNED", {"raced_out": record.error})
            assert trial.state.name == ("PRUNED" if trial.values is None else "COMPLETE")
        assert trial.params == pytest.approx(record.searched)


def _tracking(folder: RunFolder, uri: str, records: dict[str, TrialRecord]) -> None:
    client = MlflowClient(tracking_uri=uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.sweep_id = '{folder.read_sweep()['sweep_id']}'")
    (parent,) = (run for run in found if "trial_id" not in run.data.tags)
    children = {run.data.tags["trial_id"]: run for run in found if run is not parent}
    assert len(children) == len(found) - 1, "a trial stands twice in MLflow"
    assert children.keys() == records.keys()
    for name, record in records.items():
        run = children[name]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert (run.info.status, run.data.tags["status"]) == (IN_MLFLOW[record.status], record.status)
        assert run.data.tags.get("error", "") == (record.error or "")[:500]
        _metrics(client, run, record)


def _metrics(client: MlflowClient, run: Run, record: TrialRecord) -> None:
    last: dict[str, list[float]] = {}
    for (scenario, repeat), epochs in record.epochs.items():
        prefix = "" if len(record.runs) == 1 else f"{scenario}/seed{repeat}/"
        history = client.get_metric_history(run.info.run_id, f"{prefix}val_acc")
        known = {epoch: figures["val_acc"] for epoch, figures in epochs.items() if figures.get("val_acc") is not None}
        assert len(history) == len(known), f"an epoch of {record.trial_id} stands twice in MLflow"
        assert {metric.step: metric.value for metric in history} == known
        if known and record.trainings[scenario, repeat].status == "FINISHED":
            last.setdefault(scenario, []).append(known[max(known)])
    if last:
        mean = fmean(fmean(values) for values in last.values())
        assert run.data.metrics["final/val_acc"] == pytest.approx(mean, abs=1e-12)
