import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainers.data.config import DataConfig
from trainers.data.encoded import UNREADABLE
from trainers.data.findings import Findings
from trainers.data.folder import (
    BESIDE,
    BESIDE_SPLITS,
    EMPTY,
    UNLABELLED,
    load_folder,
    read_folder,
    read_unlabelled_folder,
)
from trainers.data.load import load_untrusted
from trainers.data.split_names import UNUSED
from trainers.data.tree import BROKEN_LINK, HIDDEN, LINK, NAMELESS, NO_IMAGE, OTHER_FORMAT, SPECIAL
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
    (tmp_path / "train/cat/.9.png").write_bytes(b"")
    (tmp_path / "train/cat/notes.txt").write_text("cats")
    (tmp_path / "readme.md").write_text("all")
    findings = Findings()
    splits = load_folder(str(tmp_path), DataConfig(), findings)
    assert splits.train.class_names == ("cat", "dog", "owl")
    assert splits.train.images[:, 0, 0, 0].tolist() == [1, 2, 3, 5]
    assert splits.train.labels.tolist() == [0, 1, 1, 2]
    assert (splits.test.images[:, 0, 0, 0].tolist(), splits.test.labels.tolist()) == ([4], [1])
    assert {(found.place, found.what) for found in findings.left_out} == {
        ("train/.hidden/ (1 file)", HIDDEN),
        ("train/cat/.9.png", HIDDEN),
        ("train/cat/notes.txt", NO_IMAGE),
        ("readme.md", BESIDE_SPLITS),
    }


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


def test_folders_beside_train_and_test_are_left_out(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "test/cat", "test/dog", "extra/owl"):
        paint(tmp_path / name, 1)
    findings = Findings()
    train, test = read_folder(str(tmp_path), DataConfig(), findings)
    assert train.class_names == ("cat", "dog")
    assert test is not None
    assert (train.names, test.names) == (("train/cat/1.png", "train/dog/1.png"), ("test/cat/1.png", "test/dog/1.png"))
    assert [(found.place, found.what) for found in findings.left_out] == [("extra/ (1 file)", BESIDE_SPLITS)]


scan = os.scandir


class _Reversed(list[os.DirEntry[str]]):
    """Entries of a folder, the last name first."""

    def __init__(self, entries: Iterable[os.DirEntry[str]]):
        super().__init__(sorted(entries, key=lambda entry: entry.name, reverse=True))

    def __enter__(self) -> "_Reversed":
        return self

    def __exit__(self, *_: object) -> None: ...


def test_the_order_is_that_of_the_names_whatever_the_disk_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / name, 1, 2, 3)
    monkeypatch.setattr(os, "scandir", lambda folder: _Reversed(scan(folder)))
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
    assert findings.left_out == []
    (tmp_path / "dog" / "notes.txt").write_text("x")
    shutil.copy(tmp_path / "cat" / "1.png", tmp_path / "cat" / "image")
    for read in (read_folder, read_unlabelled_folder):
        findings = Findings()
        read(str(tmp_path), DataConfig(), findings)
        assert findings.lines()[:2] == [f"Left out, {NAMELESS}: cat/image.", f"Left out, {NO_IMAGE}: dog/notes.txt."]


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


def left_out(path: Path) -> dict[str, str]:
    """What is left out of a folder, with the reason."""
    findings = Findings()
    read_folder(str(path), DataConfig(), findings)
    return {found.place: found.what for found in findings.left_out}


def test_folders_within_a_class_belong_to_it(tmp_path: Path) -> None:
    """Pictures of several sessions, say."""
    paint(tmp_path / "cat", 1, 2)
    paint(tmp_path / "cat/session2/morning", 3)
    paint(tmp_path / "cat/session2", 4)
    paint(tmp_path / "dog/images", 5, 6)
    findings = Findings()
    images, _ = read_folder(str(tmp_path), DataConfig(), findings)
    assert images.names is not None
    assert sorted(zip(images.names, images.labels.tolist(), strict=True)) == [
        ("cat/1.png", 0),
        ("cat/2.png", 0),
        ("cat/session2/4.png", 0),
        ("cat/session2/morning/3.png", 0),
        ("dog/images/5.png", 1),
        ("dog/images/6.png", 1),
    ]
    assert findings.left_out == []
    assert (
        "4 of 6 images lie in folders within class folders, e.g. cat/session2; they belong to these classes."
        in findings.warnings
    )


