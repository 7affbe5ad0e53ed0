"""``train``, ``predict`` and ``ui``."""

import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from mlflow import MlflowClient

from sweeper.deploy import train_and_track
from sweeper.deploy.model_run import Registered
from tests.sweeper.cli.calls import call, image_folder, picture, sentence
from tests.sweeper.small import fresh_store
from trainers.data.batches import Normalizer
from trainers.data.pixels import Rendering
from trainers.data.shapes import CLASS_NAMES, make_shapes
from trainers.models import ModelConfig, build_model
from trainers.seeding import NUMERICS
from trainers.storage.network import THIS_MACHINE
from trainers.storage.saved_model import SavedModel

SHAPE = (3, 32, 32)


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


def test_train_takes_the_columns_of_the_sweep_or_those_that_are_given(deploy: Path, tmp_path: Path) -> None:
    """What does not fit says which classes were read."""
    image = picture(tmp_path / "one.png").read_bytes()
    table = {"left": [image] * 2, "right": [image] * 2, "fine_label": ["x", "y"], "coarse_label": ["v", "w"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")

    def refused(*options: str) -> str:
        arguments = ("--data", f"parquet:{tmp_path / 'a.parquet'}", "--out", str(tmp_path / "model"), *options)
        return sentence(call("train", str(deploy), *arguments))

    assert "several label columns: fine_label, coarse_label; data.label_column (of train: --label-column)" in refused()
    assert "several columns of images: left, right" in refused("--label-column", "fine_label")
    content = yaml.safe_load(deploy.read_text(encoding="utf-8"))
    content["images"] |= {"image_column": "right", "label_column": "coarse_label"}
    deploy.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert "unknown: v, w" in refused()
    assert "unknown: x, y" in refused("--label-column", "fine_label")
    assert "has no column middle" in refused("--image-column", "middle")


def test_train_does_not_write_over_a_model(deploy: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(deploy.read_text(encoding="utf-8"))
    content["images"] = {"image_shape": [3, 8, 8], "class_names": ["class0", "class1"]}
    deploy.write_text(yaml.safe_dump(content), encoding="utf-8")
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
    content = yaml.safe_load(deploy.read_text(encoding="utf-8"))
    content["images"] = {"image_shape": [3, 8, 8], "class_names": ["class0", "class1"]}
    deploy.write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    data = f"folder:{image_folder(tmp_path / 'images')}"
    text = sentence(call("train", str(deploy), "--data", data, "--out", str(tmp_path / "model")))
    assert "127.0.0.1:9 (MLFLOW_TRACKING_URI) cannot be used" in text
    assert "secret" not in text


def test_train_wants_at_least_one_replicate(tmp_path: Path) -> None:
    result = call("train", "gone.yaml", "--data", "shapes", "--out", str(tmp_path / "model"), "--replicates", "0")
    assert result.exit_code == 2
    assert "--replicates" in result.stderr
    assert not (tmp_path / "model").exists()


def test_replicates_from_the_command_to_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = fresh_store(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(train_and_track, "load_untrusted", lambda *_: make_shapes(60, 4, 0).train)
    content = {
        "defense": "vab",
        "params": {"warmup_steps": 3, "warmup_rounds": 1, "mix_epochs": 1, "suppression_epochs": 1, "batch_size": 16},
        "model": {"name": "tiny", "width": 4},
        "augment": {"crop": 0, "flip": False},
        "images": {"image_shape": [3, 16, 16], "class_names": list(CLASS_NAMES)},
        "source": {"sweep": "small", "numerics": NUMERICS},
    }
    (tmp_path / "deploy.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    arguments = ("train", str(tmp_path / "deploy.yaml"), "--data", "shapes", "--device", "cpu", "--threads", "1")
    result = call(*arguments, "--out", str(tmp_path / "three"), "--replicates", "3", "--seed", "1")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("Model ")] == [f"Model {n} of 3 (seed {n})" for n in (1, 2, 3)]
    assert any(line.startswith("3 models agree in the mean of pairs: same class for ") for line in lines)
    models = pq.read_table(tmp_path / "three" / "replicates.parquet").to_pandas()
    run = MlflowClient(tracking_uri=uri).get_run(
        MlflowClient(tracking_uri=uri).get_model_version("small", "1").run_id or ""
    )
    first = models["prediction_1"]
    shares = [float((first == models[f"prediction_{n}"]).mean()) for n in (2, 3)]
    shares.append(float((models["prediction_2"] == models["prediction_3"]).mean()))
    assert run.data.metrics["agreement_mean"] == pytest.approx(sum(shares) / 3)
    assert run.data.metrics["agreement_min"] == pytest.approx(min(shares))
    assert run.data.metrics["marked_by_all"] == (models["marked_by"] == 1).sum()
    assert run.data.metrics["models"] == 3
    assert {"kappa_mean", "kappa_min", "jaccard_mean", "jaccard_min", "marked_by_any"} <= set(run.data.metrics)
    told = run.data.params
    assert (told["replicates"], told["replicates.first_seed"]) == ("3", "1")
    assert any(line.startswith(f"The model handed out is that of seed {told['seed']}, ") for line in lines)
    names = {file.path for file in MlflowClient(tracking_uri=uri).list_artifacts(run.info.run_id)}
    assert {"report.md", "replicates.parquet", "suspicious.parquet"} <= names


def test_one_replicate_is_a_training_without_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    monkeypatch.setattr(train_and_track, "track_model", lambda *_: Registered("small", "1", selected=True))
    monkeypatch.setattr(train_and_track, "load_untrusted", lambda *_: make_shapes(60, 4, 0).train)
    content = {
        "defense": "none",
        "params": {"epochs": 1, "batch_size": 16},
        "model": {"name": "tiny", "width": 4},
        "augment": {},
        "images": {"image_shape": [3, 16, 16], "class_names": list(CLASS_NAMES)},
    }
    (tmp_path / "deploy.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    found = []
    for name, options in (("without", ()), ("one", ("--replicates", "1"))):
        result = call(
            "train", str(tmp_path / "deploy.yaml"), "--data", "shapes", "--out", str(tmp_path / name),
            "--device", "cpu", "--threads", "1", *options,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert "Model 1 of 1" not in result.stdout
        found.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert set(found[0]) == set(found[1]) == {".lock", "model.json", "model.safetensors", "report.md"}
    assert all(found[0][name] == found[1][name] for name in ("model.json", "model.safetensors"))


def test_predict_wants_a_model_and_images_that_fit_it(tmp_path: Path) -> None:
    image = picture(tmp_path / "one.png")
    assert "holds no model" in sentence(call("predict", str(tmp_path), str(image)))
    config = ModelConfig("tiny", width=4)
    normalise = Normalizer(torch.zeros(3), torch.ones(3))
    SavedModel(build_model(config, SHAPE, 2, 0), config, normalise, (3, 16, 16), ("cat", "dog")).save(
        tmp_path / "model"
    )
    text = sentence(call("predict", str(tmp_path / "model"), str(image)))
    assert "takes images of 16 x 16 with 3 channels" in text
    assert "8 x 8 with 3 channels; --resize resizes it" in text
    assert "gone.png" in sentence(call("predict", str(tmp_path / "model"), "gone.png"))
    result = call("predict", str(tmp_path / "model"), str(image), "--resize")
    assert result.exit_code == 0, result.output
    path, name, share = result.stdout.strip().split("\t")
    assert (path, name in ("cat", "dog"), 0.5 <= float(share) <= 1) == (str(image), True, True)
    resized = SavedModel(
        build_model(config, SHAPE, 2, 0), config, normalise, (3, 16, 16), ("cat", "dog"), Rendering(16)
    )
    resized.save(tmp_path / "resized")
    assert call("predict", str(tmp_path / "resized"), str(image)).stdout == result.stdout, "as its training images were"


def test_predict_goes_on_after_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    config = ModelConfig("tiny", width=4)
    normalise = Normalizer(torch.zeros(3), torch.ones(3))
    SavedModel(build_model(config, SHAPE, 2, 0), config, normalise, (3, 8, 8), ("cat", "dog")).save(tmp_path / "model")
    good = [str(picture(tmp_path / f"{name}.png")) for name in ("a", "b")]
    (tmp_path / "broken.png").write_bytes(b"x")
    result = call("predict", str(tmp_path / "model"), good[0], str(tmp_path / "broken.png"), "gone.png", good[1])
    assert result.exit_code == 2
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == good
    assert result.stderr.splitlines() == [
        f"Cannot read the image {tmp_path}/broken.png: it is in no known image format.",
        "Cannot read the image gone.png: No such file or directory.",
    ]


def test_predict_takes_folders_and_says_what_it_left_out_of_them(tmp_path: Path) -> None:
    config = ModelConfig("tiny", width=4)
    normalise = Normalizer(torch.zeros(3), torch.ones(3))
    SavedModel(build_model(config, SHAPE, 2, 0), config, normalise, (3, 8, 8), ("cat", "dog")).save(tmp_path / "model")
    (tmp_path / "photos" / "more").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    inside = [picture(tmp_path / "photos" / name) for name in ("b.png", "more/a.png")]
    alone = picture(tmp_path / "alone.png")
    (tmp_path / "photos" / "notes.txt").write_text("x")
    result = call("predict", str(tmp_path / "model"), str(tmp_path / "photos"), str(alone))
    assert result.exit_code == 0
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [str(p) for p in (*inside, alone)]
    assert result.stderr.splitlines() == ["Left out, the name does not end as that of an image: notes.txt."]
    assert sentence(call("predict", str(tmp_path / "model"), str(tmp_path / "empty"))).endswith(
        "empty holds no images."
    )


@pytest.mark.parametrize("option", ["--port", "--report-port"])
def test_ui_needs_no_report_but_free_ports(run_dir: Path, tmp_path: Path, option: str) -> None:
    fresh_store(tmp_path / "tracking.db")
    with socket.socket() as taken:
        taken.bind((THIS_MACHINE, 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"Port {port} cannot be used: " in sentence(call("ui", str(run_dir), option, port))
