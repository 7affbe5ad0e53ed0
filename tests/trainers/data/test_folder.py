import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from trainers.data.config import DataConfig
from trainers.data.findings import Findings
from trainers.data.folder import NO_IMAGE, load_folder, read_folder, read_unlabelled_folder
from trainers.errors import ConfigError


def paint(folder: Path, *shades: int, extension: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for shade in shades:
        Image.new("L", (4, 4), shade).save(folder / f"{shade}.{extension}")


def test_train_and_test_folders(tmp_path: Path) -> None:
    paint(tmp_path / "train/dog", 2, 3)
    paint(tmp_path / "train/cat", 1)
    paint(tmp_path / "train/owl", 5, extension="BMP")
    paint(tmp_path / "test/dog", 4)
    # None of these is an image of a class.
    paint(tmp_path / "train/.hidden", 9)
    paint(tmp_path / "train/cat/nested", 9)
    (tmp_path / "train/cat/.9.png").write_bytes(b"")
    (tmp_path / "train/cat/notes.txt").write_text("cats")
    (tmp_path / "readme.md").write_text("all")
    splits = load_folder(str(tmp_path), DataConfig(), Findings())
    assert splits.train.class_names == ("cat", "dog", "owl")
    assert splits.train.images[:, 0, 0, 0].tolist() == [1, 2, 3, 5]
    assert splits.train.labels.tolist() == [0, 1, 1, 2]
    assert (splits.test.images[:, 0, 0, 0].tolist(), splits.test.labels.tolist()) == ([4], [1])


@pytest.mark.parametrize("below", ["", "train"])
def test_class_folders_alone_are_split_by_the_seed(tmp_path: Path, below: str) -> None:
    paint(tmp_path / below / "cat", *range(10))
    paint(tmp_path / below / "dog", *range(100, 120))
    splits = load_folder(str(tmp_path), DataConfig(image_size=8, seed=1), Findings())
    assert splits.train.images.shape == (24, 1, 8, 8)
    assert splits.test.labels.bincount().tolist() == [2, 4]
    for part in (splits.train, splits.test):
        assert part.labels.equal((part.images[:, 0, 0, 0] >= 100).long())
    assert load_folder(str(tmp_path), DataConfig(image_size=8, seed=1), Findings()).fingerprint == splits.fingerprint
    assert load_folder(str(tmp_path), DataConfig(image_size=8, seed=2), Findings()).fingerprint != splits.fingerprint


def test_folders_beside_train_and_test_are_passed_over(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "test/cat", "test/dog", "extra/owl"):
        paint(tmp_path / name, 1)
    train, test = read_folder(str(tmp_path), DataConfig(), Findings())
    assert train.class_names == ("cat", "dog")
    assert test is not None
    assert (train.names, test.names) == (("train/cat/1.png", "train/dog/1.png"), ("test/cat/1.png", "test/dog/1.png"))


def test_the_order_is_that_of_the_names_whatever_the_disk_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / name, 1, 2, 3)
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(sorted(listed(self), reverse=True)))
    images, _ = read_folder(str(tmp_path), DataConfig(), Findings())
    assert images.class_names == ("cat", "dog")
    assert images.names == tuple(f"{name}/{shade}.png" for name in ("cat", "dog") for shade in (1, 2, 3))
    assert read_unlabelled_folder(str(tmp_path), DataConfig(), Findings())[:, 0, 0, 0].tolist() == [1, 2, 3, 1, 2, 3]


def test_images_alone_may_lie_anywhere(tmp_path: Path) -> None:
    paint(tmp_path, 1, 2)
    paint(tmp_path / "more/deep", 7)
    paint(tmp_path / "train", 3)  # without a test folder just another name
    paint(tmp_path / ".hidden", 9)
    (tmp_path / "notes.txt").write_text("none")
    images = read_unlabelled_folder(str(tmp_path), DataConfig(), Findings())
    assert images.shape == (4, 1, 4, 4)
    assert images[:, 0, 0, 0].tolist() == [1, 2, 7, 3]
    assert read_unlabelled_folder(str(tmp_path), DataConfig(image_size=8), Findings()).shape == (4, 1, 8, 8)


def test_images_alone_are_never_those_of_the_test_split(tmp_path: Path) -> None:
    paint(tmp_path / "train/cat", 1, 2)
    paint(tmp_path / "test/cat", 5)
    assert read_unlabelled_folder(str(tmp_path), DataConfig(), Findings())[:, 0, 0, 0].tolist() == [1, 2]


