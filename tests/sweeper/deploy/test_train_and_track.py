"""From ``deploy.yaml`` to a model: what is checked before the training, and how it may end."""

import ast
import os
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image
from rich.console import Console

from sweeper.deploy import train_and_track as module
from sweeper.deploy.model_run import NEEDED, Registered, track_model
from sweeper.deploy.predict import classify
from sweeper.deploy.train_and_track import Tracked, TrainingBroken, train_and_track
from tests.sweeper.small import fresh_store
from trainers import models
from trainers.data.pixels import Rendering
from trainers.data.shapes import CLASS_NAMES
from trainers.errors import ConfigError, TrialError
from trainers.storage.saved_model import WEIGHTS, load_model

SETTING: dict[str, Any] = {
    "defense": "none",
    "params": {"epochs": 1, "batch_size": 64},
    "model": {"name": "tiny", "width": 4},
    "augment": {"crop": 0, "flip": False},
    "images": {"image_shape": [3, 16, 16], "class_names": list(CLASS_NAMES)},
    "source": {"sweep": "small", "config_id": "a"},
}


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A setting for generated images, and a store that answers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    path = tmp_path / "deploy.yaml"
    path.write_text(yaml.safe_dump(SETTING))
    return path


def trained(deploy: Path, console: Console | None = None, out: str = "model") -> Tracked:
    return train_and_track(
        deploy, "shapes", deploy.parent / out, console or Console(quiet=True),
        image_size=None, image_column=None, label_column=None, unlabelled=None, device="cpu", threads=1, seed=0,
    )  # fmt: skip


def test_a_logged_model_asks_for_all_that_networks_import() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(models.__file__).parent.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    packages = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"trainers"}
    packages -= {"huggingface_hub"}  # timm requires it
    assert "timm" in packages
    assert packages <= set(NEEDED)


