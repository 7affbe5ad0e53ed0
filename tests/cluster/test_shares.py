"""Shares of a GPU: Ray is started with one that is not there, which trials on the CPU reserve all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeper import cli
from sweeper.run_folder import RunFolder
from tests.cluster.test_survival import LONG
from tests.ray_here import ray_here
from tests.sweeper.small import fresh_store


@pytest.fixture
def _one_gpu(ray_home: Path) -> Iterator[None]:
    with ray_here(ray_home, cpus=8, gpus=1):
        yield


def run(out: Path, gpu: float) -> str:
    resources = ("--set", f"resources.gpu={gpu}", "--set", "device=cpu")
    arguments = ["run", "quick.yaml", *LONG, *resources, "--trials", "8", "--out", str(out)]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == (0 if gpu <= 1 else 2), result.output
    return result.output


@pytest.mark.usefixtures("_one_gpu")
def test_four_trials_share_a_gpu_by_quarters_and_never_five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "tracking.db"))
    run(tmp_path / "quarters", 0.25)
    moments: list[tuple[float, int]] = []
    for record in RunFolder.open(tmp_path / "quarters").read_records().values():
        reports = [epoch["reported_at"] for run in record.epochs.values() for epoch in run.values()]
        moments += [(min(reports), 1), (max(reports), -1)]
    running, most = 0, 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    assert most == 4
    assert "A trial asks for 1 CPUs and 2 GPUs, which no host has" in run(tmp_path / "two", 2)
