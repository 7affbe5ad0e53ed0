import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from trainers.data import parquet_table
from trainers.data.config import DataConfig
from trainers.data.findings import Findings
from trainers.data.parquet import NOT_TRAINING, UNUSED, load_parquet, read_parquet, read_unlabelled_parquet
from trainers.data.parquet_table import read_images, read_labels
from trainers.data.tree import BROKEN_LINK, HIDDEN, LINK, SPECIAL
from trainers.errors import ConfigError

CIFAR10 = Path(__file__).parents[4] / "shared/data/cifar10-jpeg"


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), shade).save(buffer, "PNG")
    return buffer.getvalue()


def write(
    file: Path,
    labels: list[Any],
    shades: list[int] | None = None,
    names: Any = None,
    **columns: Any,
) -> None:
    """A file as Hugging Face writes it: one image per label, its shade its row unless given.

    ``columns`` are added, replace one that is there, or with None leave it out.
    """
    shades = list(range(len(labels))) if shades is None else shades
    images = [{"bytes": png(shade), "path": f"{shade}.png"} for shade in shades]
    table = {key: value for key, value in {"img": images, "label": labels, **columns}.items() if value is not None}
    made = pa.table(table)
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, file)


def shades(images: Any) -> list[int]:
    return [int(shade) for shade in images.images[:, 0, 0, 0]]


def test_a_folder_of_files_named_for_their_split(tmp_path: Path) -> None:
    write(tmp_path / "train-00001-of-00002.parquet", [1, 0], [20, 21], ["cat", "dog"])
    write(tmp_path / "train-00000-of-00002.parquet", [0, 1], [10, 11], ["cat", "dog"])
    write(tmp_path / "below/validation-00000-of-00001.parquet", [1], [30], ["cat", "dog"])
    (tmp_path / ".train-hidden.parquet").write_bytes(b"not read")
    splits = load_parquet(str(tmp_path), DataConfig(), Findings())
    assert shades(splits.train) == [10, 11, 20, 21]
    assert splits.train.labels.tolist() == [0, 1, 1, 0]
    assert (shades(splits.test), splits.test.labels.tolist()) == ([30], [1])
    assert splits.train.class_names == ("cat", "dog")


def test_the_test_split_goes_before_the_validation_split_which_is_then_left_out(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1], [1, 2])
    write(tmp_path / "valid/0.parquet", [0, 1], [3, 4])
    write(tmp_path / "test.parquet", [0, 1], [5, 6])
    findings = Findings()
    splits = load_parquet(str(tmp_path), DataConfig(), findings)
    assert (shades(splits.train), shades(splits.test)) == ([1, 2], [5, 6])
    assert findings.lines()[0] == f"Left out, {UNUSED}: valid/0.parquet."
    images = read_unlabelled_parquet(str(tmp_path), DataConfig(), Findings())
    assert images[:, 0, 0, 0].tolist() == [1, 2]


def test_folders_name_the_split_where_files_do_not(tmp_path: Path) -> None:
    write(tmp_path / "train/0000.parquet", [0, 1], [10, 11])
    write(tmp_path / "test/0000.parquet", [0, 1], [20, 21])
    for path in (tmp_path, tmp_path / "*" / "*.parquet", tmp_path / "**" / "0000.parquet"):
        splits = load_parquet(str(path), DataConfig(), Findings())
        assert (shades(splits.train), shades(splits.test)) == ([10, 11], [20, 21])


def test_the_nearest_word_names_the_split_in_capitals_too(tmp_path: Path) -> None:
    """A file's own name goes before its folder's, and that before the folders above."""
    write(tmp_path / "train/Testing-0.parquet", [0, 1], [1, 2])
    write(tmp_path / "test/more/TRAIN/0.parquet", [0, 1], [3, 4])
    write(tmp_path / "test/Train-0.parquet", [1], [6])
    write(tmp_path / "Test/0.parquet", [1], [5])
    splits = load_parquet(str(tmp_path), DataConfig(), Findings())
    assert sorted(shades(splits.train)) == [3, 4, 6]
    assert sorted(shades(splits.test)) == [1, 2, 5]


