"""``sweeper ui``, where MLflow's UI cannot be served."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweeper.cli import results
from sweeper.tracking import ui
from sweeper.tracking.ui import PortTaken
from tests.sweeper.cli.calls import call, sentence
from tests.sweeper.report.watched import Watched
from tests.sweeper.small import fresh_store
from trainers.errors import ConfigError

TAKEN = PortTaken("Port 5000 cannot be used: something listens there.")


class Interrupted:
    """Stands for an event that nobody sets, until Ctrl-C."""

    def wait(self) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    fresh_store(tmp_path / "tracking.db")
    monkeypatch.setattr(results, "Event", Interrupted)
    return str(Watched(tmp_path / "run").folder.path)


def fail_with(error: ConfigError, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def serve(store: str, port: int) -> Iterator[str]:
        raise error
        yield ""

    monkeypatch.setattr(ui, "serve_mlflow", serve)


@pytest.mark.parametrize(
    ("options", "error"),
    [([], TAKEN), ([], ConfigError("It did not start.")), (["--port", "5001"], ConfigError("It did not start."))],
)
def test_the_page_is_served_without_mlflow(
    run: str, monkeypatch: pytest.MonkeyPatch, options: list[str], error: ConfigError
) -> None:
    fail_with(error, monkeypatch)
    result = call("ui", run, *options)
    assert result.exit_code == 0
    assert "Sweep: http://127.0.0.1:" in result.output
    assert result.output.count(f"MLflow's UI is not served, only the page: {error}") == 1


def test_a_taken_port_that_was_asked_for_is_refused(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(TAKEN, monkeypatch)
    assert sentence(call("ui", run, "--port", "5000")) == str(TAKEN)