def test_no_image_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone is no folder; folder:PATH takes one that holds images"):
        read_unlabelled_folder(str(tmp_path / "gone"), DataConfig(), Findings())
    with pytest.raises(ConfigError, match="holds no image"):
        read_unlabelled_folder(str(tmp_path), DataConfig(), Findings())
    (tmp_path / "out").symlink_to(tmp_path.parent)
    with pytest.raises(ConfigError, match="out is a link that leads out"):
        read_unlabelled_folder(str(tmp_path), DataConfig(), Findings())


def test_a_folder_that_leads_in_a_circle_is_read_once(tmp_path: Path) -> None:
    paint(tmp_path / "cat", 1, 2)
    for name in ("x", "y"):
        (tmp_path / name).symlink_to(".")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    assert read_unlabelled_folder(str(tmp_path), DataConfig(), Findings())[:, 0, 0, 0].tolist() == [1, 2]


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    """Scraped images may have names without an ending."""
    paint(tmp_path / "cat", 1, 2)
    paint(tmp_path / "dog", 3)
    findings = Findings()
    read_folder(str(tmp_path), DataConfig(), findings)
    assert findings == Findings()
    (tmp_path / "dog" / "notes.txt").write_text("x")
    shutil.copy(tmp_path / "cat" / "1.png", tmp_path / "cat" / "image")
    for read in (read_folder, read_unlabelled_folder):
        findings = Findings()
        read(str(tmp_path), DataConfig(), findings)
        assert findings.lines() == [f"Left out, {NO_IMAGE}: cat/image, dog/notes.txt."]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        paint(tmp_path / name, 1, 2)
    assert load_folder(str(tmp_path), DataConfig(), Findings()).train.class_names == ("bus", "train")


def test_no_folder_and_no_class(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone is no folder; folder:PATH takes CLASS"):
        load_folder(str(tmp_path / "gone"), DataConfig(), Findings())
    with pytest.raises(ConfigError, match="holds no class folder"):
        load_folder(str(tmp_path), DataConfig(), Findings())


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "cat", 1, 2)
    paint(tmp_path / "dog")
    (tmp_path / "dog/dog.txt").write_text("no image")
    with pytest.raises(ConfigError, match=r"class folder .*dog holds no image"):
        load_folder(str(tmp_path), DataConfig(), Findings())


def test_a_class_to_test_on_that_is_not_trained_is_named(tmp_path: Path) -> None:
    for folder in ("train/cat", "train/dog", "test/cat", "test/owl"):
        paint(tmp_path / folder, 1)
    with pytest.raises(ConfigError, match=r"test/owl is a class that .*train does not have"):
        load_folder(str(tmp_path), DataConfig(), Findings())


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / name, 1, 2)
    image = tmp_path / "dog/2.png"
    image.write_bytes(image.read_bytes()[:45])  # within the pixels
    with pytest.raises(ConfigError, match=r"Cannot read the image .*dog/2\.png: "):
        load_folder(str(tmp_path), DataConfig(), Findings())


@pytest.mark.parametrize("link", ["cat/3.png", "owl"])
def test_links_that_leave_the_folder_are_refused(tmp_path: Path, link: str) -> None:
    paint(tmp_path / "elsewhere", 3)
    for name in ("cat", "dog"):
        paint(tmp_path / "data" / name, 1, 2)
    target = tmp_path / "elsewhere" / ("3.png" if link.endswith("png") else "")
    (tmp_path / "data" / link).symlink_to(target)
    with pytest.raises(ConfigError, match=f"{link} is a link that leads out of"):
        load_folder(str(tmp_path / "data"), DataConfig(), Findings())


def test_links_within_the_folder_and_to_it_are_followed(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / "data" / name, 1, 2)
    (tmp_path / "data/cat/3.png").symlink_to("../dog/2.png")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    splits = load_folder(str(tmp_path / "link"), DataConfig(), Findings())
    assert len(splits.train) + len(splits.test) == 5


def test_class_folders_that_are_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    for number in range(12):
        paint(tmp_path / str(number), 10 * number, 10 * number + 1)
    train, _ = read_folder(str(tmp_path), DataConfig(), Findings())
    assert train.class_names == tuple(map(str, range(12)))
    assert train.images[train.labels == 2][:, 0, 0, 0].tolist() == [20, 21]
