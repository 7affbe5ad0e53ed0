"""Image sets in Parquet files, as the Hugging Face Hub lays them out."""

import glob
import re
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from trainers.data.class_order import in_class_order
from trainers.data.config import DataConfig
from trainers.data.encoded import decode_all
from trainers.data.findings import Findings
from trainers.data.hold_out import TEST_SHARE, hold_out
from trainers.data.image_set import ImageSet, Splits
from trainers.data.parquet_table import FileLabels, read_images, read_labels
from trainers.errors import ConfigError

NO_LABELS = "no image has a label"
"""Why a file is left out."""
_TRAIN = re.compile(r"^train|(?<![a-z])train(ing)?(?![a-z])")
_TEST = re.compile(r"^(test|valid)|(?<![a-z])(test(ing)?|val|valid|validation)(?![a-z])")
_LAYOUT = "parquet:PATH takes a file, a folder or a glob"


def load_parquet(path: str, config: DataConfig, findings: Findings) -> Splits:
    """Read both splits; without files of both, a stratified 20% of the images, drawn by the seed, is the test split.

    The rest is as in :func:`read_parquet`.
    """
    train, test = read_parquet(path, config, findings)
    if test is not None:
        return Splits(train, test)
    if any(place.what == NO_LABELS for place in findings.left_out):
        findings.warn(f"{TEST_SHARE:.0%} of the training images become the test split, since no test file has labels.")
    return hold_out(train, config.seed)


def read_parquet(path: str, config: DataConfig, findings: Findings) -> tuple[ImageSet, ImageSet | None]:
    """Read Parquet files as `trainers.data.parquet_table` describes them.

    A file belongs to the training split if its name has the word ``train``, to the test split if it has ``test``,
    ``validation``, ``valid`` or ``val``; a name with none of these is read from the folders below ``path`` that the
    file lies in, the nearest first. A file without any label (no such column, or null and -1 alone) that is not of the
    training split is left out. Unless there are files of both kinds, all files are put together and there is no test
    split.

    Labels that are text, or true and false, are the names of their classes, which are ordered as
    :func:`trainers.data.class_order.in_class_order` says. Of labels that are whole numbers, a class that no file names
    is called by its number.

    Args:
        path: a file, a folder (all ``*.parquet`` below it that are not hidden) or a glob.
        config: the columns, and how images are read.
        findings: gets what is left out.

    Raises:
        ConfigError: no file there, a file or an image that cannot be read, a column that is missing, of the wrong type
            or not the only one that could be meant, an image without bytes, a label that is null, negative or without
            a name, files that disagree on the column, the kind of labels or the class names, or a class without a
            training image. Rows are counted from 0.
    """
    root, files = _find(path)
    kinds = {file: _kind(file.relative_to(root)) for file in files}
    labels_of = {file: read_labels(file, config.label_column) for file in files}
    files = _with_labels(files, kinds, labels_of, findings)
    has_both = {"train", "test"} <= {kinds[file] for file in files}
    if has_both:
        for file in files:
            if kinds[file] is None:
                raise ConfigError(f"{file} must be named train or test (or validation), as other files of {path} are.")
        files.sort(key=lambda file: kinds[file] == "test")
    known = [labels_of[file] for file in files if len(labels_of[file].values)]
    if not known:
        raise ConfigError(f"The Parquet files of {path} hold no rows.")
    _check_alike(known)
    num_train = sum(len(labels_of[file].values) for file in files if kinds[file] == "train" or not has_both)
    labels, class_names = (_text_classes if known[0].are_text else _numbered_classes)(known, num_train, path)
    items = [item for file in files for item in read_images(file, config.image_column)]
    decoded = decode_all(items, config, findings)
    images, labels = decoded.images, labels[decoded.kept]
    num_train = int((decoded.kept < num_train).sum())
    places = tuple(items[index][0] for index in decoded.kept.tolist())
    train = ImageSet(images[:num_train], labels[:num_train], class_names, places[:num_train])
    if not has_both:
        return train, None
    return train, ImageSet(images[num_train:], labels[num_train:], class_names, places[num_train:])


def _with_labels(
    files: list[Path], kinds: dict[Path, str | None], labels_of: dict[Path, FileLabels], findings: Findings
) -> list[Path]:
    """The files without those that are not of the training split and have no labels."""
    kept = [file for file in files if kinds[file] == "train" or labels_of[file].missing is None]
    for missing in (labels_of[file].missing for file in (kept or files)):
        if missing is not None:
            raise missing
    for file in files:
        if file not in kept:
            findings.leave_out(str(file), NO_LABELS)
    return kept


def _check_alike(known: list[FileLabels]) -> None:
    """See whether the labels of all files can be put together.

    Raises:
        ConfigError: they cannot.
    """
    first = known[0]
    for other in known[1:]:
        if other.column != first.column:
            raise ConfigError(
                f"The labels of {first.file} are in the column {first.column}, but those of {other.file} in "
                f"{other.column}; give both the same name."
            )
        if other.are_text != first.are_text:
            kinds = ["text" if labels.are_text else "whole numbers" for labels in (first, other)]
            raise ConfigError(f"The labels of {first.file} are {kinds[0]}, but those of {other.file} {kinds[1]}.")


