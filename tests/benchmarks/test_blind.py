"""The smallest blind training from the command line to the truth; figures that mean something are in the benchmark."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient
from safetensors.torch import load_file
from typer.testing import CliRunner

from benchmarks import blind
from search_spaces.loader import apply_overrides, read_preset
from sweeper.analysis.selection import select
from sweeper.cli.main import app
from sweeper.deploy.deployment import deployment
from sweeper.preset.spec import validate
from tests.sweeper.small import frame_of, fresh_store, row_with, sweep_with
from trainers.data import load_data
from trainers.data.config import DataConfig
from trainers.data.shapes import CLASS_NAMES
from trainers.defenses import DEFENSES

VAB = {
    "warmup_steps": 60, "victim_lr": 0.01, "threshold": 0.3, "mix_epochs": 4, "suppression_epochs": 2, "batch_size": 64,
    "lr": 0.05,
}  # fmt: skip


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    """What select writes."""
    params = {f"param.defense.{k}": v for k, v in DEFENSES["vab"].Params(**VAB).as_dict().items()}
    frame = frame_of(row_with(**params))
    sweep = sweep_with()
    sweep["data"] = sweep["data"] | {"class_names": list(CLASS_NAMES)}
    content = deployment(select(frame, 0.5), frame, sweep, {"max_asr": 0.5})
    path = tmp_path / "deploy.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def train_here(deploy: Path, data: Path, out: Path) -> None:
    """As the benchmark does, without two more processes."""
    arguments = [
        "train",
        str(deploy),
        "--data",
        f"folder:{data}",
        "--out",
        str(out),
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output


def test_from_a_poisoned_folder_to_a_model_and_the_truth(
    tmp_path: Path, deploy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = fresh_store(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(blind, "train", train_here)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    changes = ["data.train_size=400", "control={epochs: 3, batch_size: 64, lr: 0.05}"]
    found = blind.blind(deploy, tmp_path, validate(apply_overrides(read_preset("quick"), changes, "quick"), "quick"))
    assert (found["none"].tpr, found["none"].fpr) == (None, None)
    setting = found["setting"]
    assert setting.tpr is not None
    assert setting.fpr is not None
    assert setting.tpr > setting.fpr, "the defense knows something"

    out = tmp_path / "setting"
    assert {path.name for path in out.iterdir()} >= {
        "model.safetensors", "model.json", "suspicious.parquet", "suspicious.png", "report.md",
    }  # fmt: skip
    assert not (out / "states").exists()
    assert not (tmp_path / "none" / "suspicious.parquet").exists()
    assert "to review" in (tmp_path / "none" / "report.md").read_text()
    review = pd.read_parquet(out / "suspicious.parquet")
    assert list(review.columns) == ["index", "path", "label", "score", "verdict"]
    assert sorted(review["index"]) == list(range(400))
    assert all((tmp_path / "images" / path).exists() for path in review["path"])
    assert (review["path"].str.split("/").str[0] == review["label"]).all()
    marked = review[review["verdict"] == "suspicious"]
    assert marked["score"].is_monotonic_decreasing
    assert review["verdict"].tolist() == ["suspicious"] * len(marked) + ["credible"] * (400 - len(marked))
    assert f"{len(marked)} images" in (out / "report.md").read_text()

    images = load_data(DataConfig(source="shapes", train_size=20, test_size=20, seed=7)).test.images
    model = mlflow.pyfunc.load_model("models:/small@selected")
    shares = model.predict(images.numpy())
    assert shares.shape == (20, 10)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    run = MlflowClient(tracking_uri=uri).get_model_version_by_alias("small", "selected")
    assert int(run.version) == 2
    assert list((tmp_path / "here").iterdir()) == [], "nothing is left in the working folder"
    assert (tmp_path / "mlartifacts").is_dir()
    weights = load_file(out / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values() if tensor.is_floating_point())

    files = [str(tmp_path / "images" / path) for path in review["path"][:3]]
    result = CliRunner().invoke(app, ["predict", str(out), *files])
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [path for path, _, _ in lines] == files
    assert {name for _, name, _ in lines} <= set(CLASS_NAMES)
    assert all(0.1 <= float(share) <= 1 for _, _, share in lines)


def test_the_trigger_covers_the_same_share_of_larger_images() -> None:
    small, large = (blind.stamp(np.full((side, side, 3), 7, dtype=np.uint8)) for side in (16, 64))
    assert small[-3:, :3, 0].tolist() == [[0, 255, 0], [255, 0, 255], [0, 255, 0]]
    assert (large[-6:, :6, 0] == np.repeat(np.repeat(small[-3:, :3, 0], 2, axis=0), 2, axis=1)).all()
    assert (small != 7).sum() == 3 * 9
    assert (large != 7).sum() == 3 * 36