def test_a_model_stays_when_the_store_fails_after_the_training(deploy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise ConfigError("The tracking store failed.")

    monkeypatch.setattr(module, "track_model", away)
    tracked = trained(deploy)
    assert (tracked.version, tracked.error) == (None, "The tracking store failed.")
    assert load_model(deploy.parent / "model").class_names == CLASS_NAMES
    with pytest.raises(ConfigError, match="already holds a model"):
        trained(deploy)


def test_the_store_is_told_what_was_trained_on(deploy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    def track(uri: str, deployment: Any, deployed: Any, data: dict[str, Any]) -> Registered:
        told.update(data)
        return Registered("small", "1", selected=True)

    monkeypatch.setattr(module, "track_model", track)
    said = StringIO()
    tracked = trained(deploy, Console(file=said, width=200))
    assert (tracked.version, tracked.error) == (Registered("small", "1", selected=True), None)
    assert (told["data.source"], told["images"], told["seed"]) == ("shapes", tracked.images, 0)
    assert "Training in float32 on CPUs.\n" in said.getvalue()
    assert f"{tracked.images} images, 10 classes. Results go to {deploy.parent / 'model'}." in said.getvalue()


def test_another_format_than_that_of_the_sweep_is_named(deploy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "train", lambda *_: pytest.skip("only what is said before it is of interest"))
    deploy.write_text(yaml.safe_dump(SETTING | {"computed_in": "bfloat16 autocast on CUDA"}), encoding="utf-8")
    said = StringIO()
    with pytest.raises(pytest.skip.Exception):
        trained(deploy, Console(file=said, width=200))
    words = "Training in float32 on CPUs; the setting was found in bfloat16 autocast on CUDA."
    assert words in said.getvalue()


def test_images_are_read_as_those_of_the_sweep_and_the_model_remembers_how(
    deploy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shapes drawn in alpha alone; one broken image is left out, and the table of what is suspicious fits the rest."""
    monkeypatch.setattr(module, "track_model", lambda *_: ("small", "1"))
    for label, name in enumerate(("a", "b")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(8):
            drawn = np.zeros((16, 16, 4), dtype=np.uint8)
            drawn[label * 8 : label * 8 + number + 1, :, 3] = 255
            Image.fromarray(drawn).save(tmp_path / "images" / name / f"{number}.png")
    (tmp_path / "images/a/0.png").write_bytes(b"")
    content = SETTING | {
        "defense": "vab",
        "params": {"warmup_steps": 1, "warmup_rounds": 1, "mix_epochs": 1, "suppression_epochs": 0, "batch_size": 4},
        "images": {"image_shape": [3, 16, 16], "class_names": ["a", "b"], "background": "#ff0000"},
    }
    deploy.write_text(yaml.safe_dump(content), encoding="utf-8")
    arguments: dict[str, Any] = dict.fromkeys(("image_size", "image_column", "label_column", "unlabelled"))
    arguments |= {"device": "cpu", "threads": 1, "seed": 0}
    source, out, said = f"folder:{tmp_path}/images", tmp_path / "model", StringIO()
    with pytest.raises(
        ConfigError, match=r"a/0\.png: it is empty\. data\.unreadable: leave_out \(of train: --unreadable"
    ):
        train_and_track(deploy, source, out, Console(quiet=True), **arguments)
    train_and_track(deploy, source, out, Console(file=said, width=200), **arguments, unreadable="leave_out")
    assert "Left out, the image cannot be read: a/0.png." in said.getvalue()
    assert "15 of 15 images have transparent parts, behind which data.background (#ff0000) shows." in said.getvalue()
    assert "left out: the image cannot be read,a/0.png,it is empty" in (out / "data_findings.csv").read_text()
    review = pd.read_parquet(out / "suspicious.parquet").sort_values("index")
    assert review["path"].tolist() == [f"a/{n}.png" for n in range(1, 8)] + [f"b/{n}.png" for n in range(8)]
    assert review["label"].tolist() == ["a"] * 7 + ["b"] * 8
    model = load_model(out)
    assert model.rendering == Rendering(background="#ff0000")
    path = tmp_path / "images/b/3.png"
    flat = Image.new("RGB", (16, 16), "#ff0000")
    flat.paste(Image.open(path).convert("RGB"), mask=Image.open(path).getchannel("A"))
    flat.save(tmp_path / "flat.png")
    (_, *clear), (_, *opaque) = classify(model, [path, tmp_path / "flat.png"], False, pytest.fail)
    assert clear == opaque
    white = replace(model, rendering=Rendering())
    assert next(classify(white, [path], False, pytest.fail))[1:] != tuple(clear)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TrialError("The loss is nan."), "The training failed: The loss is nan."),
        (OSError(28, "No space left on device"), "model cannot be written any more: No space left on device. Run"),
    ],
)
def test_a_training_that_breaks_is_one_sentence(
    deploy: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr(module, "train", broken)
    with pytest.raises(TrainingBroken, match=text):
        trained(deploy)


def test_nothing_is_trained_where_the_folder_is_not_free(deploy: Path) -> None:
    (deploy.parent / "model").mkdir()
    (deploy.parent / "model" / WEIGHTS).touch()
    with pytest.raises(ConfigError, match="already holds a model; give --out an empty or new folder"):
        trained(deploy)


def test_a_model_that_may_not_know_a_class_does_not_get_the_alias(
    deploy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever loads the alias goes on with the version before it."""
    reviews = [pd.DataFrame({"label": ["a", "a", "b"], "verdict": ["suspicious", verdict, "credible"]})
               for verdict in ("credible", "suspicious")]  # fmt: skip

    def track(uri: str, deployment: Any, deployed: Any, data: dict[str, Any]) -> Registered:
        return track_model(uri, deployment, replace(deployed, review=reviews.pop(0)), data)

    monkeypatch.setattr(module, "track_model", track)
    found = [trained(deploy, out=name).version for name in ("first", "second")]
    assert found == [Registered("small", "1", selected=True), Registered("small", "2", selected=False)]
    store = MlflowClient(tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    assert store.get_model_version_by_alias("small", "selected").version == 1