def test_files_that_are_hidden_or_none_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [0, 1], [1, 2])
    write(tmp_path / "below/B.PARQUET", [0, 1], [3, 4])
    write(tmp_path / ".cache/more/b.parquet", [0, 1], [5, 6])
    write(tmp_path / ".c.parquet", [0, 1], [5, 6])
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").touch()
    (tmp_path / "again").symlink_to("below")
    (tmp_path / "gone.parquet").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.parquet")
    findings = Findings()
    images, _ = read_parquet(str(tmp_path), DataConfig(), findings)
    assert shades(images) == [1, 2, 3, 4]
    assert {(found.place, found.what) for found in findings.left_out} == {
        (".cache", HIDDEN),
        (".c.parquet", HIDDEN),
        ("again", LINK),
        ("gone.parquet", BROKEN_LINK),
        ("pipe.parquet", SPECIAL),
    }


def test_a_folder_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.parquet", [0, 1], [1, 2])
    write(tmp_path / "below/b.parquet", [0, 1], [1, 2])
    scan = os.scandir

    def closed(folder: Any) -> Any:
        if str(folder).endswith("below"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(ConfigError, match=r"/below cannot be read: Permission denied\.$"):
        read_parquet(str(tmp_path), DataConfig(), Findings())


def test_rows_that_cannot_be_read_may_be_left_out_and_places_and_labels_still_fit(tmp_path: Path) -> None:
    images = [{"bytes": png(shade)} for shade in range(6)]
    images[0]["bytes"] = images[4]["bytes"] = b"x"
    write(tmp_path / "train.parquet", [0, 1, 0, 1, 0, 1], img=images)
    write(tmp_path / "test.parquet", [0, 1, 0, 1, 0, 1], img=[*images[1:], {"bytes": png(9)}])
    with pytest.raises(
        ConfigError, match=rf"row 0 of {tmp_path}/train.parquet: .* 2 more of 12 cannot be read: row 4 of"
    ):
        read_parquet(str(tmp_path), DataConfig(), Findings())
    findings = Findings()
    train, test = read_parquet(str(tmp_path), DataConfig(unreadable="leave_out"), findings)
    assert test is not None
    assert (shades(train), train.labels.tolist()) == ([1, 2, 3, 5], [1, 0, 1, 1])
    assert train.names == tuple(f"row {row} of {tmp_path}/train.parquet" for row in (1, 2, 3, 5))
    assert (shades(test), test.labels.tolist()) == ([1, 2, 3, 5, 9], [0, 1, 0, 0, 1])
    assert [found.place for found in findings.left_out] == [
        f"row {row} of {tmp_path}/{name}.parquet" for name, row in (("train", 0), ("train", 4), ("test", 3))
    ]
    unlabelled = read_unlabelled_parquet(str(tmp_path), DataConfig(unreadable="leave_out"), Findings())
    assert unlabelled[:, 0, 0, 0].tolist() == [1, 2, 3, 5]


def test_images_are_known_by_their_file_and_row(tmp_path: Path) -> None:
    """Rows are counted from 0, and the test split's names are its own."""
    write(tmp_path / "train.parquet", [0, 1, 0])
    write(tmp_path / "test.parquet", [1, 0])
    train, test = read_parquet(str(tmp_path), DataConfig(), Findings())
    assert test is not None
    assert train.names == tuple(f"row {row} of {tmp_path}/train.parquet" for row in range(3))
    assert test.names == tuple(f"row {row} of {tmp_path}/test.parquet" for row in range(2))


def test_the_order_is_that_of_the_names_whatever_the_disk_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.parquet", [0, 1], [number, number])
    walk = os.walk

    def backwards(*args: Any, **kwargs: Any) -> Any:
        for folder, folders, names in walk(*args, **kwargs):
            yield folder, folders, sorted(names, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    images, _ = read_parquet(str(tmp_path), DataConfig(), Findings())
    assert shades(images) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("test_labels", [[0, 1], [0, 1, 2]])
def test_a_class_that_is_only_tested_is_refused(tmp_path: Path, test_labels: list[int]) -> None:
    write(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "test.parquet", test_labels)
    if 2 not in test_labels:
        load_parquet(str(tmp_path), DataConfig(), Findings())
        return
    with pytest.raises(ConfigError, match="no training image with label 2 in"):
        load_parquet(str(tmp_path), DataConfig(), Findings())


def test_the_seed_decides_what_is_held_out(tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", [0, 1] * 20)
    tested = [load_parquet(str(tmp_path), DataConfig(seed=seed), Findings()).test for seed in range(4)]
    assert len({tuple(shades(images)) for images in tested}) > 1


def test_words_that_only_contain_a_split_name_none(tmp_path: Path) -> None:
    write(tmp_path / "constrained.parquet", [0, 1] * 5)
    write(tmp_path / "latest-values.parquet", [0, 1] * 5)
    splits = load_parquet(str(tmp_path), DataConfig(), Findings())
    assert (len(splits.train), len(splits.test)) == (16, 4)


@pytest.mark.parametrize("name", ["data.parquet", "train.parquet", "test.parquet"])
def test_without_files_of_both_kinds_a_fifth_becomes_the_test_split(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [0, 1] * 10)
    splits = load_parquet(str(tmp_path / name), DataConfig(seed=5), Findings())
    assert sorted(shades(splits.train) + shades(splits.test)) == list(range(20))
    assert splits.test.labels.bincount().tolist() == [2, 2]
    for part in (splits.train, splits.test):
        assert part.labels.tolist() == [shade % 2 for shade in shades(part)]
    assert shades(load_parquet(str(tmp_path / name), DataConfig(seed=5), Findings()).test) == shades(splits.test)


def test_plain_binary_in_a_column_called_image(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [0, 1] * 5, img=None, image=[png(9)] * 10)
    splits = load_parquet(str(tmp_path / "a.parquet"), DataConfig(image_size=8), Findings())
    assert splits.train.images.shape == (8, 1, 8, 8)
    assert splits.train.class_names == ("0", "1")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
def test_bytes_may_be_many_or_few(tmp_path: Path, kind: pa.DataType) -> None:
    """Columns of more than 2 GiB are of the large kind."""
    plain, nested = pa.array([png(7), png(8)], kind), pa.array([png(7), png(8)], kind)
    write(tmp_path / "plain.parquet", [0, 1], img=plain)
    write(tmp_path / "nested.parquet", [0, 1], img=pa.StructArray.from_arrays([nested], names=["bytes"]))
    for name in ("plain", "nested"):
        assert [content for _, content in read_images(tmp_path / f"{name}.parquet", None)] == [png(7), png(8)]


@pytest.mark.parametrize("names", [{"0": "cat"}, [1, 2], [], None])
def test_names_of_another_form_are_passed_over(tmp_path: Path, names: Any) -> None:
    write(tmp_path / "a.parquet", [0, 1] * 5, names=names)
    assert load_parquet(str(tmp_path), DataConfig(), Findings()).train.class_names == ("0", "1")


@pytest.mark.parametrize("column", [{}, {"label": None}, {"label": ["?", None]}])
def test_images_alone_need_no_labels(tmp_path: Path, column: dict[str, Any]) -> None:
    write(tmp_path / "a.parquet", [0, 1], [3, 4], **column)
    write(tmp_path / "b.parquet", [0], [5], label=None)
    images = read_unlabelled_parquet(str(tmp_path), DataConfig(), Findings())
    assert (images.shape, images[:, 0, 0, 0].tolist()) == ((3, 1, 4, 4), [3, 4, 5])
    assert read_unlabelled_parquet(str(tmp_path / "b.parquet"), DataConfig(image_size=8), Findings()).shape == (
        1,
        1,
        8,
        8,
    )


def test_images_alone_are_never_those_of_the_test_split(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1], [3, 4])
    write(tmp_path / "test.parquet", [0], [5])
    write(tmp_path / "valid/0.parquet", [0], [6])
    findings = Findings()
    assert read_unlabelled_parquet(str(tmp_path), DataConfig(), findings)[:, 0, 0, 0].tolist() == [3, 4]
    assert findings.lines()[0] == f"Left out, {NOT_TRAINING}: test.parquet, valid/0.parquet."
    write(tmp_path / "extra.parquet", [0], [7])
    with pytest.raises(ConfigError, match=r"extra\.parquet must be named train or test"):
        read_unlabelled_parquet(str(tmp_path), DataConfig(), Findings())


def test_no_image_alone(tmp_path: Path) -> None:
    write(tmp_path / "empty.parquet", [], label=None, img=pa.array([], pa.binary()))
    with pytest.raises(ConfigError, match="hold no rows"):
        read_unlabelled_parquet(str(tmp_path), DataConfig(), Findings())
    write(tmp_path / "other.parquet", [0], img=None)
    with pytest.raises(
        ConfigError, match="needs an image column, binary or a struct with binary bytes, but has only label"
    ):
        read_unlabelled_parquet(str(tmp_path / "other.parquet"), DataConfig(), Findings())


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone does not exist; parquet:PATH takes a file, a folder or a glob"):
        load_parquet(str(tmp_path / "gone"), DataConfig(), Findings())
    (tmp_path / "readme.txt").touch()
    for path in (tmp_path, tmp_path / "*.parquet"):
        with pytest.raises(ConfigError, match="no Parquet file at"):
            load_parquet(str(path), DataConfig(), Findings())


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1 and then something else")
    with pytest.raises(ConfigError, match=r"Cannot read .*a\.parquet as a Parquet file: "):
        load_parquet(str(file), DataConfig(), Findings())
    write(file, [0, 1] * 5)
    whole = file.read_bytes()
    for damaged in (whole[:-20], whole.replace(b"label", b"\xff\xff\xff\xff\xff")):
        file.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"Cannot read .*a\.parquet as a Parquet file: "):
            load_parquet(str(file), DataConfig(), Findings())


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": None, "photo": ["a"] * 4}, "needs an image column, .*, but has only label, photo"),
        (
            {"label": None, "what": [0] * 4},
            r"needs a label column, but has only img, what; data\.label_column \(of train",
        ),
        (
            {"label": [[0], [1], [0], [1]]},
            "label of .*train.* must hold whole numbers, text or true and false, .* list",
        ),
        ({"label": [0.0, 1.0, 0.5, 1.0]}, "whole numbers, text or true and false, but got 0.5 in row 2 of .*train"),
        ({"label": [0.0, 1.0, float("inf"), 1.0]}, "but got inf in row 2 of .*train"),
        ({"label": [0.0, 1.0, 0.0, float("nan")]}, "there is none in row 3 of .*train"),
        ({"label": [0, 1, None, 1]}, "there is none in row 2 of .*train"),
        (
            {"label": [0, 1, 0, -1]},
            r"there is none in row 3 of .*train.*\. data\.unreadable: leave_out .* such rows\.$",
        ),
        ({"label": [0, 1, 0, -2]}, "must be whole numbers from 0, but got -2 in row 3 of .*train"),
        (
            {"label": pa.array([0, 1, 0, 2**64 - 1], pa.uint64())},
            "most 9223372036854775807, but got 18446744073709551615 in row 3",
        ),
        (
            {"label": [0, 3, 0, 3]},
            r"label 1 in .*, but row 1 of .*test\.parquet has it; each class needs one",
        ),
        (
            {"label": [0, 1, 0, 2**62]},
            rf"label 2 in .*, but row 3 of .*train\.parquet has label {2**62}; .* may be text",
        ),
        ({"label": [1, 2, 1, 2]}, r"label 0 in .*, but row 0 of .*test\.parquet has it; each class needs one"),
        ({"img": ["a.png"] * 4}, "column img of .* must be binary or a struct with binary bytes, but is string"),
        ({"img": [{"path": "a.png"}] * 4}, "must be binary or a struct with binary bytes, but is struct<path: string>"),
        ({"img": [{"bytes": b"no image"}] * 4}, "Cannot read the image row 0 of .*train"),
    ],
)
def test_bad_columns(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    write(tmp_path / "train.parquet", [0, 1, 0, 1], **columns)
    write(tmp_path / "test.parquet", [0, 1])
    with pytest.raises(ConfigError, match=message):
        load_parquet(str(tmp_path), DataConfig(), Findings())


def test_a_path_inside_a_file_is_not_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(1))
    images = [{"bytes": png(0), "path": None}, {"bytes": None, "path": str(secret)}]
    write(tmp_path / "a.parquet", [0, 1], img=images)
    with pytest.raises(
        ConfigError, match=r"image row 1 of .*a\.parquet: its bytes are not there; .* path in it is not"
    ):
        load_parquet(str(tmp_path), DataConfig(), Findings())
    write(tmp_path / "a.parquet", [0, 1], img=[None, images[0]])
    with pytest.raises(ConfigError, match=r"image row 0 of .* its bytes are not there"):
        load_parquet(str(tmp_path), DataConfig(), Findings())


