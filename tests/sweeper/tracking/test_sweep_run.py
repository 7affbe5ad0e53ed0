"""Against a real MLflow store in a file; the store is the same kind that a user without a server has."""

import json
import logging
import sqlite3
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sweeper.report.plots import draw_trial
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord
from sweeper.tracking import sweep_run as tracking
from sweeper.tracking.store import shorten, tracking_uri, without_secret
from sweeper.tracking.sweep_run import Tracker
from tests.sweeper.small import DATA, FACTS, epoch_figures, finish, fresh_store, record_of, spec_with, sweep_with
from trainers.errors import ConfigError
from trainers.measuring.evaluation import METRICS

MakeTracker = Callable[..., Tracker]
RUN = ("badnets", 0)


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
    """A tracker of a sweep; the same name is the same sweep in another process."""

    def make(name: str = "run", uri: str = uri) -> Tracker:
        return Tracker(uri, RunFolder(tmp_path / name), sweep_with(name), draw_trial)

    return make


def children(client: MlflowClient) -> dict[str, Any]:
    """Runs by trial; none stands there twice."""
    experiment = client.get_experiment_by_name("small")
    runs = [run for run in client.search_runs([experiment.experiment_id]) if "trial_id" in run.data.tags]
    found = {run.data.tags["trial_id"]: run for run in runs}
    assert len(found) == len(runs)
    return found


def steps(client: MlflowClient, trial_id: str, key: str) -> list[tuple[int, float]]:
    history = client.get_metric_history(children(client)[trial_id].info.run_id, key)
    return [(metric.step, metric.value) for metric in history]


def end(tracker: Tracker, record: TrialRecord, **figures: Any) -> None:
    finish(record, **figures)
    tracker.trial_ended(record, record.rows({}))


