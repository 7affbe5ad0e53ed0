"""``train``, ``predict`` and ``ui``."""

from pathlib import Path

import pytest
import torch
import yaml

from tests.sweeper.cli.calls import call, image_folder, picture, sentence
from trainers.data.batches import Normalizer
from trainers.models import ModelConfig, build_model
from trainers.storage.saved_model import SavedModel


def test_train_wants_a_setting_and_images_that_fit_it(deploy: Path, tmp_path: Path) -> None:
    data = f"folder:{image_folder(tmp_path / 'images')}"
    out = ("--out", str(tmp_path / "model"))
    assert "gone.yaml cannot be read" in sentence(call("train", "gone.yaml", "--data", data, *out))
    text = sentence(call("train", str(deploy), "--data", data, *out))
    assert "unknown: class0, class1); run a sweep on images like these" in text
    assert f"{deploy.parent} is a folder; give {deploy}, which" in sentence(
        call("train", str(deploy.parent), "--data", data, *out)
    )
    assert "data.source must be shapes" in sentence(call("train", str(deploy), "--data", "mnist", *out))
    assert "device must be one of" in sentence(call("train", str(deploy), "--data", data, *out, "--device", "tpu"))
    assert not (tmp_path / "model").exists()


def test_train_does_not_write_over_a_model(deploy: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(deploy.read_text())
    content["images"] = {"image_shape": [3, 8, 8], "class_names": ["class0", "class1"]}
    deploy.write_text(yaml.safe_dump(content))
    data = f"folder:{image_folder(tmp_path / 'images')}"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_text("x")
    text = sentence(call("train", str(deploy), "--data", data, "--out", str(tmp_path / "model")))
    assert "already holds a model" in text
    (tmp_path / "file").write_text("")
    assert "cannot be written" in sentence(call("train", str(deploy), "--data", data, "--out", str(tmp_path / "file")))


def test_train_finds_out_at_the_start_that_the_server_is_away(
    deploy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load(deploy.read_text())
    content["images"] = {"image_shape": [3, 8, 8], "class_names": ["class0", "class1"]}
    deploy.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    data = f"folder:{image_folder(tmp_path / 'images')}"
    text = sentence(call("train", str(deploy), "--data", data, "--out", str(tmp_path / "model")))
    assert "127.0.0.1:9 cannot be used" in text
    assert "secret" not in text


def test_predict_wants_a_model_and_images_that_fit_it(tmp_path: Path) -> None:
    image = picture(tmp_path / "one.png")
    assert "holds no model" in sentence(call("predict", str(tmp_path), str(image)))
    config = ModelConfig("tiny", width=4)
    normalise = Normalizer(torch.zeros(3), torch.ones(3))
    SavedModel(build_model(config, 3, 2, 0), config, normalise, (3, 16, 16), ("cat", "dog")).save(tmp_path / "model")
    text = sentence(call("predict", str(tmp_path / "model"), str(image)))
    assert "takes images of 16 x 16 with 3 channels" in text
    assert "8 x 8 with 3 channels; --resize resizes it" in text
    assert "gone.png" in sentence(call("predict", str(tmp_path / "model"), "gone.png"))
    result = call("predict", str(tmp_path / "model"), str(image), "--resize")
    assert result.exit_code == 0, result.output
    path, name, share = result.stdout.strip().split("\t")
    assert (path, name in ("cat", "dog"), 0.5 <= float(share) <= 1) == (str(image), True, True)


def test_ui_wants_a_report(run_dir: Path) -> None:
    assert "report.html does not exist; write it with sweeper report" in sentence(call("ui", str(run_dir)))