def test_a_truncated_image_is_named_by_file_and_row(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "test.parquet", [0, 1, 0], img=[png(0), png(1), png(2)[:45]])
    with pytest.raises(ConfigError, match=r"Cannot read the image row 2 of .*test\.parquet: "):
        load_parquet(str(tmp_path), DataConfig(), Findings())


def test_labels_must_fit_the_class_names(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1, 0, 1], names=["cat", "dog", "owl"])
    write(tmp_path / "test.parquet", [0, 1], names=["cat", "dog", "owl"])
    with pytest.raises(ConfigError, match=r"no training image with label 2 \(owl\)"):
        load_parquet(str(tmp_path), DataConfig(), Findings())
    write(tmp_path / "train.parquet", [0, 1, 2, 3], names=["cat", "dog", "owl"])
    with pytest.raises(ConfigError, match=r"0\.\.2, which have names, but got 3 in row 3 of .*train"):
        load_parquet(str(tmp_path), DataConfig(), Findings())
    write(tmp_path / "train.parquet", [0, 1, 2], names=["dog", "cat", "owl"])
    with pytest.raises(ConfigError, match=r"train\.parquet and .*test\.parquet must state the same class names"):
        load_parquet(str(tmp_path), DataConfig(), Findings())


def test_a_file_of_no_split_beside_train_and_test_is_refused(tmp_path: Path) -> None:
    for name in ("train", "test", "extra"):
        write(tmp_path / f"{name}.parquet", [0, 1])
    with pytest.raises(ConfigError, match=r"extra\.parquet must be named train or test"):
        load_parquet(str(tmp_path), DataConfig(), Findings())


