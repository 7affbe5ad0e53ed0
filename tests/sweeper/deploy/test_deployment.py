from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from sweeper.deploy.deployment import Deployment, read_deployment
from trainers.data import DataConfig, Findings, ImageSet
from trainers.errors import ConfigError

GOOD: dict[str, Any] = {
    "defense": "vab",
    "params": {"threshold": 0.2, "mixing": "none"},
    "model": {"name": "tiny"},
    "augment": {"crop": 0, "flip": False},
    "images": {"image_shape": [3, 16, 16], "class_names": ["cat", "dog"]},
    "evidence": [{"val_acc": 0.9}],
    "source": {"sweep": "quick"},
}


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_what_select_writes_is_read(tmp_path: Path) -> None:
    found = read_deployment(written(tmp_path / "deploy.yaml", GOOD))
    assert (found.setting.defense, found.setting.params) == ("vab", GOOD["params"])
    assert (found.setting.model.name, found.setting.augmentation.flip) == ("tiny", False)
    assert (found.amp, found.pass_images) == (None, None), "as a sweep has it that does not say"
    assert read_deployment(written(tmp_path / "given.yaml", {**GOOD, "pass_images": 64})).pass_images == 64


@pytest.mark.parametrize(
    ("given", "read"), [(True, "on"), (False, "off"), ("on", "on"), ("off", "off"), ("auto", "auto"), (None, None)]
)
def test_the_numeric_format_also_as_earlier_versions_wrote_it(tmp_path: Path, given: Any, read: str | None) -> None:
    content = {**GOOD, "amp": given}
    before = read_deployment(written(tmp_path / "before.yaml", content)).amp
    assert before == (None if given is True else read), "true was for CUDA only"
    assert read_deployment(written(tmp_path / "now.yaml", {**content, "pass_images": None})).amp == read


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"defense": "magic"}, ["defense must be one of none, vab", "magic"]),
        ({"defense": None}, ["defense"]),
        ({"params": {"threshold": 1.5}}, ["threshold must be a number at least 0 and at most 1", "1.5"]),
        ({"params": {"treshold": 0.5}}, ["treshold is no parameter here"]),
        ({"params": {"mix_epochs": 0, "suppression_epochs": 0}}, ["must not both be 0"]),
        ({"params": "many"}, ["params"]),
        ({"model": {"name": "huge"}}, ["model", "name must be one of tiny"]),
        ({"model": ...}, ["model: is missing"]),
        ({"augment": {"crop": -1}}, ["augment", "crop must be"]),
        ({"amp": "no"}, ["amp must be one of auto, on, off (or null)", "'no'"]),
        ({"pass_images": 7}, ["pass_images", "greater than or equal to 8"]),
        ({"images": {"image_shape": [3, 16], "class_names": ["a", "b"]}}, ["images.image_shape"]),
        ({"images": {"image_shape": [3, 16, 0], "class_names": ["a", "b"]}}, ["images.image_shape"]),
        ({"images": {"image_shape": [3, 16, 16], "class_names": ["a"]}}, ["images.class_names"]),
    ],
)
def test_nonsense_is_one_sentence(tmp_path: Path, changes: dict[str, Any], parts: list[str]) -> None:
    content = {key: value for key, value in (GOOD | changes).items() if value is not ...}
    path = written(tmp_path / "deploy.yaml", content)
    with pytest.raises(ConfigError) as caught:
        read_deployment(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert all(part in text for part in parts), text
    assert "\n" not in text


@pytest.mark.parametrize("content", ["", "- 1\n", "just words\n", "a: [1\n", "\x00"])
def test_what_is_no_deploy_file_is_one_sentence(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match=r"deploy\.yaml (cannot be read: |is no setting to deploy)") as caught:
        read_deployment(written(tmp_path / "deploy.yaml", content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml cannot be read"):
        read_deployment(tmp_path / "gone.yaml")


def images(channels: int = 3, height: int = 16, width: int = 16, names: tuple[str, ...] = ("cat", "dog")) -> ImageSet:
    pixels = torch.zeros(4, channels, height, width, dtype=torch.uint8)
    return ImageSet(pixels, torch.tensor([0, 1, 0, 1]), names)


def test_images_of_the_same_kind_fit_whatever_the_order_of_the_classes(tmp_path: Path) -> None:
    deployment = read_deployment(written(tmp_path / "deploy.yaml", GOOD))
    deployment.check_fits(images())
    deployment.check_fits(images(names=("dog", "cat")))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (images(height=32, width=32), "The images are 32 x 32, but the setting was found for 16 x 16; --image-size 16"),
        (images(channels=1), "The images have 1 channels, but the setting was found for 3"),
        (images(names=("cat", "cow")), "missing: dog; unknown: cow"),
        (images(names=("cat", "cow", "dog")), "The classes differ .*unknown: cow.*run a sweep"),
    ],
)
def test_images_of_another_kind_are_refused(tmp_path: Path, data: ImageSet, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        read_deployment(written(tmp_path / "deploy.yaml", GOOD)).check_fits(data)


BCU = {"defense": "bcu", "params": {"unlabelled": "clean", "unlabelled_count": 8}}


def test_images_without_labels_are_given_where_a_defense_needs_them(tmp_path: Path) -> None:
    deployment = read_deployment(written(tmp_path / "deploy.yaml", GOOD | BCU))
    assert deployment.unlabelled(folder_of(tmp_path / "aside", 8), DataConfig(image_size=16), Findings()).shape == (
        8,
        3,
        16,
        16,
    )
    small, few = folder_of(tmp_path / "small", 8), folder_of(tmp_path / "few", 6)
    sixteen = DataConfig(image_size=16)
    for arguments, text in (
        ((None, sixteen), "bcu needs images without labels besides the training images; give them as --unlabelled"),
        ((small, DataConfig()), r"have shape \(3, 8, 8\) .*, but the training images \(3, 16, 16\)"),
        ((few, sixteen), "unlabelled_count must be at most 6, as many as there are, but got 8"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=text):
            deployment.unlabelled(*arguments, Findings())
    plain = read_deployment(written(tmp_path / "deploy.yaml", GOOD))
    assert plain.unlabelled(None, DataConfig(), Findings()) is None
    with pytest.raises(ConfigError, match="for defenses that need images without labels, and vab does not"):
        plain.unlabelled("folder:x", DataConfig(), Findings())


def test_images_are_read_as_those_of_the_sweep(tmp_path: Path) -> None:
    """A setting of an earlier version does not say how."""
    plain = read_deployment(written(tmp_path / "deploy.yaml", GOOD)).data("folder:x", 16, "leave_out")
    assert plain == DataConfig(source="folder:x", image_size=16, unreadable="leave_out")
    content = GOOD | {"images": GOOD["images"] | {"image_size": 16, "background": "navy", "max_value": 4095}}
    known = read_deployment(written(tmp_path / "deploy.yaml", content))
    as_known = DataConfig(source="folder:x", image_size=16, background="navy", max_value=4095.0)
    assert known.data("folder:x", None, "refuse") == as_known
    assert known.data("folder:x", 32, "refuse") == replace(as_known, image_size=32)
    content = GOOD | {"images": GOOD["images"] | {"background": "no-colour"}}
    with pytest.raises(ConfigError, match="images: background must be the name of a colour"):
        read_deployment(written(tmp_path / "deploy.yaml", content))


def folder_of(path: Path, count: int) -> str:
    """Images of 8x8 in two classes."""
    for number in range(count):
        name = path / f"class{number % 2}" / f"{number}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 200)).save(name)
    return f"folder:{path}"


def test_parameters_that_do_not_fit_so_few_images(tmp_path: Path) -> None:
    abl = {"defense": "abl", "params": {"isolation_rate": 0.01}}
    deployment = read_deployment(written(tmp_path / "deploy.yaml", GOOD | abl))
    with pytest.raises(ConfigError, match=r"isolation_rate of 0\.01 isolates 0 of 4 samples"):
        deployment.check_fits(images())


def test_columns_are_those_of_the_sweep_unless_others_are_given() -> None:
    columns = {"image_column": "scan", "label_column": "fine_label"}
    known = Deployment.model_validate(GOOD | {"images": GOOD["images"] | columns})
    kept = known.data("parquet:x", None, "refuse")
    assert (kept.image_column, kept.label_column) == ("scan", "fine_label")
    given = known.data("parquet:x", None, "refuse", label_column="coarse_label")
    assert (given.image_column, given.label_column) == ("scan", "coarse_label")
    older = Deployment.model_validate(GOOD).data("parquet:x", None, "refuse")
    assert (older.image_column, older.label_column) == (None, None)
