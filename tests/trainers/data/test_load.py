import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from trainers.data import DataConfig, Findings, ImageSet, load_data, load_unlabelled, load_untrusted
from trainers.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 training and 18 test images of three classes, no two alike."""
    shade = 0
    for split, count in (("train", 10), ("test", 6)):
        for name in ("cat", "dog", "owl"):
            (tmp_path / split / name).mkdir(parents=True)
            for _ in range(count):
                Image.new("L", (4, 4), shade).save(tmp_path / split / name / f"{shade}.png")
                shade += 1
    return tmp_path


def test_shapes_take_their_sizes_from_the_settings() -> None:
    splits = load_data(DataConfig(train_size=40, test_size=20, image_size=8))
    assert (len(splits.train), len(splits.test)) == (40, 20)
    assert splits.train.images.shape[2:] == (8, 8)
    assert splits.fingerprint == load_data(DataConfig(train_size=40, test_size=20, image_size=8)).fingerprint
    assert splits.fingerprint != load_data(DataConfig(train_size=40, test_size=20, image_size=8, seed=1)).fingerprint


def test_shapes_have_sizes_of_their_own() -> None:
    splits = load_data(DataConfig())
    assert (len(splits.train), len(splits.test), splits.train.images.shape[-1]) == (3000, 2000, 16)


def test_subsets_are_stratified_and_drawn_by_the_seed(folder: Path) -> None:
    source = f"folder:{folder}"
    some = load_data(DataConfig(source=source, train_size=15, test_size=6))
    assert some.train.labels.bincount().tolist() == [5, 5, 5]
    assert some.test.labels.bincount().tolist() == [2, 2, 2]
    again = load_data(DataConfig(source=source, train_size=15, test_size=6))
    other = load_data(DataConfig(source=source, train_size=15, test_size=6, seed=1))
    assert some.fingerprint == again.fingerprint
    assert some.train.fingerprint != other.train.fingerprint
    assert some.test.fingerprint != other.test.fingerprint


@pytest.mark.parametrize(("key", "there"), [("train_size", 30), ("test_size", 18)])
def test_more_images_than_there_are(folder: Path, key: str, there: int) -> None:
    settings: dict[str, Any] = {"source": f"folder:{folder}"}
    load_data(DataConfig(**settings | {key: there}))
    with pytest.raises(ConfigError, match=rf"data\.{key} must be at most {there}, .* but got {there + 1}"):
        load_data(DataConfig(**settings | {key: there + 1}))


@pytest.mark.parametrize("source", ["mnist", "", "folder:", "parquet", "shapes:x", "csv:data.csv"])
def test_an_unknown_source(source: str) -> None:
    with pytest.raises(ConfigError, match=f"shapes, cifar10, .*parquet:PATH or folder:PATH, but got '{source}'"):
        load_data(DataConfig(source=source))


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(load_data(DataConfig(source=f"folder:~/{folder.name}")).train) == 30
    with pytest.raises(ConfigError, match=f"{folder.parent}/gone does not exist"):
        load_data(DataConfig(source="parquet:~/gone"))
    with pytest.raises(ConfigError, match=f"no CIFAR-10 at {folder.parent}/here/"):
        load_data(DataConfig(source="cifar10", root="~/here"))


def test_home_is_expanded_of_images_to_train_on_too(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    write_parquet(folder / "files" / "data.parquet", 10)
    assert len(load_untrusted(DataConfig(source=f"folder:~/{folder.name}"), Findings())) == 30
    assert len(load_untrusted(DataConfig(source=f"parquet:~/{folder.name}/files"), Findings())) == 10
    assert len(load_unlabelled(f"folder:~/{folder.name}", DataConfig(), Findings())) == 30
    assert len(load_unlabelled(f"parquet:~/{folder.name}/files", DataConfig(), Findings())) == 10


def write_parquet(path: Path, count: int) -> None:
    """Images of two classes, each of its own shade."""
    encoded = []
    for shade in range(count):
        content = io.BytesIO()
        Image.new("L", (4, 4), shade).save(content, "PNG")
        encoded.append(content.getvalue())
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": encoded, "label": [n % 2 for n in range(count)]}), path)


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_the_seed_decides_what_is_held_out_to_test_on(folder: Path, kind: str) -> None:
    write_parquet(folder / "files" / "data.parquet", 30)
    source = {"folder": f"folder:{folder / 'train'}", "parquet": f"parquet:{folder / 'files'}"}[kind]
    tests = [load_data(DataConfig(source=source, seed=seed)).test.fingerprint for seed in (0, 0, 1, 2)]
    assert tests[0] == tests[1]
    assert len(set(tests)) == 3


def test_of_untrusted_parquet_images_none_is_held_out(folder: Path) -> None:
    write_parquet(folder / "files" / "data.parquet", 20)
    source = f"parquet:{folder / 'files'}"
    findings = Findings()
    assert len(load_untrusted(DataConfig(source=source), findings)) == 20
    assert not any("not used" in sentence for sentence in findings.warnings)
    assert len(load_data(DataConfig(source=source)).train) == 16


def test_untrusted_images_are_cut_down_to_the_size_asked_for(folder: Path) -> None:
    some = load_untrusted(DataConfig(source=f"folder:{folder}", train_size=15), Findings())
    assert some.labels.bincount().tolist() == [5, 5, 5]
    assert (
        some.fingerprint
        != load_untrusted(DataConfig(source=f"folder:{folder}", train_size=15, seed=1), Findings()).fingerprint
    )
    with pytest.raises(ConfigError, match=r"data\.train_size must be at most 30, .* but got 31"):
        load_untrusted(DataConfig(source=f"folder:{folder}", train_size=31), Findings())


def test_the_size_of_one_split_says_nothing_of_the_other(folder: Path) -> None:
    splits = load_data(DataConfig(source=f"folder:{folder}", train_size=15))
    assert (len(splits.train), len(splits.test)) == (15, 18)
    splits = load_data(DataConfig(source=f"folder:{folder}", test_size=6))
    assert (len(splits.train), len(splits.test)) == (30, 6)


def test_untrusted_images_are_all_there_and_known_by_their_files(folder: Path) -> None:
    findings = Findings()
    whole = load_untrusted(DataConfig(source=f"folder:{folder}"), findings)
    assert len(whole) == 30  # the test folder is not trained on
    assert findings.warnings[-1] == "18 test images are not used: train learns from the training split alone."
    alone = load_untrusted(DataConfig(source=f"folder:{folder / 'train'}"), Findings())
    assert len(alone) == 30, "nothing is held out"
    assert len(load_data(DataConfig(source=f"folder:{folder / 'train'}")).train) == 24
    assert alone.names is not None
    for name, image, label in zip(alone.names, alone.images, alone.labels.tolist(), strict=True):
        file = folder / "train" / name
        assert file.parent.name == alone.class_names[label]
        assert int(image[0, 0, 0]) == int(file.stem)
    assert whole.names is not None
    assert whole.names[0].startswith("train/")
    part = whole.subset(torch.tensor([3, 0]))
    assert part.names == (whole.names[3], whole.names[0])


def test_generated_images_come_from_nowhere() -> None:
    assert load_untrusted(DataConfig(train_size=40, test_size=20), Findings()).names is None


def test_names_do_not_change_what_the_images_are(folder: Path) -> None:
    images = load_untrusted(DataConfig(source=f"folder:{folder}"), Findings())
    assert images.fingerprint == ImageSet(images.images, images.labels, images.class_names).fingerprint


# Held out


def test_images_are_set_aside_before_the_rest_is_cut_down(folder: Path) -> None:
    source = f"folder:{folder}"
    whole = load_data(DataConfig(source=source))
    splits = load_data(DataConfig(source=source, held_out_size=6, train_size=15))
    assert whole.held_out is None
    assert splits.held_out is not None
    assert splits.held_out.labels.bincount().tolist() == [2, 2, 2]
    assert splits.train.labels.bincount().tolist() == [5, 5, 5]
    aside, left, known = (
        {tuple(image) for image in part.images.flatten(1).tolist()}
        for part in (splits.held_out, splits.train, whole.train)
    )
    assert not aside & left
    assert aside | left < known
    assert splits.test.fingerprint == whole.test.fingerprint
    assert splits.fingerprint == f"{splits.train.fingerprint}-{splits.test.fingerprint}-{splits.held_out.fingerprint}"


def test_the_seed_decides_what_is_set_aside(folder: Path) -> None:
    splits = [load_data(DataConfig(source=f"folder:{folder}", held_out_size=6, seed=seed)) for seed in (0, 0, 1)]
    one, again, other = (part.held_out.fingerprint for part in splits if part.held_out)
    assert one == again != other


def test_shapes_are_drawn_for_it(folder: Path) -> None:
    plain, more = (load_data(DataConfig(train_size=30, test_size=20, held_out_size=n)) for n in (None, 10))
    assert plain.train.fingerprint == more.train.fingerprint
    assert plain.test.fingerprint == more.test.fingerprint
    assert more.held_out is not None
    assert len(more.held_out) == 10
    pixels = {tuple(image) for image in more.train.images.flatten(1).tolist()}
    assert not pixels & {tuple(image) for image in more.held_out.images.flatten(1).tolist()}


def test_more_held_out_than_there_are(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.held_out_size must be below 30, .* but got 30"):
        load_data(DataConfig(source=f"folder:{folder}", held_out_size=30))
    with pytest.raises(ConfigError, match=r"data\.train_size must be at most 20, .* but got 21"):
        load_data(DataConfig(source=f"folder:{folder}", held_out_size=10, train_size=21))


def test_two_snapshots_of_one_set_in_a_cache_are_told_of(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(10):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue()})
    table = pa.table({"image": rows, "label": [0, 1] * 5})
    for snapshot in ("one", "two"):
        for name in ("train", "test"):
            (tmp_path / "snapshots" / snapshot).mkdir(parents=True, exist_ok=True)
            part = table.slice(0, 6) if name == "train" else table.slice(6)
            pq.write_table(part, tmp_path / "snapshots" / snapshot / f"{name}.parquet")
    splits = load_data(DataConfig(source=f"parquet:{tmp_path}"))
    assert splits.findings.warnings == [
        "6 of 12 training images are copies of others.",
        "4 of 8 test images are copies of others.",
    ]
    images = Findings()
    load_untrusted(DataConfig(source=f"parquet:{tmp_path}"), images)
    assert images.warnings == [
        splits.findings.warnings[0],
        "8 test images are not used: train learns from the training split alone.",
    ]


def test_classes_without_a_test_image_are_named(tmp_path: Path) -> None:
    for number, name in enumerate(("train/cat", "train/dog", "train/owl", "test/cat", "test/owl")):
        (tmp_path / name).mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / "1.png")
    splits = load_data(DataConfig(source=f"folder:{tmp_path}"))
    assert splits.findings.warnings == ["1 of 3 classes have no test image: dog."]


@pytest.mark.parametrize(("dogs", "warned"), [(30, False), (31, True)])
def test_classes_of_unequal_size_are_said(tmp_path: Path, dogs: int, warned: bool) -> None:
    rng = np.random.default_rng(0)
    for split, name, count in (("train", "cat", 3), ("train", "dog", dogs), ("test", "cat", 1), ("test", "dog", 1)):
        (tmp_path / split / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    warnings = load_data(DataConfig(source=f"folder:{tmp_path}")).findings.warnings
    assert len(warnings) == warned
    if warned:
        assert warnings[0].startswith("The classes are of unequal size: from 3 training images (cat) to 31 (dog). A ")
    findings = Findings()
    load_untrusted(DataConfig(source=f"folder:{tmp_path}"), findings)
    assert [text for text in findings.warnings if "unequal" in text] == warnings


def test_generated_images_are_not_looked_over() -> None:
    assert load_data(DataConfig(train_size=20, test_size=10)).findings == Findings()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"background": None}, r"in YAML a colour such as '#ff0000' needs quotes"),
        ({"background": "no-colour"}, "background must be the name of a colour"),
        ({"background": 7}, "background must be text, but got 7"),
        ({"max_value": 0}, "max_value must be a number above 0"),
        ({"unreadable": "skip"}, "unreadable must be one of refuse, leave_out"),
    ],
)
def test_how_images_are_read_is_checked(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        DataConfig(**changes)