def _text_classes(known: list[FileLabels], num_train: int, path: str) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as int64 (N,), and the class names, of labels that are text."""
    for labels in known:
        if labels.values.null_count:
            row = labels.values.is_null().to_pylist().index(True)
            raise ConfigError(f"Every image needs a label, but there is none in row {row} of {labels.file}.")
    texts = [text for labels in known for text in labels.values.to_pylist()]
    names = in_class_order(set(texts))
    trained = set(texts[:num_train])
    for name in names:
        if name not in trained:
            raise ConfigError(f"There is no training image with label {name} in {path}; each class needs one.")
    number = {name: index for index, name in enumerate(names)}
    return torch.tensor([number[text] for text in texts], dtype=torch.int64), tuple(names)


def _numbered_classes(known: list[FileLabels], num_train: int, path: str) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as int64 (N,), and the class names, of labels that are whole numbers."""
    names = _agreed_names(known)
    num_classes = len(names or ()) or 1 + max(pc.max(labels.values).as_py() or 0 for labels in known)
    allowed = "be whole numbers from 0" if names is None else f"lie in 0..{num_classes - 1}, which have names"
    for labels in known:
        fine = pc.and_(pc.greater_equal(labels.values, 0), pc.less(labels.values, num_classes))
        row = pc.index(pc.fill_null(fine, False), False).as_py()
        if row >= 0:
            got = "null" if labels.values[row].as_py() is None else labels.values[row]
            raise ConfigError(f"Labels must {allowed}, but got {got} in row {row} of {labels.file}.")
    numbers = torch.cat([torch.tensor(labels.values.to_numpy(zero_copy_only=False)) for labels in known])
    # Before anything as long as the number of classes is made: a stray label may be absurdly large.
    gap = _first_gap(numbers[:num_train])
    if gap < num_classes:
        label = f"{gap} ({names[gap]})" if names else f"{gap}"
        allowed = f"each class from 0 to {num_classes - 1} needs one"
        raise ConfigError(f"There is no training image with label {label} in {path}; {allowed}.")
    return numbers, names or tuple(map(str, range(num_classes)))


def read_unlabelled_parquet(path: str, config: DataConfig, findings: Findings) -> Tensor:
    """The images of Parquet files, which need no labels; of files of both splits, the training split's.

    They need not lie in the same column as those of the data: one that a file lacks is found as where none is given.

    Args:
        path: as for :func:`read_parquet`.
        config: the column of the images, and how they are read.
        findings: gets what is left out.

    Returns:
        uint8 (M, C, H, W), in the order of the files and rows.

    Raises:
        ConfigError: as :func:`read_parquet`, labels apart.
    """
    root, files = _find(path)
    kinds = {file: _kind(file.relative_to(root)) for file in files}
    if {"train", "test"} <= set(kinds.values()):
        files = [file for file in files if kinds[file] == "train"]
    items = [item for file in files for item in read_images(file, config.image_column, or_another=True)]
    if not items:
        raise ConfigError(f"The Parquet files of {path} hold no rows.")
    return decode_all(items, config, findings).images


def _find(path: str) -> tuple[Path, list[Path]]:
    """The files of ``path``, sorted, and the folder that they all lie in as far as the user has named it."""
    place = Path(path)
    if place.is_file():
        return place.parent, [place]
    if place.is_dir():
        root, candidates = place, [file for file in place.rglob("*.parquet") if not _is_hidden(file.relative_to(place))]
    elif glob.has_magic(path):
        root = next(parent for parent in place.parents if not glob.has_magic(str(parent)))
        candidates = [Path(file) for file in glob.glob(path, recursive=True)]
    else:
        raise ConfigError(f"{path} does not exist; {_LAYOUT}.")
    files = sorted(file for file in candidates if file.is_file())
    if not files:
        raise ConfigError(f"There is no Parquet file at {path}; {_LAYOUT}.")
    return root, files


def _is_hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts)


def _kind(file: Path) -> str | None:
    """Whether ``file``, relative to where the user pointed, calls itself ``train``, ``test`` or neither (or both)."""
    for name in (file.name.lower(), *(parent.name.lower() for parent in file.parents)):
        train, test = _TRAIN.search(name), _TEST.search(name)
        if train or test:
            return None if train and test else "train" if train else "test"
    return None


def _agreed_names(known: list[FileLabels]) -> tuple[str, ...] | None:
    """The class names of the files that state any."""
    stated = [labels for labels in known if labels.class_names is not None]
    for labels in stated[1:]:
        if labels.class_names != stated[0].class_names:
            raise ConfigError(f"{stated[0].file} and {labels.file} must state the same class names.")
    return stated[0].class_names if stated else None


def _first_gap(labels: Tensor) -> int:
    """The smallest label from 0 that does not occur."""
    present = np.unique(labels.numpy())
    return int(np.argmin(np.append(present == np.arange(len(present)), False)))
