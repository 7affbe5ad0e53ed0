"""Against a real MLflow store in a file; the store is the same kind that a user without a server has."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sweeper import tracking
from sweeper.results import RunFolder
from sweeper.tracking import Tracker, tracking_uri
from tests.sweeper.small import FACTS, epoch_figures, finish, fresh_store, record_of, spec_with
from trainers.errors import ConfigError
from trainers.evaluation import METRICS

MakeTracker = Callable[..., Tracker]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return fresh_store(tmp_path / "mlflow.db")


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def make_tracker(tmp_path: Path, uri: str) -> MakeTracker:
    def make(name: str = "run") -> Tracker:
        return Tracker(
            uri, "small", RunFolder.create(tmp_path / name), {"sweep": "small", "git_commit": "123"}, {"a": 1}
        )

    return make


def children(client: MlflowClient) -> dict[str, Any]:
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id])
    return {run.data.tags["trial_id"]: run for run in runs if "trial_id" in run.data.tags}


def test_a_child_run_says_what_ran(make_tracker: MakeTracker, client: MlflowClient) -> None:
    tracker = make_tracker()
    trial, control = record_of("t0000"), record_of("c0000", "control")
    for record in (control, trial):
        tracker.trial_started(record)
    parent = client.get_run(tracker.parent)
    assert (parent.info.run_name, parent.info.status, parent.data.params) == ("run", "RUNNING", {"a": "1"})
    assert parent.data.tags["git_commit"] == "123"

    runs = children(client)
    tags = runs["t0000"].data.tags
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {tracker.parent}
    expected = {"role": "trial", "attack": "badnets", "poison_rate": "0.1", "seed": "0", "defense": "vab",
                "status": "RUNNING", "git_commit": "123", "config_id": trial.config.setting_key}  # fmt: skip
    assert {key: tags[key] for key in expected} == expected
    assert runs["t0000"].info.run_name == "t0000 vab vs badnets"
    assert (runs["c0000"].data.tags["role"], runs["c0000"].data.tags["defense"]) == ("control", "none")
    params = runs["t0000"].data.params
    assert params["defense.threshold"] == "0.1"
    assert (params["badnets.poison_rate"], params["badnets.target"], params["badnets.size"]) == ("0.1", "0", "3")


def test_metrics_have_a_step_per_epoch(make_tracker: MakeTracker, client: MlflowClient) -> None:
    tracker = make_tracker()
    record = record_of()
    tracker.trial_started(record)
    for epoch in (1, 2, 3):
        tracker.epoch_ended(record, ("badnets", 0), epoch_figures(epoch, val_acc=epoch / 10, val_asr=None))
    finish(record)
    tracker.trial_ended(record, record.rows({}))
    run = children(client)["t0000"]
    history = client.get_metric_history(run.info.run_id, "val_acc")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert set(run.data.metrics) == set(METRICS) - {"epoch", "val_asr"}


def test_a_retry_measures_again_and_is_written_once(make_tracker: MakeTracker, client: MlflowClient) -> None:
    tracker = make_tracker()
    record = record_of()
    for epochs in ((1, 2), (1, 2, 3)):
        tracker.trial_started(record)
        for epoch in epochs:
            tracker.epoch_ended(record, ("badnets", 0), epoch_figures(epoch))
    tracker.trial_ended(finish(record), record.rows({}))
    (run,) = children(client).values()
    assert [m.step for m in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3]


def test_several_runs_in_a_trial_have_names_of_their_own(make_tracker: MakeTracker, client: MlflowClient) -> None:
    tracker = make_tracker()
    record = record_of(spec=spec_with(scenarios=[{"attack": "badnets"}, {"attack": "blend"}], seeds=[0, 3]))
    tracker.trial_started(record)
    for scenario, repeat in record.config.runs():
        tracker.epoch_ended(record, (scenario.name, repeat), epoch_figures(1))
    tracker.trial_ended(finish(record), record.rows({}))
    run = children(client)["t0000"]
    assert {name for name in run.data.metrics if name.endswith("/val_acc")} == {
        f"{scenario}/seed{seed}/val_acc" for scenario in ("badnets", "blend") for seed in (0, 3)
    }
    assert (run.data.tags["attack"], run.data.tags["seed"]) == ("badnets, blend", "0, 3")


def test_more_metrics_than_one_request_takes(make_tracker: MakeTracker, client: MlflowClient) -> None:
    tracker = make_tracker()
    record = record_of()
    tracker.trial_started(record)
    for epoch in range(1, 81):  # 80 epochs of 17 figures
        tracker.epoch_ended(record, ("badnets", 0), epoch_figures(epoch))
    tracker.trial_ended(finish(record), record.rows({}))
    (run,) = children(client).values()
    for name in ("loss", "poison_in_credible"):
        assert [m.step for m in client.get_metric_history(run.info.run_id, name)] == list(range(1, 81))


@pytest.mark.parametrize(("status", "shown"), [("FINISHED", "FINISHED"), ("PRUNED", "KILLED"), ("FAILED", "FAILED")])
def test_how_it_ended(make_tracker: MakeTracker, client: MlflowClient, status: str, shown: str) -> None:
    tracker = make_tracker()
    record = finish(record_of())
    tracker.trial_started(record)
    record.status, record.attempt = status, 2
    record.error = "x" * 2000 if status == "FAILED" else None
    tracker.trial_ended(record, record.rows(dict.fromkeys(record.controls.values(), 0.3)))
    run = children(client)["t0000"]
    assert (run.info.status, run.data.tags["status"], run.data.tags["attempt"]) == (shown, status, "2")
    assert run.data.tags.get("error") == ("x" * 500 if status == "FAILED" else None)
    assert run.data.tags["weak_attack"] == "badnets"


def test_curves_and_histograms_are_artifacts(make_tracker: MakeTracker, client: MlflowClient, tmp_path: Path) -> None:
    tracker = make_tracker()
    record = finish(record_of())
    tracker.trial_started(record)
    tracker.trial_ended(record, record.rows({}))
    run = children(client)["t0000"]
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["curves.png"]
    assert str(tmp_path) in run.info.artifact_uri


@pytest.mark.parametrize(("failed", "status"), [(False, "FINISHED"), (True, "FAILED")])
def test_the_parent_ends_with_tables_and_hypervolume(
    make_tracker: MakeTracker, client: MlflowClient, tmp_path: Path, failed: bool, status: str
) -> None:
    tracker = make_tracker()
    (tmp_path / "table.parquet").write_bytes(b"x")
    volumes = {"hypervolume/poison_rate 0.05": 0.5, "hypervolume": 0.25}
    tracker.sweep_ended([tmp_path / "table.parquet", tmp_path / "gone.png"], volumes, failed)
    run = client.get_run(tracker.parent)
    assert run.info.status == status
    assert run.data.metrics == volumes
    assert [a.path for a in client.list_artifacts(tracker.parent)] == ["table.parquet"]


def test_two_sweeps_of_one_name_share_an_experiment(make_tracker: MakeTracker, client: MlflowClient) -> None:
    first, second = make_tracker("first"), make_tracker("second")
    assert first.parent != second.parent
    names = {
        client.get_run(t.parent).info.run_name: client.get_run(t.parent).info.experiment_id for t in (first, second)
    }
    assert set(names) == {"first", "second"}
    assert len(set(names.values())) == 1


@pytest.mark.parametrize("error", [MlflowException("gone from http://me:secret@host/x"), ConnectionError("refused")])
def test_a_lost_server_costs_entries_and_not_the_sweep(
    make_tracker: MakeTracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    tracker = make_tracker()
    known, unknown = finish(record_of("t0000")), finish(record_of("t0001"))
    tracker.trial_started(known)

    def lost(*_: Any, **__: Any) -> None:
        raise error

    for name in ("create_run", "log_batch", "log_artifact", "set_terminated"):
        monkeypatch.setattr(tracker._client, name, lost)
    with caplog.at_level(logging.WARNING):
        for record in (known, unknown):
            tracker.trial_started(record)
            tracker.epoch_ended(record, ("badnets", 0), epoch_figures(1))
            tracker.trial_ended(record, record.rows({}))
        tracker.sweep_ended([Path("x")], {"hypervolume": 0.1}, failed=False)
    assert "MLflow" in caplog.text
    assert "secret" not in caplog.text
    monkeypatch.undo()
    after = record_of("t0002")
    tracker.trial_started(after)
    assert "t0002" in tracker._runs


def test_a_server_that_is_away_is_found_out_in_seconds(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        Tracker("http://someone:secret@127.0.0.1:9", "small", RunFolder.create(tmp_path / "run"), {}, {})
    assert time.monotonic() - began < 20
    text = str(caught.value)
    assert text.startswith("The tracking store http://127.0.0.1:9 cannot be used: ")
    assert "secret" not in text
    assert "\n" not in text


@pytest.mark.parametrize("uri", ["sqlite:////proc/nowhere/mlflow.db", "file:/tmp/mlruns", "nonsense://x"])
def test_a_store_that_cannot_be_used_is_a_sentence(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match=r"The tracking store .* cannot be used: ") as caught:
        Tracker(uri, "small", RunFolder.create(tmp_path / "run"), {}, {})
    assert "\n" not in str(caught.value)


def test_where_runs_are_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    assert tracking_uri(tmp_path) == "http://somewhere:5000"


@pytest.mark.parametrize(
    ("shown", "uri"),
    [
        ("http://host:5000/a", "http://me:p@ss@host:5000/a"),
        ("postgresql://host/db", "postgresql://me:secret@host/db"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
        ("http://host/a@b", "http://host/a@b"),
    ],
)
def test_an_address_is_shown_without_its_password(shown: str, uri: str) -> None:
    assert tracking._without_secret(uri) == shown


def test_facts_of_a_row_are_those_of_the_worker() -> None:
    row = finish(record_of()).rows({})[0]
    assert {key: row[key] for key in FACTS} == FACTS
