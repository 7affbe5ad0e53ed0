"""The tracking store where it is away, wrong or deleted."""

import io
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console

from sweeper import launch
from sweeper.report.plots import draw_trial
from sweeper.run_folder.folder import RunFolder
from sweeper.running.driver import Outcome
from sweeper.tracking.store import ExperimentDeleted, check_store, reach, why_away
from sweeper.tracking.sweep_run import Tracker
from tests.servers import listening
from tests.sweeper.small import finish, fresh_store, preset_with, record_of, spec_with, sweep_with
from trainers.errors import ConfigError


def test_the_variable_that_names_the_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    with pytest.raises(ConfigError) as caught:
        check_store("http://me:secret@127.0.0.1:9")
    assert str(caught.value) == (
        "The tracking store http://127.0.0.1:9 (MLFLOW_TRACKING_URI) cannot be used: "
        "nothing listens on port 9 of 127.0.0.1"
    )
    with pytest.raises(ConfigError, match=r"store http://127.0.0.1:1 cannot be used"):
        check_store("http://127.0.0.1:1")


@pytest.mark.parametrize("uri", ["localhost:5000", "127.0.0.1:5000/x"])
def test_an_address_without_scheme_is_said_to_be_so(uri: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot be used: it has no scheme; write http://{uri}"):
        check_store(uri)


def test_a_server_that_is_none_of_mlflow_is_said_to_be_so() -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def say(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    with listening(say) as port, pytest.raises(ConfigError, match=r"cannot be used: .*; is it an MLflow server\?$"):
        check_store(f"http://127.0.0.1:{port}")


def test_a_server_that_does_not_answer_requests_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def wait(connection: socket.socket) -> None:
        while connection.recv(4096):
            pass

    with listening(wait) as port, pytest.raises(ConfigError) as refused:
        check_store(f"http://127.0.0.1:{port}")
    told = "cannot be used: it takes requests, but does not answer within 1 s"
    assert str(refused.value) == f"The tracking store http://127.0.0.1:{port} {told}"


def test_what_listens_in_place_of_postgresql_is_not_waited_for() -> None:
    with listening() as port, pytest.raises(ConnectionError, match=f"listens on port {port} of .* is no PostgreSQL"):
        reach(f"postgresql://me@127.0.0.1:{port}/mlflow")


def test_a_server_of_mlflow_that_is_away_is_said_to_be_so() -> None:
    with listening() as port:
        assert why_away(f"http://127.0.0.1:{port}") is None
    assert why_away(f"http://127.0.0.1:{port}") == f"nothing listens on port {port} of 127.0.0.1"
    assert (
        why_away("http://me:pa/ss@here") == "its address is none: a port is a number, and special characters are quoted"
    )
    assert why_away("sqlite:////tmp/mlflow.db") is None


def test_the_store_of_artifacts_is_looked_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    with listening() as port, pytest.raises(ConnectionError, match=r"MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:9, and"):
        reach(f"http://127.0.0.1:{port}")


def delete(uri: str, name: str = "small") -> str:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    identity = str(experiment.experiment_id) if experiment else client.create_experiment(name)
    client.delete_experiment(identity)
    return identity


def test_a_deleted_experiment_is_named_with_how_to_restore_it(tmp_path: Path) -> None:
    uri = fresh_store(tmp_path / "mlflow.db")
    identity = delete(uri)
    with pytest.raises(ExperimentDeleted) as caught:
        Tracker(uri, RunFolder(tmp_path), sweep_with(), draw_trial)
    assert str(caught.value) == (
        "The MLflow experiment small was deleted; restore it: "
        f"MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {identity}"
    )


def test_one_that_is_deleted_while_the_sweep_runs_costs_no_trial(tmp_path: Path) -> None:
    uri = fresh_store(tmp_path / "mlflow.db")
    tracker = Tracker(uri, RunFolder(tmp_path), sweep_with(), draw_trial)
    identity = delete(uri)
    record = finish(record_of())
    tracker.trial_ended(record, record.rows({}))
    tracker.sweep_ended([], {}, "FINISHED")
    assert "t0000" in tracker.behind
    MlflowClient(tracking_uri=uri).restore_experiment(identity)


def test_a_sweep_goes_on_without_its_deleted_experiment_and_is_tracked_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = fresh_store(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    def sweep(_spec: object, _content: object, _splits: object, ledger: launch.Ledger, *_: object) -> Outcome:
        record = finish(record_of())
        ledger.add(record)
        ledger.announce(record)
        return Outcome(1, [], None)

    monkeypatch.setattr(launch, "run_sweep", sweep)
    identity = delete(uri)
    said = io.StringIO()
    path = tmp_path / "run"
    ended = launch.begin(spec_with(), preset_with(), path, Console(file=said, width=1000))
    assert ended.tracker.behind == ["t0000", "the sweep's own run"]
    assert f"The sweep goes on without MLflow; when it is restored: sweeper track {path}" in said.getvalue()
    resumed = launch.resume(path, Console(file=io.StringIO()))
    assert resumed.tracker.behind == ["t0000", "the sweep's own run"]
    with pytest.raises(ConfigError, match="was deleted; restore it"):
        launch.track(path, uri)
    MlflowClient(tracking_uri=uri).restore_experiment(identity)
    assert launch.track(path, uri).behind == []


def test_a_new_file_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that was killed while MLflow made its tables left a file that nothing could use."""
    file = tmp_path / "mlflow.db"

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        assert not file.exists()
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("sweeper.tracking.store.os.link", killed)
        with pytest.raises(Killed):
            check_store(f"sqlite:///{file}")
    assert list(tmp_path.iterdir()) == []
    check_store(f"sqlite:///{file}")
    assert list(tmp_path.iterdir()) == [file]
    before = file.stat().st_ino
    check_store(f"sqlite:///{file}")
    assert file.stat().st_ino == before, "one that is there stays"


def test_an_address_with_options_is_left_to_mlflow(tmp_path: Path) -> None:
    check_store(f"sqlite:///{tmp_path / 'mlflow.db'}?timeout=5")
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]
