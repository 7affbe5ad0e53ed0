import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.data.batches import Normalizer
from trainers.data.pixels import Rendering
from trainers.errors import ConfigError
from trainers.models import MODELS, ModelConfig, build_model
from trainers.storage.saved_model import DESCRIPTION, WEIGHTS, SavedModel, load_model


def model(name: str = "tiny", channels: int = 3, classes: int = 4, **options: Any) -> SavedModel:
    config = ModelConfig(name, **options)
    network = build_model(config, (channels, 32, 32), classes, seed=1)
    normalise = Normalizer(torch.full((channels,), 0.4), torch.full((channels,), 0.2))
    return SavedModel(network, config, normalise, (channels, 16, 16), tuple("abcd")[:classes])


def some(channels: int = 3, count: int = 7) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, 16, 16), dtype=torch.uint8, generator=torch.manual_seed(0))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_it_predicts_the_same_after_the_way_through_files(tmp_path: Path, name: str, channels: int) -> None:
    options: dict[str, Any] = {"depth": 10, "width": 1} if name == "wide_resnet" else {"width": 4}
    before = model(name, channels, **options)
    shares = before.probabilities(some(channels))
    before.save(tmp_path)
    for path in (tmp_path, tmp_path / WEIGHTS):
        after = load_model(path)
        assert torch.equal(after.probabilities(some(channels), batch_size=7), shares)
        assert (after.class_names, after.image_shape, after.config) == (
            before.class_names, before.image_shape, before.config,
        )  # fmt: skip


def test_no_path_of_weights_is_written_and_those_of_older_files_are_read(tmp_path: Path) -> None:
    before = model(width=4)
    replace(before, config=replace(before.config, weights="/home/one/own.safetensors", weights_digest="0" * 16)).save(
        tmp_path
    )
    text = (tmp_path / DESCRIPTION).read_text(encoding="utf-8")
    assert "own.safetensors" not in text
    assert torch.equal(load_model(tmp_path).probabilities(some()), before.probabilities(some()))
    older = json.loads(text)["architecture"] | {"weights": "/home/one/own.safetensors", "weights_digest": "0" * 16}
    damage(tmp_path, architecture=older)
    assert torch.equal(load_model(tmp_path).probabilities(some()), before.probabilities(some()))


def test_how_images_were_read_is_remembered_and_a_model_that_does_not_say_takes_them_as_they_are(
    tmp_path: Path,
) -> None:
    rendering = Rendering(image_size=8, background="#102030", max_value=4095.0)
    replace(model(), rendering=rendering).save(tmp_path)
    assert load_model(tmp_path).rendering == rendering
    damage(tmp_path, image_size=..., background=..., max_value=...)
    assert load_model(tmp_path).rendering == Rendering()
    for key, value in (("background", "no-colour"), ("background", 7), ("max_value", -1), ("max_value", "x")):
        damage(tmp_path, background="white", max_value=None)
        damage(tmp_path, **{key: value})
        with pytest.raises(ConfigError, match=f"{DESCRIPTION}.*{key} must be"):
            load_model(tmp_path)


def test_probabilities_are_those_of_the_normalised_images() -> None:
    saved = model()
    images = some()
    saved.network.eval()
    expected = saved.network((images.float() / 255 - 0.4) / 0.2).logits.softmax(1)
    torch.testing.assert_close(saved.probabilities(images), expected)
    torch.testing.assert_close(saved.probabilities(images).sum(1), torch.ones(7))
    assert saved.probabilities(some(count=0)).shape == (0, 4)


@pytest.mark.parametrize("images", [some()[:, :1], some().float(), torch.zeros(2, 3, 8, 16, dtype=torch.uint8)])
def test_other_images_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match=r"takes uint8 images of shape \(3, 16, 16\)"):
        model().probabilities(images)


def damage(folder: Path, **changes: Any) -> None:
    known = json.loads((folder / DESCRIPTION).read_text()) | changes
    (folder / DESCRIPTION).write_text(json.dumps({k: v for k, v in known.items() if v is not ...}))


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": {"name": "resnet18"}}, {"architecture": {"name": "huge"}}, {"class_names": ["a"]},
        {"class_names": ...}, {"image_shape": [3, 16]}, {"image_shape": [1, 16, 16]}, {"mean": "much"},
    ],
)  # fmt: skip
def test_files_that_do_not_fit_together_are_one_sentence(tmp_path: Path, changes: dict[str, Any]) -> None:
    model().save(tmp_path)
    damage(tmp_path, **changes)
    with pytest.raises(ConfigError, match="do not fit together") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_another_version_is_one_sentence(tmp_path: Path) -> None:
    model().save(tmp_path)
    damage(tmp_path, version=2)
    with pytest.raises(ConfigError, match="of another version; this program reads version 1"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_missing_or_damaged_files_are_one_sentence(tmp_path: Path, name: str, content: bytes | None) -> None:
    model().save(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=r"holds no model|cannot be read") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)
