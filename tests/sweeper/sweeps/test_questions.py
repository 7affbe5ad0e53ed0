"""Sweeps that ask for more than one setting: which defense, which rate, which attacker."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image
from typer.testing import CliRunner

from sweeper.cli.main import app
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.tables import finished, read_table
from sweeper.running.driver import Outcome
from tests.agreement import agree
from tests.sweeper.small import colours, fresh_store, make_objectives, preset_with
from tests.sweeper.sweeps.conftest import VAB, Ended

pytestmark = pytest.mark.ray


@pytest.mark.long
def test_compared_defenses_have_leaders_that_are_confirmed_with_fresh_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colours with a patch: everything is learned in seconds, and the attack is strong. BCU begins as its control."""
    for split, images in (("train", colours(140)), ("test", colours(80))):
        for number, (image, label) in enumerate(zip(images.images, images.labels.tolist(), strict=True)):
            path = tmp_path / "data" / split / images.class_names[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    uri = fresh_store(tmp_path / "tracking.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    training = {"batch_size": 16, "schedule": "cosine", "lr": 0.05}
    preset = preset_with(
        data={"source": f"folder:{tmp_path / 'data'}", "held_out_size": 20},
        defense=[
            {"name": "none", "epochs": 16, **training},
            {"name": "bcu", "training_epochs": 15, "distillation_epochs": 2, **training},
        ],
        control={"epochs": 15, **training},
        scenarios=[{"attack": "badnets", "poison_rate": 0.4, "size": 4}],
        search={"sampler": "tpe", "trials": 2, "workers": 1, "defenses": "turns"},
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(preset))
    out = tmp_path / "run"

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result.output

    shown = call("run", str(tmp_path / "small.yaml"), "--out", str(out))
    assert "Joint frontier by defense" in shown
    call("confirm", str(out), "--top", "1", "--seeds", "2")

    frame = RunFolder.open(out).read_trials()
    confirmed = frame[frame["role"] == "confirmation"]
    assert confirmed["trial_id"].tolist() == [f"k000{number}" for number in range(4)]
    assert confirmed.groupby("defense")["seed"].apply(list).to_dict() == {"bcu": [1, 2], "none": [1, 2]}
    controls = finished(frame, "control").set_index("seed")["val_asr"]
    assert confirmed["control_asr"].tolist() == [controls[seed] for seed in (1, 2)] * 2
    assert (controls >= 0.8).all()
    assert agree(RunFolder(out), uri) == dict.fromkeys(frame["trial_id"], "FINISHED")
    assert set(pq.read_table(out / "frontier.parquet")["seeds"].to_pylist()) == {1}, "the search's own figures stay"

    told = call("select", str(out), "--max-asr", "1", "--confidence", "0.9", code=3)
    assert "What confirm --top trained is described, not counted." in told
    assert "With 2 fresh seeds, which --confidence does not count: " in call("select", str(out), "--max-asr", "1")
    deploy = yaml.safe_load((out / "deploy.yaml").read_text())
    assert (deploy["seeds"], deploy["certified"]) == (1, None)
    assert {part["role"] for part in deploy["evidence"]} == {"trial"}
    curves = read_table(out / "curves.parquet")
    of_bcu, of_control = (curves[(curves["trial_id"] == name)]["loss"].tolist() for name in ("t0001", "c0000"))
    assert of_bcu[:15] == of_control, "BCU begins as its control does"
    client = MlflowClient(tracking_uri=uri)
    (parent,) = client.search_runs([client.get_experiment_by_name("small").experiment_id], "tags.role = 'sweep'")
    artifacts = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert artifacts >= {"deploy.yaml", "report.html", "frontier.png", "frontier.parquet", "trials.parquet"}


def artifacts_of(uri: str) -> set[str]:
    """The files of the sweep's own run."""
    client = MlflowClient(tracking_uri=uri)
    (parent,) = client.search_runs([client.get_experiment_by_name("small").experiment_id], "tags.role = 'sweep'")
    return {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}


def test_a_map_over_poison_rates_of_attackers_met_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = fresh_store(tmp_path / "tracking.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    preset = preset_with(
        defense={"name": "none", "epochs": {"categorical": [1, 2]}, "batch_size": 64, "lr": 0.05},
        scenarios=[
            {"attack": "badnets", "poison_rate": {"categorical": [0.02, 0.05, 0.1]}},
            {"attack": "blend", "poison_rate": 0.1},
            {"attack": "sig", "poison_rate": 0.1},
        ],
        search={"sampler": "grid", "trials": 50, "workers": 1, "scenarios": "one", "min_poisoned": 10},
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(preset))
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["run", str(tmp_path / "small.yaml"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    folder = RunFolder.open(out)

    left_out = ["badnets at rate 0.02 (4 poisoned images)", "sig at rate 0.1 (2 poisoned images)"]
    sweep = folder.read_sweep()
    assert sweep["left_out"] == left_out
    assert [scenario["attack"] for scenario in sweep["preset"]["scenarios"]] == ["badnets", "blend"]
    assert f"Left out: {'; '.join(left_out)}." in result.output
    assert all(f"<li>{words}</li>" in folder.report.read_text() for words in left_out)

    frame = folder.read_trials()
    assert agree(folder, uri) == dict.fromkeys(frame["trial_id"], "FINISHED")
    assert len(frame) == 3 + 2 * 3, "each trial meets one attacker, and each attacker has one control"
    trials = finished(frame)
    assert trials.groupby(["scenario", "poison_rate"])["config_id"].nunique().to_dict() == {
        ("badnets", 0.05): 2, ("badnets", 0.1): 2, ("blend", 0.1): 2,
    }  # fmt: skip
    assert (trials["changed_share"] == trials["poison_rate"]).all()
    assert trials.groupby("scenario")[["psnr", "ssim"]].nunique().max(axis=None) <= 2, "one for each attacker"
    assert trials[["psnr", "ssim"]].notna().all(axis=None)

    names = ("badnets, poison_rate=0.05", "badnets, poison_rate=0.1", "blend")
    assert all(f"Frontier at {name}: no setting qualifies." in result.output for name in names), "weak attacks"
    assert "Breaking point: the smallest poison rate" in result.output
    assert set(pq.read_table(out / "frontier.parquet")["environment"].to_pylist()) == set(names)
    for picture in ("frontier.png", "breaking.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    assert not (out / "attackers.png").exists()
    assert {"frontier.png", "breaking.png"} <= artifacts_of(uri)


def test_an_attackers_sweep_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = fresh_store(tmp_path / "tracking.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    preset = preset_with(
        defense=VAB,
        scenarios=[{"attack": "blend", "poison_rate": {"float": [0.05, 0.2]}, "alpha": {"float": [0.1, 0.5]}}],
        objectives=make_objectives(("val_asr", "maximize"), ("poison_rate", "minimize")),
        constraints=[{"metric": "control_asr", "min": 0.0}],
        search={"sampler": "random", "trials": 3, "workers": 1},
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(preset))
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["run", str(tmp_path / "small.yaml"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    ended = Ended(RunFolder.open(out), Outcome(3, [], None), uri, result.output)
    ended.agree()

    trials = finished(ended.frame).set_index("trial_id")
    assert trials["config_id"].nunique() == 1, "the defense stays as it is"
    best = [trial for trial in ended.study if not any(
        other.values[0] >= trial.values[0] and other.values[1] < trial.values[1] for other in ended.study
    )]  # fmt: skip
    assert all(trial.values == pytest.approx([trials.loc[trial.user_attrs["trial_id"], name] for name in
                                              ("val_asr", "poison_rate")]) for trial in ended.study)  # fmt: skip
    table = result.output.split("Attackers, leading ones first")[1].split("\n\n")[0]
    leads = {row.split()[0] for row in table.splitlines() if " yes " in row}
    assert leads == {trial.user_attrs["trial_id"] for trial in best}
    assert "Pick a setting" not in result.output
    assert "<h2>Attackers</h2>" in ended.folder.report.read_text()
    assert (out / "attackers.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "breaking.png").exists(), "every attacker has another opacity"
    assert {"attackers.png", "report.html"} <= artifacts_of(uri)
    refused = CliRunner().invoke(app, ["confirm", str(out), "--max-asr", "0.1"])
    assert refused.exit_code == 2
    assert "attacker's sweep" in refused.stderr
