"""Which columns are read, and what labels of each type mean."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trainers.data.test_parquet import png, shades
from trainers.data.config import DataConfig
from trainers.data.encoded import UNREADABLE
from trainers.data.findings import Findings
from trainers.data.image_set import ImageSet
from trainers.data.parquet import NO_LABELS, load_parquet, read_parquet, read_unlabelled_parquet
from trainers.data.parquet_classes import NO_LABEL
from trainers.errors import ConfigError

IMAGES = [{"bytes": png(shade), "path": None} for shade in range(4)]


def write(file: Path, columns: dict[str, Any], names: dict[str, list[str]] | None = None) -> Path:
    """A file of four images unless ``columns`` has others, with the class names of some of its columns."""
    table = pa.table({name: values for name, values in ({"image": IMAGES} | columns).items() if values is not None})
    if names:
        features = {name: {"names": own, "_type": "ClassLabel"} for name, own in names.items()}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file


def read(file: Path, **config: Any) -> ImageSet:
    train, test = read_parquet(str(file), DataConfig(**config), Findings())
    assert test is None
    return train


def refused(file: Path, **config: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read_parquet(str(file), DataConfig(**config), Findings())
    return str(caught.value)


# Columns


@pytest.mark.parametrize("name", ["labels", "fine_label", "class", "Category", "target", "y"])
def test_a_label_column_is_known_by_its_usual_names(tmp_path: Path, name: str) -> None:
    assert read(write(tmp_path / "a.parquet", {name: [1, 0, 1, 0], "id": [7, 8, 9, 10]})).labels.tolist() == [
        1,
        0,
        1,
        0,
    ]


def test_a_label_column_is_known_by_its_metadata(tmp_path: Path) -> None:
    columns = {"y": [0, 0, 0, 0], "breed": [1, 0, 1, 0]}
    data = read(write(tmp_path / "a.parquet", columns, {"breed": ["pug", "collie"]}))
    assert (data.labels.tolist(), data.class_names) == ([1, 0, 1, 0], ("pug", "collie"))


def test_label_goes_before_others(tmp_path: Path) -> None:
    columns = {"labels": [0, 0, 0, 0], "fine": [0, 0, 0, 0], "label": [0, 1, 0, 1]}
    assert read(write(tmp_path / "a.parquet", columns, {"fine": ["a", "b"]})).labels.tolist() == [0, 1, 0, 1]


def test_two_label_columns_are_to_be_chosen_from(tmp_path: Path) -> None:
    """As in CIFAR-100."""
    columns = {"fine_label": [0, 1, 2, 1], "coarse_label": [0, 1, 1, 1]}
    names = {"fine_label": ["ant", "cat", "dog"], "coarse_label": ["insect", "mammal"]}
    file = write(tmp_path / "a.parquet", columns, names)
    assert refused(file) == (
        f"{file} has several label columns: fine_label (3 classes), coarse_label (2 classes); data.label_column (of "
        "train: --label-column) names one."
    )
    assert read(file, label_column="coarse_label").class_names == ("insect", "mammal")
    assert read(file, label_column="fine_label").labels.tolist() == [0, 1, 2, 1]
    bare = write(tmp_path / "bare.parquet", columns)
    assert f"{bare} has several label columns: fine_label, coarse_label; data.label_column" in refused(bare)


def test_a_column_that_is_given_must_be_there(tmp_path: Path) -> None:
    file = write(tmp_path / "train.parquet", {"label": [0, 1, 0, 1]})
    assert refused(file, label_column="fine") == (
        f"{file} needs a label column called fine, but has only image, label; data.label_column (of train: "
        "--label-column) names it."
    )
    assert refused(file, image_column="photo") == (
        f"{file} has no column photo, but image, label; data.image_column (of train: --image-column) names one."
    )
    assert "column label of" in refused(file, image_column="label")


def test_the_labels_of_all_files_must_be_alike(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", {"label": [0, 1, 0, 1]})
    write(tmp_path / "test.parquet", {"labels": [0, 1, 0, 1]})
    text = refused(tmp_path)
    assert text.endswith("are in the column label, but those of " + str(tmp_path / "test.parquet") + " in labels; give "
                         "both the same name.")  # fmt: skip
    write(tmp_path / "test.parquet", {"label": ["a", "b", "a", "b"]})
    assert f"are whole numbers, but those of {tmp_path / 'test.parquet'} text" in refused(tmp_path)


def test_an_image_column_may_have_any_name_if_it_is_the_only_one(tmp_path: Path) -> None:
    for number, more in enumerate(({"photo": IMAGES}, {"scan": [png(n) for n in range(4)]}, {"Image": IMAGES})):
        file = write(tmp_path / f"{number}.parquet", {"image": None, "label": [0, 1, 0, 1], **more})
        assert shades(read(file)) == [0, 1, 2, 3]


def test_image_goes_before_a_mask_and_structs_before_bytes(tmp_path: Path) -> None:
    masks = [{"bytes": png(9), "path": None}] * 4
    file = write(tmp_path / "a.parquet", {"mask": masks, "label": [0, 1, 0, 1]})
    assert shades(read(file)) == [0, 1, 2, 3]
    assert shades(read(file, image_column="mask")) == [9] * 4
    file = write(tmp_path / "b.parquet", {"hash": [b"x"] * 4, "image": None, "scan": IMAGES, "label": [0, 1, 0, 1]})
    assert shades(read(file)) == [0, 1, 2, 3]


@pytest.mark.parametrize("two", [{"img": IMAGES}, {"image": None, "left": IMAGES, "right": IMAGES}])
def test_two_image_columns_are_to_be_chosen_from(tmp_path: Path, two: dict[str, Any]) -> None:
    file = write(tmp_path / "a.parquet", {**two, "label": [0, 1, 0, 1]})
    names = ", ".join(name for name in ("image", *two) if {"image": IMAGES, **two}[name] is not None)
    assert refused(file) == (
        f"{file} has several columns of images: {names}; data.image_column (of train: --image-column) names one."
    )
    assert shades(read(file, image_column=names.split(", ")[1])) == [0, 1, 2, 3]


def test_a_list_of_one_image(tmp_path: Path) -> None:
    for number, lists in enumerate(([[image] for image in IMAGES], [[png(n)] for n in range(4)])):
        file = write(tmp_path / f"{number}.parquet", {"image": None, "images": lists, "label": [0, 1, 0, 1]})
        assert shades(read(file)) == [0, 1, 2, 3]
    for wrong, count in (([], 0), (None, 0), (IMAGES[:2], 2)):
        lists = [[image] for image in IMAGES[:2]] + [wrong, [IMAGES[3]]]
        file = write(tmp_path / "x.parquet", {"image": None, "images": lists, "label": [0, 1, 0, 1]})
        assert refused(file).startswith(
            f"Cannot read the image row 2 of {file}: the row holds {count} images, and must hold one. data.unreadable"
        )
        data = read(file, unreadable="leave_out")
        assert (shades(data), data.labels.tolist()) == ([0, 1, 3], [0, 1, 1])


def test_images_and_labels_in_dictionaries(tmp_path: Path) -> None:
    encoded = pa.array([png(n) for n in (3, 4, 3, 4)]).dictionary_encode()
    for number, labels in enumerate((["cat", "dog", "cat", "dog"], [0, 1, 0, 1])):
        columns = {"image": encoded, "label": pa.array(labels).dictionary_encode()}
        data = read(write(tmp_path / f"{number}.parquet", columns))
        assert (shades(data), data.labels.tolist()) == ([3, 4, 3, 4], [0, 1, 0, 1])
        assert data.class_names == (("cat", "dog"), ("0", "1"))[number]


def test_images_without_labels_may_lie_in_another_column(tmp_path: Path) -> None:
    """One key says where the images of the data lie; a second source need not have that column."""
    own = write(tmp_path / "a.parquet", {"image": None, "left": IMAGES, "right": IMAGES[::-1]})
    other = write(tmp_path / "b.parquet", {})
    for file, order in ((own, [3, 2, 1, 0]), (other, [0, 1, 2, 3])):
        images = read_unlabelled_parquet(str(file), DataConfig(image_column="right"), Findings())
        assert images[:, 0, 0, 0].tolist() == order
    with pytest.raises(ConfigError, match="several columns of images: left, right"):
        read_unlabelled_parquet(str(own), DataConfig(), Findings())


# Labels


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["dog", "cat", "dog", "cat"], ("cat", "dog"), [1, 0, 1, 0]),
        (pa.array(["b", "a", "b", "a"], pa.large_string()), ("a", "b"), [1, 0, 1, 0]),
        (["10", "9", "10", "2"], ("2", "9", "10"), [2, 1, 2, 0]),
        (["class10", "class2", "class2", "class1"], ("class1", "class2", "class10"), [2, 1, 1, 0]),
        ([True, False, True, True], ("false", "true"), [1, 0, 1, 1]),
        ([1.0, 0.0, 2.0, 1.0], ("0", "1", "2"), [1, 0, 2, 1]),
        (pa.array([1, 0, 1, 0], pa.uint64()), ("0", "1"), [1, 0, 1, 0]),
        (pa.array([1, 0, 1, 0], pa.int8()), ("0", "1"), [1, 0, 1, 0]),
        (pa.array([1, 0, 1, 0]).cast(pa.decimal128(20, 0)), ("0", "1"), [1, 0, 1, 0]),
    ],
)
def test_labels_of_any_type(tmp_path: Path, labels: Any, names: tuple[str, ...], numbers: list[int]) -> None:
    data = read(write(tmp_path / "a.parquet", {"label": labels}))
    assert (data.class_names, data.labels.tolist()) == (names, numbers)


def test_text_labels_are_those_of_all_files(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", {"label": ["owl"] * 4})
    write(tmp_path / "train-1.parquet", {"label": ["cat", "ant", "cat", "ant"]})
    write(tmp_path / "test.parquet", {"label": ["cat", "owl", "owl", "cat"]})
    splits = load_parquet(str(tmp_path), DataConfig(), Findings())
    assert splits.train.class_names == ("ant", "cat", "owl")
    assert splits.train.labels.tolist() == [2, 2, 2, 2, 1, 0, 1, 0]
    assert splits.test.labels.tolist() == [1, 2, 2, 1]
    write(tmp_path / "test.parquet", {"label": ["cat", "elk", "owl", "cat"]})
    assert f"no training image with label elk in {tmp_path}; each class needs one" in refused(tmp_path)


@pytest.mark.parametrize("gap", [None, ""])
def test_a_text_that_is_missing_is_named(tmp_path: Path, gap: str | None) -> None:
    file = write(tmp_path / "a.parquet", {"label": ["cat", "dog", gap, "dog"]})
    assert refused(file) == (
        f"Every image needs a label, but there is none in row 2 of {file}. data.unreadable: leave_out (of train: "
        "--unreadable leave_out) goes on without such rows."
    )


# Splits without labels

UNKNOWN = {
    "minus one": {"label": [-1] * 4},
    "null": {"label": pa.array([None] * 4, pa.int64())},
    "nothing": {"label": pa.nulls(4)},
    "NaN": {"label": [float("nan")] * 4},
    "no text": {"label": ["", None, "", ""]},
    "no column": {"id": [1, 2, 3, 4]},
}


@pytest.mark.parametrize("columns", UNKNOWN.values(), ids=UNKNOWN)
def test_a_test_split_without_labels_is_left_out_and_said(tmp_path: Path, columns: dict[str, Any]) -> None:
    write(tmp_path / "train.parquet", {"image": IMAGES * 5, "label": [0, 1] * 10}, {"label": ["cat", "dog"]})
    write(tmp_path / "test.parquet", columns)
    findings = Findings()
    splits = load_parquet(str(tmp_path), DataConfig(), findings)
    assert (len(splits.train), len(splits.test)) == (16, 4)
    assert splits.train.class_names == ("cat", "dog")
    told = findings.lines()
    assert f"Left out, {NO_LABELS}: test.parquet." in told
    assert "Warning: 20% of the training images become the test split, since no test file has labels." in told
    alone = load_parquet(str(tmp_path / "train.parquet"), DataConfig(), Findings())
    assert splits.fingerprint == alone.fingerprint, "as where there is no test file"


def test_another_test_file_stays(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", {"label": [0, 1, 0, 1]})
    write(tmp_path / "validation.parquet", {"label": [1, 1, 0, 1]})
    write(tmp_path / "test.parquet", {"label": [-1] * 4})
    write(tmp_path / "unsupervised.parquet", {"label": [-1] * 4})
    findings = Findings()
    splits = load_parquet(str(tmp_path), DataConfig(), findings)
    assert splits.test.labels.tolist() == [1, 1, 0, 1]
    assert [place.place for place in findings.left_out] == ["test.parquet", "unsupervised.parquet"]
    assert not [text for text in findings.warnings if "become the test split" in text]


def test_what_has_some_labels_is_not_left_out(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", {"label": [0, 1, 0, 1]})
    file = write(tmp_path / "test.parquet", {"label": [0, -1, -1, -1]})
    assert f"there is none in row 1 of {file}. data.unreadable: leave_out" in refused(tmp_path)


@pytest.mark.parametrize("name", ["train", "test", "data"])
def test_images_to_train_on_need_labels(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / f"{name}.parquet", {"label": [-1] * 4})
    assert refused(file) == f"No image of {file} has a label: the column label holds null or -1 alone."
    write(tmp_path / "test.parquet", {"label": [0, 1, 0, 1]})
    if name == "train":
        assert "No image of" in refused(tmp_path)


@pytest.mark.parametrize("labels", [[-1, 1, 0, None], ["", "dog", "cat", None]])
def test_rows_without_a_label_may_be_left_out(tmp_path: Path, labels: list[Any]) -> None:
    """In both splits, and beside an image that cannot be read; places and labels still fit."""
    broken = [*IMAGES[:2], {"bytes": None, "path": None}, IMAGES[3]]
    train_file = write(tmp_path / "train.parquet", {"label": labels})
    more = write(tmp_path / "train2.parquet", {"image": broken, "label": labels[2:0:-1] * 2})
    test_file = write(tmp_path / "test.parquet", {"label": labels[::-1]})
    findings = Findings()
    train, test = read_parquet(str(tmp_path), DataConfig(unreadable="leave_out"), findings)
    assert test is not None
    assert (shades(train), train.labels.tolist()) == ([1, 2, 0, 1, 3], [1, 0, 0, 1, 1])
    assert (shades(test), test.labels.tolist()) == ([1, 2], [0, 1])
    assert test.names == tuple(f"row {row} of {test_file}" for row in (1, 2))
    assert [(found.place, found.what) for found in findings.left_out] == [
        *((f"row {row} of {train_file}", NO_LABEL) for row in (0, 3)),
        *((f"row {row} of {test_file}", NO_LABEL) for row in (0, 3)),
        (f"row 2 of {more}", UNREADABLE),
    ]


def test_numbers_may_start_anywhere_and_are_the_names(tmp_path: Path) -> None:
    data = read(write(tmp_path / "a.parquet", {"label": [11, 9, 10, 9]}))
    assert (data.labels.tolist(), data.class_names) == ([2, 0, 1, 0], ("9", "10", "11"))


def test_numbers_that_have_names_start_at_0(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", {"label": [1, 2, 1, 2]}, {"label": ["cat", "dog", "owl"]})
    assert "There is no training image with label 0 (cat) in" in refused(file)


def test_an_accent_of_its_own_makes_no_other_class(tmp_path: Path) -> None:
    two, one = "cafe\u0301", "caf\u00e9"
    data = read(write(tmp_path / "a.parquet", {"label": [two, "bar", one, "bar"]}))
    assert (data.labels.tolist(), data.class_names) == ([1, 0, 1, 0], ("bar", one))
    write(tmp_path / "b/train.parquet", {"label": [0, 1, 0, 1]}, {"label": [two, "bar"]})
    write(tmp_path / "b/test.parquet", {"label": [0, 1, 0, 1]}, {"label": [one, "bar"]})
    train, _ = read_parquet(str(tmp_path / "b"), DataConfig(), Findings())
    assert train.class_names == (one, "bar")


@pytest.mark.parametrize("name", ["image", "label"])
def test_a_column_that_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    columns = {"image": pa.array([png(shade) for shade in range(4)]), "label": pa.array([0, 1, 0, 1])}
    columns["x"] = columns[name]

    def renamed(names: list[str]) -> Path:
        pq.write_table(pa.table(columns).rename_columns(names), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    file = renamed(["image", "label", name])
    wanted = (
        f"{file} has 2 columns called {name}; rename all but one, or data.{name}_column (of train: --{name}-column) "
        "names another."
    )
    assert refused(file) == refused(file, **{f"{name}_column": name}) == wanted


def test_a_column_that_is_there_twice_and_not_read_is_nothing_to_speak_of(tmp_path: Path) -> None:
    columns = [pa.array([png(shade) for shade in range(4)]), pa.array([0, 1, 0, 1]), *[pa.array(range(4))] * 2]
    pq.write_table(pa.Table.from_arrays(columns, names=["image", "label", "id", "id"]), tmp_path / "a.parquet")
    assert shades(read(tmp_path / "a.parquet")) == [0, 1, 2, 3]


@pytest.mark.parametrize(("split", "said"), [("train", "training"), ("test", "test")])
def test_a_split_that_loses_all_its_images_is_named(tmp_path: Path, split: str, said: str) -> None:
    for name in ("train", "test"):
        lost = {"image": pa.nulls(4, pa.binary())} if name == split else {}
        write(tmp_path / f"{name}.parquet", {"label": [0, 1, 0, 1]} | lost)
    assert refused(tmp_path, unreadable="leave_out") == (
        f"The {said} split of {tmp_path} has no image; 4 that cannot be read are left out."
    )