@pytest.fixture
def no_throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every epoch is sent at once."""
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_REQUESTS", 0.0)


def test_a_child_run_says_what_ran(make_tracker: MakeTracker, client: MlflowClient) -> None:
    tracker = make_tracker()
    trial, control = record_of("t0000"), record_of("c0000", "control")
    for record in (control, trial):
        tracker.epoch_ended(record)
    parent = client.get_run(tracker.parent)
    assert (parent.info.run_name, parent.info.status) == ("run", "RUNNING")
    assert (parent.data.params["data.source"], parent.data.params["sampler"]) == ("shapes", "random")
    assert (parent.data.tags["git_commit"], parent.data.tags["role"]) == ("123", "sweep")

    runs = children(client)
    tags = runs["t0000"].data.tags
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {tracker.parent}
    expected = {"role": "trial", "attack": "badnets", "poison_rate": "0.1", "seed": "0", "defense": "vab",
                "status": "RUNNING", "git_commit": "123", "config_id": trial.config.setting_key}  # fmt: skip
    assert {key: tags[key] for key in expected} == expected
    assert runs["t0000"].info.run_name == "t0000 vab vs badnets seed 0"
    assert runs["t0000"].info.start_time == int(trial.began_at * 1000)
    assert (runs["c0000"].data.tags["role"], runs["c0000"].data.tags["defense"]) == ("control", "none")
    params = runs["t0000"].data.params
    assert params["defense.threshold"] == "0.1"
    assert (params["badnets.poison_rate"], params["badnets.target"], params["badnets.size"]) == ("0.1", "0", "3")


def test_the_data_set_is_an_input_of_every_run(make_tracker: MakeTracker, client: MlflowClient) -> None:
    for _ in range(2):
        tracker = make_tracker()
        tracker.epoch_ended(record_of())
    for run_id in (tracker.parent, children(client)["t0000"].info.run_id):
        (given,) = client.get_run(run_id).inputs.dataset_inputs
        assert (given.dataset.name, given.dataset.digest, given.dataset.source_type) == ("shapes", "data", "shapes")
        assert json.loads(given.dataset.profile)["class_names"] == DATA["class_names"]
        assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]


def test_metrics_have_a_step_per_epoch(make_tracker: MakeTracker, client: MlflowClient) -> None:
    tracker = make_tracker()
    record = record_of()
    tracker.epoch_ended(record)
    for epoch in (1, 2, 3):
        record.add_epoch(RUN, epoch_figures(epoch, val_acc=epoch / 10, val_asr=None), FACTS)
        tracker.epoch_ended(record)
    end(tracker, record)
    assert steps(client, "t0000", "val_acc") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    known = {name for name in children(client)["t0000"].data.metrics if not name.startswith("final/")}
    assert known == set(METRICS) - {"epoch", "val_asr", "val_asr_excess"}


def test_figures_of_any_sweep_compare_under_the_same_names(make_tracker: MakeTracker, client: MlflowClient) -> None:
    tracker = make_tracker()
    record = record_of(spec=spec_with(scenarios=[{"attack": "badnets"}, {"attack": "blend"}], seeds=[0, 3]))
    for (scenario, repeat), asr in zip(record.runs, (0.1, 0.3, 0.0, 0.2), strict=True):
        record.add_epoch((scenario.name, repeat), epoch_figures(4, val_asr=asr, val_acc=0.9 - asr), FACTS)
    record.end("FINISHED")
    tracker.trial_ended(record, record.rows(dict.fromkeys(record.controls.values(), 0.97)))
    run = children(client)["t0000"]
    assert {name for name in run.data.metrics if name.endswith("/val_acc")} == {
        "final/val_acc", *(f"{scenario}/seed{seed}/val_acc" for scenario in ("badnets", "blend") for seed in (0, 3))
    }  # fmt: skip
    assert (run.data.tags["attack"], run.data.tags["seed"]) == ("badnets, blend", "0, 3")
    assert run.info.run_name == "t0000 vab vs badnets, blend"
    assert run.data.metrics["final/val_asr"] == pytest.approx(0.2)  # badnets, over its seeds
    assert run.data.metrics["final/val_acc"] == pytest.approx(0.75)
    assert run.data.metrics["final/control_asr"] == pytest.approx(0.97)


def test_more_metrics_than_one_request_takes(make_tracker: MakeTracker, client: MlflowClient) -> None:
    tracker = make_tracker()
    record = finish(record_of(), epochs=80)  # of 17 figures
    tracker.trial_ended(record, record.rows({}))
    for name in ("loss", "poison_in_credible"):
        assert [step for step, _ in steps(client, "t0000", name)] == list(range(1, 81))


def test_an_epoch_stands_at_the_time_of_its_report(make_tracker: MakeTracker, client: MlflowClient) -> None:
    tracker, record = make_tracker(), record_of()
    record.began_at = 1_700_000_000.0
    for epoch in (1, 2):
        record.add_epoch(RUN, epoch_figures(epoch), FACTS)
        record.epochs[RUN][epoch]["reported_at"] = 1_700_000_000.0 + 60 * epoch
    tracker.epoch_ended(record)
    history = client.get_metric_history(children(client)["t0000"].info.run_id, "loss")
    assert [metric.timestamp for metric in history] == [1_700_000_060_000, 1_700_000_120_000]


def test_more_parameters_than_one_request_takes(
    make_tracker: MakeTracker, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PARAMS_A_BATCH", 3)
    record = record_of()
    make_tracker().epoch_ended(record)
    assert record.config
    sent = children(client)["t0000"].data.params
    assert {f"defense.{name}" for name in record.config.params} <= set(sent)
    assert {f"badnets.{name}" for name in record.config.scenarios[0].params} <= set(sent)


def test_a_running_trial_is_sent_now_and_then_and_whole_when_it_ends(
    make_tracker: MakeTracker, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most every ten seconds."""
    now = 1000.0
    monkeypatch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    tracker, record = make_tracker(), record_of()
    known = []
    for epoch, seconds in ((1, 0.0), (2, 4.0), (3, 5.9), (4, 0.2)):
        now += seconds
        record.add_epoch(RUN, epoch_figures(epoch), FACTS)
        tracker.epoch_ended(record)
        known.append([step for step, _ in steps(client, "t0000", "loss")])
    assert known == [[1], [1], [1], [1, 2, 3, 4]]
    record.add_epoch(RUN, epoch_figures(5), FACTS)
    record.end("FINISHED")
    tracker.trial_ended(record, record.rows({}))
    assert [step for step, _ in steps(client, "t0000", "loss")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("status", "shown"), [("FINISHED", "FINISHED"), ("PRUNED", "KILLED"), ("FAILED", "FAILED")])