def test_of_a_group_of_rows_a_part_is_in_memory_at_a_time(tmp_path: Path) -> None:
    size, count = 2**14, 2000
    table = pa.table({"image": [os.urandom(size) for _ in range(count)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=count, write_batch_size=16)  # pages of 1 MiB
    del table
    before, most = pa.total_allocated_bytes(), 0
    for _, image in read_images(tmp_path / "a.parquet", None):
        assert isinstance(image, bytes)
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < count * size / 2


def test_many_rows_stay_in_order(tmp_path: Path) -> None:
    """They are read part by part."""
    labels = [row * row % 3 for row in range(700)]
    write(tmp_path / "train.parquet", labels, [row % 251 for row in range(700)], ["a", "b", "c"])
    assert read_labels(tmp_path / "train.parquet", None).values.to_pylist() == labels
    items = list(read_images(tmp_path / "train.parquet", None))
    assert [place for place, _ in items][::699] == [f"row {row} of {tmp_path}/train.parquet" for row in (0, 699)]
    assert [content for _, content in items] == [png(row % 251) for row in range(700)]


def test_a_file_that_stands_for_more_than_memory_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One value for all rows takes the room of one in the file."""
    image = {"bytes": bytes(100_000), "path": None}
    write(tmp_path / "train.parquet", [0, 1] * 500, img=[image] * 1000)
    assert (tmp_path / "train.parquet").stat().st_size < 200_000
    monkeypatch.setattr(parquet_table, "available_memory", lambda: 20e6)  # some rows are read at a time
    with pytest.raises(ConfigError, match=r"The images of .*train\.parquet do not fit into memory"):
        list(read_images(tmp_path / "train.parquet", None))


def test_files_without_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.array([], pa.int64()), img=pa.array([], pa.binary()))
    with pytest.raises(ConfigError, match="hold no rows"):
        load_parquet(str(tmp_path), DataConfig(), Findings())


@pytest.mark.skipif(not CIFAR10.is_dir(), reason=f"{CIFAR10} is not on this machine")
def test_cifar10_as_the_hub_has_it() -> None:
    """The training files are not decoded: 50,000 images take ten seconds."""
    files = sorted(CIFAR10.rglob("train*.parquet"))
    assert sum(len(list(read_images(file, None))) for file in files) == 50_000
    labels = [torch.tensor(read_labels(file, None).values.to_pylist()) for file in files]
    assert torch.cat(labels).bincount().tolist() == [5000] * 10
    (test,) = sorted(CIFAR10.rglob("test*.parquet"))
    splits = load_parquet(str(test), DataConfig(), Findings())  # alone, a fifth of it becomes the test split
    assert splits.train.images.shape == (8_000, 3, 32, 32)
    assert splits.train.class_names[0] == "airplane"
    assert splits.test.labels.bincount().tolist() == [200] * 10