@pytest.mark.parametrize("names", [("Train", "TEST"), ("training", "testing"), ("train", "val"), ("train", "Valid")])
def test_splits_have_many_names(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / names[0] / name, 1)
        paint(tmp_path / names[1] / name, 2)
    splits = load_folder(str(tmp_path), DataConfig(), Findings())
    assert splits.train.names == tuple(f"{names[0]}/{name}/1.png" for name in ("cat", "dog"))
    assert splits.test.names == tuple(f"{names[1]}/{name}/2.png" for name in ("cat", "dog"))
    assert read_unlabelled_folder(str(tmp_path), DataConfig(), Findings()).unique().tolist() == [1]


def test_the_test_split_goes_before_the_validation_split_as_with_parquet(tmp_path: Path) -> None:
    for split, shade in (("train", 1), ("validation", 2), ("test", 3)):
        for name in ("cat", "dog"):
            paint(tmp_path / split / name, shade)
    splits = load_folder(str(tmp_path), DataConfig(), Findings())
    assert splits.test.images.unique().tolist() == [3]
    assert left_out(tmp_path) == {"validation/ (2 files)": UNUSED}


@pytest.mark.parametrize("other", ["val", None])
def test_a_test_split_without_classes_is_left_out(tmp_path: Path, other: str | None) -> None:
    """As where a competition keeps the labels for itself."""
    for name in ("cat", "dog"):
        paint(tmp_path / "train" / name, *range(10))
        if other is not None:
            paint(tmp_path / other / name, 20)
    paint(tmp_path / "test", 30, 31)
    findings = Findings()
    splits = load_folder(str(tmp_path), DataConfig(), findings)
    assert (len(splits.train), len(splits.test)) == ((16, 4) if other is None else (20, 2))
    told = "20% of the training images become the test split, since no test split has class folders."
    assert (told in findings.warnings) == (other is None)
    assert left_out(tmp_path) == {"test/ (2 files)": UNLABELLED}


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "val/cat", "valid/cat"):
        paint(tmp_path / name, 1)
    with pytest.raises(ConfigError, match=r"/val and .*/valid are both named as a val split is; rename one of them"):
        read_folder(str(tmp_path), DataConfig(), Findings())


@pytest.mark.parametrize(
    "names", [("train_images", "test_images"), ("seg_train", "seg_pred"), ("train", "extra"), ("test",)]
)
def test_what_looks_like_a_split_is_not_taken_for_a_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    for folder in names:
        for name in ("cat", "dog"):
            paint(tmp_path / folder / name, 1)
    with pytest.raises(ConfigError, match=r"looks like a split, as it holds folders and no image.*folder:"):
        read_folder(str(tmp_path), DataConfig(), Findings())