def test_how_it_ended(make_tracker: MakeTracker, client: MlflowClient, status: str, shown: str) -> None:
    tracker = make_tracker()
    record = finish(record_of())
    tracker.epoch_ended(record)
    record.trainings["badnets", 0].attempt = 2
    record.end(status, "x" * 2000 if status == "FAILED" else None)
    tracker.trial_ended(record, record.rows(dict.fromkeys(record.controls.values(), 0.3)))
    run = children(client)["t0000"]
    assert (run.info.status, run.data.tags["status"], run.data.tags["attempt"]) == (shown, status, "2")
    assert run.info.end_time == int((record.ended_at or 0) * 1000)
    assert run.data.tags.get("error") == ("x" * 500 if status == "FAILED" else None)
    assert run.data.tags["weak_attack"] == "badnets"


def test_a_control_of_a_weak_attack_is_not_called_weak_evidence(
    make_tracker: MakeTracker, client: MlflowClient
) -> None:
    """It is what says so; trials that met the attack carry the tag."""
    control = finish(record_of("c0000", "control"), val_asr=0.3)
    rows = control.rows(dict.fromkeys(control.controls.values(), 0.3))
    assert rows[0]["weak_attack"]
    make_tracker().trial_ended(control, rows)
    assert "weak_attack" not in children(client)["c0000"].data.tags


def test_a_refused_proposal_has_its_run(make_tracker: MakeTracker, client: MlflowClient) -> None:
    record = TrialRecord("t0007", "trial", None, {}, {"vab.mix_epochs": 0})
    record.end("FAILED", "must not both be 0")
    make_tracker().trial_ended(record, record.rows({}))
    run = children(client)["t0007"]
    assert (run.info.status, run.data.tags["error"], run.data.params["vab.mix_epochs"]) == (
        "FAILED", "must not both be 0", "0",
    )  # fmt: skip


def test_curves_and_histograms_are_artifacts(make_tracker: MakeTracker, client: MlflowClient, tmp_path: Path) -> None:
    end(make_tracker(), record_of())
    run = children(client)["t0000"]
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["curves.png"]
    assert str(tmp_path) in run.info.artifact_uri


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_the_parent_ends_with_tables_and_hypervolume(
    make_tracker: MakeTracker, client: MlflowClient, tmp_path: Path, status: str
) -> None:
    volumes = {"hypervolume/poison_rate 0.05": 0.5, "hypervolume": 0.25}
    (tmp_path / "table.parquet").write_bytes(b"x")
    for _ in range(2):
        tracker = make_tracker()
        tracker.sweep_ended([tmp_path / "table.parquet", tmp_path / "gone.png"], volumes, status)
    run = client.get_run(tracker.parent)
    assert run.info.status == status
    assert run.data.metrics == volumes
    assert len(client.get_metric_history(tracker.parent, "hypervolume")) == 1
    assert [a.path for a in client.list_artifacts(tracker.parent)] == ["table.parquet"]


