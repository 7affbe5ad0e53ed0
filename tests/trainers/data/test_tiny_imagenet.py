from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainers.data import DataConfig, load_data
from trainers.errors import ConfigError

CLASSES = ("n01443537", "n01629819", "n02123045")


def save(path: Path, grey: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((64, 64, 3), grey, dtype=np.uint8)
    pixels[:8, :8] = 0  # no image of one colour
    Image.fromarray(pixels).convert(mode).save(path, quality=95)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Tiny ImageNet with three classes, an image of which is grey, and its test images without labels."""
    folder = tmp_path / "tiny-imagenet-200"
    for number, name in enumerate(CLASSES):
        for image in range(3):
            mode = "L" if number == image == 0 else "RGB"
            save(folder / f"train/{name}/images/{name}_{image}.JPEG", 40 * (number + 1) + image, mode)
        (folder / f"train/{name}/{name}_boxes.txt").write_text("")
    lines = ""
    for image in range(4):
        save(folder / f"val/images/val_{image}.JPEG", 200 + image)
        save(folder / f"test/images/test_{image}.JPEG", 0)
        lines += f"val_{image}.JPEG\t{CLASSES[-1 - image % 3]}\t0\t32\t44\t62\n"
    (folder / "val/val_annotations.txt").write_text(lines)
    return tmp_path


def config(root: Path, **changes: Any) -> DataConfig:
    return DataConfig(**{"source": "tiny_imagenet", "root": str(root)} | changes)


def test_training_images_and_the_validation_images_to_measure_on(root: Path) -> None:
    splits = load_data(config(root))
    assert splits.train.class_names == CLASSES
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert splits.test.labels.tolist() == [2, 1, 0, 2]
    grey = splits.train.images[:, :, 40, 40].float()
    expected = [[[40, 41, 42, 80, 81, 82, 120, 121, 122][image]] * 3 for image in range(9)]
    assert np.abs(grey.numpy() - np.array(expected)).max() <= 2, "JPEG"
    assert np.abs(splits.test.images[:, 0, 40, 40].float().numpy() - (200 + np.arange(4))).max() <= 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("val_0.JPEG\tn99999999\t0\t0\t1\t1", "a class of train in each line, but has 'val_0.JPEG.*n99999999"),
        ("../../x.JPEG\tn01443537", "must name a file"),
        ("val_9.JPEG\tn01443537", "must name a file of images .* 'val_9.JPEG"),
        ("val_0.JPEG", "a class of train"),
    ],
)
def test_labels_that_cannot_be_right(root: Path, line: str, said: str) -> None:
    (root / "tiny-imagenet-200/val/val_annotations.txt").write_text(line)
    with pytest.raises(ConfigError, match=said):
        load_data(config(root))


def test_what_is_missing_is_named(root: Path) -> None:
    (root / "tiny-imagenet-200/val/val_annotations.txt").unlink()
    with pytest.raises(ConfigError, match=r"There is no .*val_annotations\.txt; .*data\.root .*data\.source: folder:"):
        load_data(config(root))


def test_a_folder_that_cannot_be_looked_into_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        load_data(config(tmp_path / ("x" * 300)))


def test_a_test_image_that_is_a_link_out_of_the_folder_is_refused(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = tmp_path_factory.mktemp("outside") / "own.JPEG"
    image = root / "tiny-imagenet-200/val/images/val_0.JPEG"
    image.rename(own)
    image.symlink_to(own)
    with pytest.raises(ConfigError, match="a link that leads out of"):
        load_data(config(root))


def test_it_cannot_be_downloaded(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.download fetches cifar10 and gtsrb; unpack tiny-imagenet-200\.zip"):
        load_data(config(root, download=True))
