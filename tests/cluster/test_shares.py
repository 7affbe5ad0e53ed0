"""Shares of a GPU: Ray is started with one that is not there, which trials on the CPU reserve all the same."""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.driver import waiting_trainings
from sweeper.cli.main import app
from sweeper.run_folder.folder import RunFolder
from tests.ray_here import ray_here
from tests.sweeper.small import fresh_store

WAIT_S = 4.0


@pytest.fixture
def _one_gpu(ray_home: Path) -> Iterator[None]:
    with ray_here(ray_home, cpus=8, gpus=1), waiting_trainings(WAIT_S):
        yield


def run(out: Path, gpu: float) -> str:
    resources = ("--set", f"resources.gpu={gpu}", "--set", "device=cpu", "--set", "search.sampler=random")
    arguments = ["run", "quick.yaml", *resources, "--trials", "8", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == (0 if gpu <= 1 else 2), result.output
    return result.output


def most_at_once(ends: list[float], seconds: float) -> int:
    """How many trials ran at a time at most, if each took so long before it was reported."""
    moments = sorted([(end - seconds, 1) for end in ends] + [(end, -1) for end in ends])
    return max(accumulate(change for _, change in moments))


@pytest.mark.usefixtures("_one_gpu")
def test_four_trials_share_a_gpu_by_quarters_and_never_five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "tracking.db"))
    run(tmp_path / "quarters", 0.25)
    records = RunFolder.open(tmp_path / "quarters").read_records().values()
    ends = [epoch["reported_at"] for record in records for run in record.epochs.values() for epoch in run.values()]
    assert len(ends) == 9
    # What is reported has run for WAIT_S, but reports come late: so much is sure, and so much may have been.
    assert most_at_once(ends, WAIT_S / 2) <= 4 <= most_at_once(ends, WAIT_S)
    assert "A training asks for 1 CPU and 2 GPUs, which no host has" in run(tmp_path / "two", 2)