def test_figures_of_a_sweep_that_went_on_are_brought_up_to_date(
    make_tracker: MakeTracker, client: MlflowClient
) -> None:
    for volume in (0.25, 0.5):
        tracker = make_tracker()
        tracker.sweep_ended([], {"hypervolume": volume}, "FINISHED")
    assert client.get_run(tracker.parent).data.metrics == {"hypervolume": 0.5}


def test_two_sweeps_of_one_name_share_an_experiment(make_tracker: MakeTracker, client: MlflowClient) -> None:
    first, second = make_tracker("first"), make_tracker("second")
    assert first.parent != second.parent
    names = {
        client.get_run(t.parent).info.run_name: client.get_run(t.parent).info.experiment_id for t in (first, second)
    }
    assert set(names) == {"first", "second"}
    assert len(set(names.values())) == 1


def test_a_resumed_sweep_goes_on_in_its_runs(
    make_tracker: MakeTracker, client: MlflowClient, no_throttle: None
) -> None:
    first = make_tracker()
    ended, cut, killed = (record_of(name) for name in ("t0000", "t0001", "t0002"))
    end(first, ended)
    for record in (cut, killed):
        for epoch in (1, 2):
            record.add_epoch(RUN, epoch_figures(epoch), FACTS)
            first.epoch_ended(record)
    cut.end("FAILED", "Not finished: the sweep was interrupted.", interrupted=True)
    first.trial_ended(cut, cut.rows({}))
    first.sweep_ended([], {}, "KILLED")
    before = {name: run.info.run_id for name, run in children(client).items()}
    assert [run.info.status for run in children(client).values()].count("RUNNING") == 1

    second = make_tracker()
    assert second.parent == first.parent
    for name in ("t0001", "t0002"):
        record = record_of(name)
        record.add_epoch(RUN, epoch_figures(1), FACTS)
        second.epoch_ended(record)
        assert children(client)[name].info.status == "RUNNING"
        for epoch in (1, 2, 3, 4):  # measured again from the last state, with other seconds
            record.add_epoch(RUN, epoch_figures(epoch, seconds=9.0 + epoch), FACTS)
            second.epoch_ended(record)
        record.end("FINISHED")
        second.trial_ended(record, record.rows({}))
    second.sweep_ended([], {}, "FINISHED")
    runs = children(client)
    assert {name: run.info.run_id for name, run in runs.items()} == before
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert runs["t0001"].data.tags["error"] == ""
    for name in ("t0001", "t0002"):
        assert [step for step, _ in steps(client, name, "seconds")] == [1, 2, 3, 4]
    assert client.get_run(second.parent).info.status == "FINISHED"


def test_of_an_ended_trial_no_epochs_are_remembered_and_the_store_is_asked_should_it_go_on(
    make_tracker: MakeTracker, client: MlflowClient
) -> None:
    tracker, record = make_tracker(), record_of()
    end(tracker, record)
    assert tracker._runs["t0000"].sent == {}
    again = record_of()
    for epoch in (1, 2, 3, 4):  # at other times, so a figure that is sent twice would stand there twice
        again.add_epoch(RUN, epoch_figures(epoch), FACTS)
        again.epochs[RUN][epoch]["reported_at"] += 60.0
    again.end("FAILED", "The loss is nan.")
    tracker.trial_ended(again, again.rows({}))
    assert [step for step, _ in steps(client, "t0000", "loss")] == [1, 2, 3, 4]
    assert children(client)["t0000"].info.status == "FAILED"


def test_a_sweep_written_again_stands_there_once(make_tracker: MakeTracker, client: MlflowClient) -> None:
    records = [finish(record_of("t0000")), finish(record_of("c0000", "control"))]
    runs = []
    for _ in range(2):
        tracker = make_tracker()
        for record in records:
            tracker.trial_ended(record, record.rows({}))
        tracker.sweep_ended([], {"hypervolume": 0.5}, "FINISHED")
        runs.append({name: (run.info.run_id, run.data.metrics) for name, run in children(client).items()})
    assert runs[0] == runs[1]
    assert [step for step, _ in steps(client, "t0000", "loss")] == [1, 2, 3]


