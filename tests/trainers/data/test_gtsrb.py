import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import GTSRB, gtsrb

from trainers.data import DataConfig, load_data, load_untrusted
from trainers.data.findings import Findings
from trainers.errors import ConfigError

SIGNS = 3
HEAD = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"


def save(path: Path, red: int, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[..., 0] = red
    pixels[::2, ::2, 1] = 99  # no image of one colour
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """GTSRB with three signs: images of several sizes, and the files of boxes beside them."""
    for sign in range(SIGNS):
        folder = tmp_path / f"gtsrb/GTSRB/Training/{sign:05d}"
        for number in range(4):
            save(folder / f"0000{number}_00000.ppm", 10 * sign + number, (20 + number, 24))
        (folder / f"GT-{sign:05d}.csv").write_text(HEAD)
    lines = ""
    for number in range(5):
        save(tmp_path / f"gtsrb/GTSRB/Final_Test/Images/{number:05d}.ppm", 100 + number, (18, 18))
        lines += f"{number:05d}.ppm;18;18;1;1;16;16;{number % SIGNS}\n"
    (tmp_path / "gtsrb/GT-final_test.csv").write_text(HEAD + lines)
    return tmp_path


def config(root: Path, **changes: Any) -> DataConfig:
    return DataConfig(**{"source": "gtsrb", "root": str(root), "image_size": 16} | changes)


def test_the_same_images_and_labels_as_torchvisions(root: Path) -> None:
    splits = load_data(config(root))
    assert splits.train.class_names == ("0", "1", "2")
    for split, name in ((splits.train, "train"), (splits.test, "test")):
        theirs = list(GTSRB(root, name))
        assert split.labels.tolist() == [label for _, label in theirs]
        middle = [image.getpixel((10, 10))[0] for image, _ in theirs]
        assert split.images[:, 0, 8, 8].tolist() == middle
        assert split.images.shape == (len(theirs), 3, 16, 16)
    assert not splits.findings.left_out, "the files of boxes belong to it"


def test_train_takes_the_training_images_alone(root: Path) -> None:
    findings = Findings()
    assert len(load_untrusted(config(root), findings)) == 12


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("00000.ppm;18;18;1;1;16;16;3\n", r"a class of GTSRB/Training in each row, but has .* ClassId '3'"),
        ("../x.ppm;18;18;1;1;16;16;0\n", r"must name a file .* Filename '\.\./x\.ppm'"),
        ("00000.ppm\n", "ClassId 'None'"),
        ("00000.ppm;18;18;1;1;16;16;" + "9" * 5000 + "\n", "ClassId '999"),
        ("00099.ppm;18;18;1;1;16;16;0\n", r"must name a file of GTSRB/Final_Test/Images .* Filename '00099\.ppm'"),
        ('"' + "x" * 200_000, r"GT-final_test\.csv is damaged: field larger than field limit"),
    ],
)
def test_labels_that_cannot_be_right(root: Path, row: str, said: str) -> None:
    (root / "gtsrb/GT-final_test.csv").write_text(HEAD + row)
    with pytest.raises(ConfigError, match=said):
        load_data(config(root))


@pytest.mark.parametrize("name", ["GT-final_test.csv", "GTSRB"])
@pytest.mark.parametrize("download", [False, True])
def test_what_is_missing_is_named(root: Path, name: str, download: bool) -> None:
    (root / "gtsrb" / name).rename(root / "elsewhere")
    with pytest.raises(ConfigError, match=rf"gtsrb is incomplete: there is no {name}.* remove the whole folder"):
        load_data(config(root, download=download))


def test_a_folder_that_is_not_there_or_cannot_be_looked_into_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no .*gtsrb; set data\.root .*data\.download: true"):
        load_data(config(tmp_path))
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        load_data(config(tmp_path / ("x" * 300)))


def test_classes_are_known_by_the_numbers_of_their_folders(root: Path) -> None:
    training = root / "gtsrb/GTSRB/Training"
    (training / "00001").rename(training / "00012")
    (training / "00002").rename(training / "0007")
    truth = root / "gtsrb/GT-final_test.csv"
    truth.write_text(truth.read_text().replace("16;1\n", "16;12\n").replace("16;2\n", "16;00007\n"))
    splits = load_data(config(root))
    assert splits.train.class_names == ("0", "7", "12")
    assert splits.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert splits.train.images[:, 0, 8, 8].tolist() == [0, 1, 2, 3, 20, 21, 22, 23, 10, 11, 12, 13]
    assert splits.test.labels.tolist() == [0, 2, 1, 0, 2]


@pytest.mark.parametrize(
    ("name", "said"), [("stop", "stop must be named by the number"), ("1", "of the same class; put the images")]
)
def test_folders_that_are_no_classes(root: Path, name: str, said: str) -> None:
    save(root / f"gtsrb/GTSRB/Training/{name}/0.ppm", 7, (8, 8))
    with pytest.raises(ConfigError, match=said):
        load_data(config(root))


@pytest.mark.parametrize("place", ["Training/00000/link.ppm", "Final_Test/Images/00000.ppm"])
def test_a_link_out_of_the_folder_is_refused(root: Path, place: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    own = tmp_path_factory.mktemp("outside") / "own.ppm"
    save(own, 7, (8, 8))
    (root / "gtsrb/GTSRB" / place).unlink(missing_ok=True)
    (root / "gtsrb/GTSRB" / place).symlink_to(own)
    with pytest.raises(ConfigError, match="a link that leads out of"):
        load_data(config(root))


def test_only_a_download_that_was_asked_for_reaches_the_network(root: Path, tmp_path: Path, asked: list[str]) -> None:
    load_data(config(root, download=True))  # everything is there
    assert not asked
    with pytest.raises(ConfigError, match=r"Cannot download GTSRB to .*no network"):
        load_data(config(tmp_path / "nowhere", download=True))
    assert asked
    assert list((tmp_path / "nowhere").iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("File not found or corrupted."), None])
def test_a_download_is_there_whole_or_not_at_all(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    def fetch(_: str, download_root: str, **__: Any) -> None:
        place = Path(download_root)
        if place.exists():  # with the training images, which come first
            if error is not None:
                raise error
            shutil.copytree(root / "gtsrb", place, dirs_exist_ok=True)
        else:
            shutil.copytree(root / "gtsrb/GTSRB/Training", place / "GTSRB/Training")

    monkeypatch.setattr(gtsrb, "download_and_extract_archive", fetch)
    new = tmp_path / "new"
    if error is None:
        assert len(load_data(config(new, download=True)).train) == 12
        assert [path.name for path in new.iterdir()] == ["gtsrb"]
        return
    with pytest.raises((ConfigError, KeyboardInterrupt)):
        load_data(config(new, download=True))
    assert list(new.iterdir()) == []
