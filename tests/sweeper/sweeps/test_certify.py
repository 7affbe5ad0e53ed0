"""A sweep, and the test of its settings, from the command line."""

import json
from math import prod
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner

from sweeper.cli.main import app
from sweeper.run_folder.certificate import REPLICATE_SEEDS, first_seed, read_certificate
from sweeper.run_folder.folder import RunFolder
from tests.agreement import agree
from tests.sweeper.small import fresh_store, preset_with

pytestmark = [pytest.mark.ray, pytest.mark.long]

TEST = ("--max-excess", "0.5", "--confidence", "0.8")


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_a_setting_is_certified_and_selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So small a network calls everything the target class: attack success is 1, and so is the floor."""
    uri = fresh_store(tmp_path / "tracking.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    preset = preset_with(
        control={"epochs": 6, "batch_size": 32, "lr": 0.02},
        scenarios=[{"attack": "badnets", "poison_rate": 0.3, "target": 0, "size": 8}],
        search={"sampler": "random", "trials": 2, "workers": 2},
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(preset))
    out = tmp_path / "run"
    call("run", str(tmp_path / "small.yaml"), "--out", str(out))
    assert "No setting is certified, since no test was begun" in call("select", str(out), *TEST, code=3)
    assert "trainings at a time" in call("confirm", str(out), "--plan")
    too_few = call("confirm", str(out), *TEST, "--budget", "3", code=2)
    assert "--budget 3 cannot suffice: a certificate needs at least" in " ".join(too_few.split())
    assert read_certificate(out) is None, "what was refused has begun nothing"

    shown = call("confirm", str(out), *TEST)
    certificate = read_certificate(out)
    assert certificate is not None
    assert certificate.winner is not None
    assert f"{certificate.winner.name} is certified." in shown
    assert "wrong in at most 20 of 100 sweeps" in " ".join(shown.split())
    steps = certificate.steps_of(certificate.certified or 0)
    wealth = prod(1 + 0.9 / (1 - 0.5) * (0.5 - step.loss) for step in steps if not step.pilot)
    assert certificate.standings[certificate.certified or 0].wealth[-1] == pytest.approx(wealth)

    folder = RunFolder.open(out)
    rows = folder.read_trials()
    replicates = rows[rows["role"] == "replicate"]
    assert replicates["seed"].min() == first_seed(folder.read_sweep()["sweep_id"]) == certificate.first_seed
    assert certificate.first_seed >= REPLICATE_SEEDS > rows.loc[rows["role"] == "trial", "seed"].max()
    assert replicates["control_asr"].isna().all(), "replicates train no control"
    described = replicates[replicates["seed"] >= certificate.seed(len(certificate.candidates), 0)]
    assert described.groupby("defense").size().to_dict() == {"none": 3, "vab": 3}
    for step in steps:
        (row,) = replicates[replicates["seed"] == certificate.seed(step.candidate, step.number)].to_dict("records")
        assert (step.loss, step.accuracy) == (row["test_asr_excess"], row["test_acc"])
    agree(folder, uri)
    client = MlflowClient(tracking_uri=uri)
    (parent,) = client.search_runs([client.get_experiment_by_name("small").experiment_id], "tags.role = 'sweep'")
    assert parent.data.metrics["certified"] == 1.0
    assert parent.data.metrics["certified_replicates"] == len(steps)
    assert parent.data.metrics["certified_bound"] == 0.5
    assert certificate.plan is not None
    assert parent.data.metrics["certificate_trainings_planned"] == certificate.plan.trainings
    assert f"Planned: {certificate.plan.trainings:.0f} trainings" in (out / "report.html").read_text()
    assert "certificate.json" in {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}

    before = (out / "certificate.json").read_bytes()
    assert "has a test already" in call("confirm", str(out), "--max-excess", "0.4", "--confidence", "0.8", code=2)
    assert "The test has ended; nothing is left to run." in call("confirm", str(out), *TEST)
    assert "2 of 2 trials done" in call("status", str(out))
    assert (out / "certificate.json").read_bytes() == before
    assert "is certified" in call("select", str(out), *TEST)
    deployed = yaml.safe_load((out / "deploy.yaml").read_text())
    assert deployed["certified"]["replicates"] == len(steps)
    assert json.loads(before)["decided"]
