"""The command line, as far as it goes without Ray."""

from pathlib import Path

import pytest

from sweeper import launch
from tests.sweeper.cli.calls import call, sweep_at


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


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished sweep of three settings."""
    return sweep_at(tmp_path / "made")


@pytest.fixture
def deploy(run_dir: Path) -> Path:
    call("select", str(run_dir), "--max-asr", "0.15")
    return run_dir / "deploy.yaml"