def test_what_a_control_adds_to_an_ended_trial_is_sent(make_tracker: MakeTracker, client: MlflowClient) -> None:
    """Ctrl-C may end a sweep between a trial and its control; resume or track tells of the trial again."""
    record = finish(record_of("t0000"))
    asr: dict[str, float | None] = {}
    for figure, weak in ((None, None), (0.3, "badnets"), (0.2, "badnets"), (0.9, "")):  # of the same moment and epoch
        asr = dict.fromkeys(record.controls.values(), figure)
        make_tracker().trial_ended(record, record.rows(asr))
        run = children(client)["t0000"]
        assert (run.data.metrics.get("final/control_asr"), run.data.tags.get("weak_attack")) == (figure, weak)
        assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "FINISHED")
        assert run.info.end_time == int((record.ended_at or 0) * 1000)
    assert len(steps(client, "t0000", "final/val_asr")) == 1, "only what is new is sent"
    assert [step for step, _ in steps(client, "t0000", "loss")] == [1, 2, 3]


def test_a_trial_that_mlflow_has_costs_no_request(make_tracker: MakeTracker) -> None:
    ended = [finish(record_of("c0000", "control"), val_asr=0.3), finish(record_of("t0000"))]
    told = [(record, record.rows(dict.fromkeys(record.controls.values(), 0.3))) for record in ended]
    first = make_tracker()
    for record, rows in told:
        first.trial_ended(record, rows)
    for tracker in (first, make_tracker()):
        with pytest.MonkeyPatch.context() as patch:
            cut_off(patch, tracker, ConnectionError("refused"))
            for record, rows in told:
                tracker.trial_ended(record, rows)
        assert tracker.behind == []


LOST = ("create_run", "log_batch", "log_artifact", "set_terminated", "log_inputs", "update_run", "search_runs")


def cut_off(patch: pytest.MonkeyPatch, tracker: Tracker, error: Exception) -> None:
    """Every request fails."""

    def lost(*_: Any, **__: Any) -> None:
        raise error

    for name in LOST:
        patch.setattr(tracker._client, name, lost)


@pytest.mark.parametrize("error", [MlflowException("gone from http://me:secret@host/x"), ConnectionError("refused")])
def test_what_a_lost_server_missed_is_sent_when_it_is_back(
    make_tracker: MakeTracker, client: MlflowClient, caplog: pytest.LogCaptureFixture, error: Exception,
    no_throttle: None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tracking, "FIRST_PAUSE", 0.0)
    tracker = make_tracker()
    known, unknown = record_of("t0000"), record_of("t0001")
    known.add_epoch(RUN, epoch_figures(1), FACTS)
    tracker.epoch_ended(known)
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        cut_off(patch, tracker, error)
        for record in (known, unknown):
            tracker.epoch_ended(record)
            end(tracker, record)
    assert tracker.behind == ["t0000", "t0001"]
    assert caplog.text.count("MLflow sqlite") == 1, "that it is still away is no news"
    assert "secret" not in caplog.text
    end(tracker, record_of("t0002"))
    assert tracker.behind == []
    for name in ("t0000", "t0001", "t0002"):
        assert [step for step, _ in steps(client, name, "loss")] == [1, 2, 3]
        assert children(client)[name].info.status == "FINISHED"


def test_a_database_that_breaks_is_a_line_and_no_traceback(
    make_tracker: MakeTracker, client: MlflowClient, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tracking, "FIRST_PAUSE", 0.0)
    tracker = make_tracker()
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        store.execute("ALTER TABLE latest_metrics RENAME TO away")
        end(tracker, record_of("t0000"))
        store.execute("ALTER TABLE away RENAME TO latest_metrics")
    assert tracker.behind == ["t0000"]
    assert caplog.messages == [f"MLflow {tracker.shown_uri}: (sqlite3.OperationalError) no such table: latest_metrics"]
    assert "Traceback" not in "".join(capfd.readouterr())
    end(tracker, record_of("t0001"))
    assert tracker.behind == []
    assert children(client)["t0000"].info.status == "FINISHED"