def test_a_class_of_trains_may_have_folders_as_others_do(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        paint(tmp_path / name, 1)
        paint(tmp_path / name / "more", 2)
    images, _ = read_folder(str(tmp_path), DataConfig(), Findings())
    assert images.class_names == ("bus", "train")
    assert len(images) == 4


def test_images_beside_class_folders_are_left_out(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b/train"):
        paint(folder, 7)
        for name in ("cat", "dog"):
            paint(folder / name, 1)
    assert left_out(tmp_path / "a") == {"7.png": BESIDE}
    assert left_out(tmp_path / "b") == {"train/7.png": BESIDE}


@pytest.mark.parametrize("below", ["", "train"])
def test_images_without_a_class_folder_are_counted(tmp_path: Path, below: str) -> None:
    paint(tmp_path / below, 1, 2, 3)
    with pytest.raises(ConfigError, match="holds 3 images, but no class folder; folder:PATH takes CLASS"):
        read_folder(str(tmp_path), DataConfig(), Findings())


def test_one_class_is_too_few(tmp_path: Path) -> None:
    paint(tmp_path / "flat/cat", 1, 2)
    with pytest.raises(ConfigError, match=r"flat holds one class folder, cat, but at least two are needed\.$"):
        read_folder(str(tmp_path / "flat"), DataConfig(), Findings())
    for name in ("cat", "dog"):
        paint(tmp_path / "deep/images" / name, 1)
    with pytest.raises(ConfigError, match=r"needed; if its folders are the classes, give folder:.*/deep/images\.$"):
        read_folder(str(tmp_path / "deep"), DataConfig(), Findings())


def test_a_class_in_other_capitals_is_hinted_at(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "test/Cat"):
        paint(tmp_path / name, 1)
    with pytest.raises(ConfigError, match=r"test/Cat is a class that .*train does not have \(it has cat\)"):
        read_folder(str(tmp_path), DataConfig(), Findings())


def test_what_systems_leave_behind_is_no_class_and_no_image(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / name, 1)
        for clutter in ("._1.png", "Thumbs.db", ".DS_Store", "desktop.ini"):
            (tmp_path / name / clutter).write_bytes(b"x")
    paint(tmp_path / "__MACOSX/cat", 9)
    paint(tmp_path / ".ipynb_checkpoints", 9)
    paint(tmp_path / "cat/@eaDir/1.png", 9)
    images, _ = read_folder(str(tmp_path), DataConfig(), Findings())
    assert images.names == ("cat/1.png", "dog/1.png")
    found = left_out(tmp_path)
    assert set(found.values()) == {HIDDEN}
    assert len(found) == 11


def test_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / name, 1)
    (tmp_path / "cat/a.HEIC").write_bytes(b"x")
    (tmp_path / "cat/b.svg").write_bytes(b"x")
    assert left_out(tmp_path) == {"cat/a.HEIC": OTHER_FORMAT, "cat/b.svg": OTHER_FORMAT}
    (tmp_path / "dog/1.png").rename(tmp_path / "dog/1.heic")
    with pytest.raises(
        ConfigError, match=r"dog holds no image .*left out: an image of a format that is not read; convert"
    ):
        read_folder(str(tmp_path), DataConfig(), Findings())


def test_endings_may_be_in_capitals(tmp_path: Path) -> None:
    paint(tmp_path / "cat", 1, extension="PNG")
    paint(tmp_path / "dog", 1, extension="JPEG")
    (tmp_path / "dog/1.JPEG").rename(tmp_path / "dog/1.JpG")
    assert left_out(tmp_path) == {}


def test_images_known_by_their_content_alone_are_counted_apart(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / name, 1)
    for number, extension in enumerate(("png", "jpg", "gif", "webp", "tiff")):
        paint(tmp_path / "other", number, extension=extension)
        (tmp_path / f"other/{number}.{extension}").rename(tmp_path / f"cat/{number}")
    (tmp_path / "other").rmdir()
    (tmp_path / "cat/empty").write_bytes(b"")
    assert left_out(tmp_path) == {f"cat/{number}": NAMELESS for number in range(5)} | {"cat/empty": NO_IMAGE}


def test_links_fifos_and_sockets(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / name, 1, 2)
    (tmp_path / "cat/same").symlink_to(tmp_path / "dog")
    (tmp_path / "cat/round").symlink_to("..")
    (tmp_path / "cat/gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "cat/pipe.png")
    (tmp_path / "cat/pipe-too.png").symlink_to("pipe.png")
    place = os.getcwd()
    os.chdir(tmp_path / "cat")  # the path of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind("socket.png")
    finally:
        os.chdir(place)
    assert left_out(tmp_path) == {
        "cat/same": LINK,
        "cat/round": LINK,
        "cat/gone": BROKEN_LINK,
        "cat/pipe.png": SPECIAL,
        "cat/pipe-too.png": SPECIAL,
        "cat/socket.png": SPECIAL,
    }


def test_an_image_behind_a_broken_link_is_one_that_cannot_be_read(tmp_path: Path) -> None:
    """As in a data set whose files an annex has not fetched."""
    for name in ("cat", "dog"):
        paint(tmp_path / name, 1, 2)
    (tmp_path / "cat/3.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "dog/loop.png").symlink_to("loop.png")
    with pytest.raises(ConfigError, match=r"Cannot read the image .*cat/3.png: No such file or directory"):
        read_folder(str(tmp_path), DataConfig(), Findings())
    findings = Findings()
    images, _ = read_folder(str(tmp_path), DataConfig(unreadable="leave_out"), findings)
    assert images.images[:, 0, 0, 0].tolist() == [1, 2, 1, 2]
    assert [found.place for found in findings.left_out] == ["cat/3.png", "dog/loop.png"]


AS_NOBODY = """
import os, sys
from trainers.data.config import DataConfig
from trainers.data.findings import Findings
from trainers.data.folder import read_folder, read_unlabelled_folder
from trainers.data.pixels import image_extensions
from trainers.errors import ConfigError
image_extensions()  # Pillow's modules may lie where nobody may look
os.setgid(65534); os.setuid(65534)
for folder in sys.argv[1:]:
    for read in (read_folder, read_unlabelled_folder):
        try:
            read(folder, DataConfig(), Findings())
        except ConfigError as error:
            print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which permissions do not stop, to become nobody")
def test_what_may_not_be_read_is_one_sentence(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(0o755)
    closed = {
        "a": ".",
        "b": "cat",
        "c": "dog/deep",
        "d": "dog/1.png",
    }
    for folder, place in closed.items():
        for name in ("cat", "dog", "dog/deep"):
            paint(tmp_path / folder / name, 1)
        (tmp_path / folder / place).chmod(0)
    folders = [str(tmp_path / folder) for folder in closed]
    ended = subprocess.run([sys.executable, "-c", AS_NOBODY, *folders], capture_output=True, text=True, timeout=60)
    assert ended.stderr == ""
    told = " data.unreadable: leave_out (of train: --unreadable leave_out) goes on without them."
    assert ended.stdout.splitlines() == [
        line
        for line in (
            f"{tmp_path}/a cannot be read: Permission denied.",
            f"{tmp_path}/b/cat cannot be read: Permission denied.",
            f"{tmp_path}/c/dog/deep cannot be read: Permission denied.",
            f"Cannot read the image {tmp_path}/d/dog/1.png: Permission denied.{told}",
        )
        for _ in range(2)
    ]


def test_a_folder_that_goes_away_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / name, 1)

    def scanned(folder: Path) -> Any:
        if folder == tmp_path / "dog":
            (folder / "1.png").unlink()
            folder.rmdir()
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scanned)
    with pytest.raises(ConfigError, match=f"{tmp_path}/dog cannot be read: No such file or directory"):
        read_folder(str(tmp_path), DataConfig(), Findings())


def test_what_is_no_folder_is_told_apart(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar.gz", "a.parquet", "a.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link").symlink_to("gone")
    for name, text in (
        ("a.zip", r"a\.zip is an archive, and no folder; unpack it first"),
        ("a.tar.gz", "is an archive"),
        ("a.parquet", r"is no folder; parquet:.*a\.parquet reads Parquet files"),
        ("a.txt", "is no folder; folder:PATH takes"),
        ("link", "is a link to gone, which is not there"),
    ):
        for read in (read_folder, read_unlabelled_folder):
            with pytest.raises(ConfigError, match=text):
                read(str(tmp_path / name), DataConfig(), Findings())


def test_names_may_have_spaces_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/a cat/caf\xe9.png"
    paint(tmp_path / "a cat", 1)
    paint(tmp_path / "dog", 1)
    os.rename(os.fsencode(tmp_path / "a cat/1.png"), odd)
    (tmp_path / os.fsdecode(b"\xff.txt")).write_bytes(b"")
    findings = Findings()
    images, _ = read_folder(str(tmp_path), DataConfig(), findings)
    assert images.names == ("a cat/caf\\udce9.png", "dog/1.png")
    assert [found.place for found in findings.left_out] == ["\\udcff.txt"]
    with open(odd, "wb"):
        pass
    with pytest.raises(ConfigError, match="it is empty"):
        read_folder(str(tmp_path), DataConfig(), Findings())


def test_broken_images_may_be_left_out_and_names_and_labels_still_fit(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            paint(tmp_path / split / name, *(10 * label + number for number in range(5)))
    for broken in ("train/cat/0.png", "train/dog/12.png", "test/cat/4.png"):
        (tmp_path / broken).write_bytes(b"")
    findings = Findings()
    splits = load_folder(str(tmp_path), DataConfig(unreadable="leave_out"), findings)
    assert (len(splits.train), len(splits.test)) == (8, 9)
    for part in (splits.train, splits.test):
        assert part.names is not None
        shades = [int(Path(name).stem) for name in part.names]
        assert part.images[:, 0, 0, 0].tolist() == shades
        assert part.labels.tolist() == [shade // 10 for shade in shades]
    wanted = ["train/cat/0.png", "train/dog/12.png", "test/cat/4.png"]
    assert [(found.place, found.what, found.detail) for found in findings.left_out] == [
        (place, UNREADABLE, "it is empty") for place in wanted
    ]


def test_a_class_that_loses_all_its_images_is_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / name, 1, 2)
    for shade in (1, 2):
        (tmp_path / f"dog/{shade}.png").write_bytes(b"x")
    config = DataConfig(source=f"folder:{tmp_path}", unreadable="leave_out")
    with pytest.raises(ConfigError, match="every class needs at least 2 images, but dog has 0"):
        load_folder(str(tmp_path), config, Findings())
    with pytest.raises(ConfigError, match="Every class needs at least one training image, but got none of dog"):
        load_untrusted(config, Findings())


def test_an_accent_of_its_own_makes_no_other_class(tmp_path: Path) -> None:
    """Names of macOS, and of archives made there, have one."""
    for folder in ("train/caf\u00e9", "train/dog", "test/cafe\u0301", "test/dog"):
        paint(tmp_path / folder, 1, 2)
    splits = load_folder(str(tmp_path), DataConfig(), Findings())
    assert splits.train.class_names == ("caf\u00e9", "dog")
    assert splits.test.labels.tolist() == [0, 0, 1, 1]


def test_two_folders_of_one_class_are_both_named(tmp_path: Path) -> None:
    for folder in ("cafe\u0301", "caf\u00e9"):
        paint(tmp_path / folder, 1, 2)
    with pytest.raises(ConfigError) as caught:
        load_folder(str(tmp_path), DataConfig(), Findings())
    assert f"{tmp_path}/cafe\u0301 and {tmp_path}/caf\u00e9 have the same name" in str(caught.value)


@pytest.mark.parametrize("split", ["test", "val"])
def test_an_empty_class_of_the_test_split_is_as_one_that_is_missing(tmp_path: Path, split: str) -> None:
    for folder in ("train/cat", "train/dog", f"{split}/dog"):
        paint(tmp_path / folder, 1, 2)
    for empty in ("cat", "owl"):
        paint(tmp_path / split / empty)
    findings = Findings()
    _, test = read_folder(str(tmp_path), DataConfig(), findings)
    assert test is not None
    assert test.labels.tolist() == [1, 1]
    assert [(found.place, found.what) for found in findings.left_out] == [
        (f"{split}/cat/ (0 files)", EMPTY),
        (f"{split}/owl/ (0 files)", EMPTY),
    ]


@pytest.mark.parametrize(("split", "said"), [("train", "training"), ("test", "test")])
def test_a_split_that_loses_all_its_images_is_named(tmp_path: Path, split: str, said: str) -> None:
    for folder in ("train/cat", "train/dog", "test/cat", "test/dog"):
        paint(tmp_path / folder, 1, 2)
    for file in (tmp_path / split).rglob("*.png"):
        file.write_bytes(b"x")
    with pytest.raises(ConfigError) as caught:
        read_folder(str(tmp_path), DataConfig(unreadable="leave_out"), Findings())
    assert str(caught.value) == (
        f"The {said} split {tmp_path / split} has no image; 4 that cannot be read are left out."
    )


def test_a_test_split_of_empty_classes_is_named(tmp_path: Path) -> None:
    for folder in ("train/cat", "train/dog"):
        paint(tmp_path / folder, 1, 2)
    paint(tmp_path / "test/cat")
    with pytest.raises(ConfigError, match=r"^The test split .*test has no image\.$"):
        read_folder(str(tmp_path), DataConfig(), Findings())