def test_of_an_error_of_the_database_the_line_that_tells_is_shown() -> None:
    aside = "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush block)"
    error = MlflowException(f"{aside}\n(sqlite3.OperationalError) database or disk is full\n[SQL: UPDATE runs]")
    assert shorten(error) == "(sqlite3.OperationalError) database or disk is full"


def test_a_lost_server_is_not_asked_at_every_epoch(make_tracker: MakeTracker, no_throttle: None) -> None:
    tracker = make_tracker()
    record = record_of()
    with pytest.MonkeyPatch.context() as patch:
        asked = []

        def lost(*_: Any, **__: Any) -> None:
            asked.append(1)
            raise ConnectionError("refused")

        for name in LOST:
            patch.setattr(tracker._client, name, lost)
        for epoch in range(1, 50):
            record.add_epoch(RUN, epoch_figures(epoch), FACTS)
            tracker.epoch_ended(record)
    assert len(asked) == 1


def test_a_server_that_stays_away_is_asked_less_and_less_often(
    make_tracker: MakeTracker, no_throttle: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 5 s, 10 s and so on, at most 300; once it was back, after 5 s again."""
    now = 0.0
    monkeypatch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    tracker, record = make_tracker(), record_of()
    asked: list[float] = []

    def lost(*_: Any, **__: Any) -> None:
        asked.append(now)
        raise ConnectionError("refused")

    def watch(seconds: int) -> list[float]:
        nonlocal now
        asked.clear()
        for _ in range(seconds):
            tracker.epoch_ended(record)
            now += 1.0
        return [after - before for before, after in pairwise(asked)]

    with pytest.MonkeyPatch.context() as patch:
        for name in LOST:
            patch.setattr(tracker._client, name, lost)
        assert watch(1300) == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    now += 1000.0
    tracker.epoch_ended(record)
    assert tracker.behind == []
    with pytest.MonkeyPatch.context() as patch:
        for name in LOST:
            patch.setattr(tracker._client, name, lost)
        record.add_epoch(RUN, epoch_figures(1), FACTS)
        assert watch(40) == [5, 10, 20]


def test_a_store_that_is_away_at_the_end_is_not_asked_for_each_file(make_tracker: MakeTracker, tmp_path: Path) -> None:
    tracker, asked = make_tracker(), []

    def lost(*_: Any, **__: Any) -> None:
        asked.append(1)
        raise ConnectionError("refused")

    with pytest.MonkeyPatch.context() as patch:
        for name in (*LOST, "get_run"):
            patch.setattr(tracker._client, name, lost)
        tracker.sweep_ended([tmp_path / "mlflow.db"] * 9, {}, "FINISHED")
    assert len(asked) == 1
    assert tracker.behind == [tracking.WHOLE_SWEEP]


def test_an_artifact_that_is_refused_costs_none_of_the_others(
    make_tracker: MakeTracker, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = make_tracker()
    send = tracker._client.log_artifact

    def picky(run_id: str, path: str) -> None:
        if path.endswith("a"):
            raise PermissionError("no")
        send(run_id, path)

    monkeypatch.setattr(tracker._client, "log_artifact", picky)
    for name in ("a", "b"):
        (tmp_path / name).write_text("x")
    tracker.sweep_ended([tmp_path / "a", tmp_path / "b"], {}, "FINISHED")
    assert [file.path for file in client.list_artifacts(tracker.parent)] == ["b"]
    assert tracker.behind == [tracking.WHOLE_SWEEP]


def test_what_runs_is_not_said_to_be_missing(make_tracker: MakeTracker) -> None:
    tracker = make_tracker()
    with pytest.MonkeyPatch.context() as patch:
        cut_off(patch, tracker, ConnectionError("refused"))
        tracker.epoch_ended(record_of("t0000"))
        end(tracker, record_of("t0001"))
    assert tracker.behind == ["t0001"]


def test_a_sweep_of_many_trials_is_found_again_page_by_page(
    make_tracker: MakeTracker, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "RUNS_A_PAGE", 2)
    names = [f"t{number:04d}" for number in range(5)]
    for _ in range(2):
        tracker = make_tracker()
        for name in names:
            tracker.epoch_ended(record_of(name))
    assert sorted(children(client)) == names


def test_an_answer_that_was_lost_makes_no_second_run(
    make_tracker: MakeTracker, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "FIRST_PAUSE", 0.0)
    tracker = make_tracker()
    create = tracker._client.create_run

    def unheard(*arguments: Any, **more: Any) -> None:
        create(*arguments, **more)
        raise ConnectionError("the connection broke")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker._client, "create_run", unheard)
        tracker.epoch_ended(record_of())
    end(tracker, record_of())
    assert children(client)["t0000"].info.status == "FINISHED"


def test_a_run_that_somebody_deleted_does_not_hold_up_the_others(
    make_tracker: MakeTracker, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = make_tracker()
    deleted = record_of("t0000")
    tracker.epoch_ended(deleted)
    client.delete_run(children(client)["t0000"].info.run_id)
    end(tracker, deleted)
    end(tracker, record_of("t0001"))
    assert children(client)["t0001"].info.status == "FINISHED"
    assert tracker.behind == ["t0000"], "and it is not said to be there"


def test_a_run_that_was_brought_back_is_no_longer_missing(make_tracker: MakeTracker, client: MlflowClient) -> None:
    tracker, record = make_tracker(), record_of()
    tracker.epoch_ended(record)
    run_id = children(client)["t0000"].info.run_id
    client.delete_run(run_id)
    end(tracker, record)
    assert tracker.behind == ["t0000"]
    client.restore_run(run_id)
    tracker.trial_ended(record, record.rows({}))
    assert tracker.behind == []
    assert children(client)["t0000"].info.status == "FINISHED"


@pytest.mark.parametrize("kind", ["http", "postgresql"])
def test_a_server_that_is_away_is_found_out_in_seconds(tmp_path: Path, kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        Tracker(f"{kind}://someone:secret@127.0.0.1:9", RunFolder(tmp_path), sweep_with(), draw_trial)
    assert time.monotonic() - began < 20
    text = str(caught.value)
    assert text.startswith(f"The tracking store {kind}://127.0.0.1:9 cannot be used: ")
    assert "secret" not in text
    assert "\n" not in text


@pytest.mark.parametrize("uri", ["sqlite:////proc/nowhere/mlflow.db", "file:/tmp/mlruns", "nonsense://x"])
def test_a_store_that_cannot_be_used_is_a_sentence(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match=r"The tracking store .* cannot be used: ") as caught:
        Tracker(uri, RunFolder(tmp_path), sweep_with(), draw_trial)
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
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("postgresql://db/mlflow", "postgresql://me:pa/ss@db/mlflow"),
        ("postgresql://db/mlflow?user=me&password=&x=1", "postgresql://db/mlflow?user=me&password=hunter2&x=1"),
    ],
)
def test_an_address_is_shown_without_its_password(shown: str, uri: str) -> None:
    assert without_secret(uri) == shown


def test_a_password_of_any_kind_is_hidden_where_the_address_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://me:a b/c@d@db/optuna")
    assert (
        without_secret("postgresql://me:a b/c@d@db/optuna does not answer") == "postgresql://db/optuna does not answer"
    )


def test_facts_of_a_row_are_those_of_the_worker() -> None:
    row = finish(record_of()).rows({})[0]
    assert {key: row[key] for key in FACTS} == FACTS
