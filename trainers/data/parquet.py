"""Image sets in Parquet files, as the Hugging Face Hub lays them out."""

import glob
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainers.data.config import DataConfig
from trainers.data.encoded import decode_all
from trainers.data.findings import Findings
from trainers.data.hold_out import hold_out
from trainers.data.image_set import ImageSet, Splits
from trainers.data.parquet_table import ImageTable, read_image_table, read_images
from trainers.data.split_names import UNUSED, Split, measured_on, splits_in
from trainers.errors import ConfigError

_LAYOUT = "parquet:PATH takes a file, a folder or a glob"


def load_parquet(path: str, config: DataConfig, findings: Findings) -> Splits:
    """Read both splits; without files of both, a stratified 20% of the images, drawn by the seed, is the test split.

    The rest is as in :func:`read_parquet`.
    """
    train, test = read_parquet(path, config, findings)
    return hold_out(train, config.seed) if test is None else Splits(train, test)


def read_parquet(path: str, config: DataConfig, findings: Findings) -> tuple[ImageSet, ImageSet | None]:
    """Read Parquet files as `trainers.data.parquet_table.read_image_table` describes them.

    A file belongs to the training split if its name has the word ``train``, to the test split if it has ``test``, and
    to a validation split if it has ``validation``, ``valid`` or ``val``; a name with none of these is read from the
    folders below ``path`` that the file lies in, the nearest first. Without a test split the validation split is one;
    with both, the validation split is left out. Unless there are a training and such a split, all files are put
    together and there is no test split. A class that no file names is called by its number.

    Args:
        path: a file, a folder (all ``*.parquet`` below it that are not hidden) or a glob.
        config: how images are read.
        findings: gets what is left out.

    Raises:
        ConfigError: no file there, a file or an image that cannot be read, a column that is missing or of the wrong
            type, an image without bytes, a label that is null, negative or without a name, files that disagree on the
            class names, or a class without a training image. Rows are counted from 0.
    """
    root, files = _find(path)
    kinds = {file: _kind(file.relative_to(root)) for file in files}
    measured = measured_on(kinds.values())
    has_both = "train" in kinds.values() and measured is not None
    if has_both:
        for file, kind in kinds.items():
            if kind is None:
                raise ConfigError(f"{file} must be named train or test (or validation), as other files of {path} are.")
            if kind not in ("train", measured):
                findings.leave_out(str(file.relative_to(root)), UNUSED)
        files = [file for kind in ("train", measured) for file in files if kinds[file] == kind]
    tables = {file: read_image_table(file) for file in files}
    items = [item for table in tables.values() for item in table.items]
    if not items:
        raise ConfigError(f"The Parquet files of {path} hold no rows.")
    labels = torch.cat([table.labels for table in tables.values()])
    num_train = sum(len(tables[file].items) for file in files if kinds[file] == "train") if has_both else len(items)
    names = _agreed_names(tables)
    num_classes = _num_classes(names, labels, items)
    # Before anything as long as the number of classes is made: a stray label may be absurdly large.
    gap = _first_gap(labels[:num_train])
    if gap < num_classes:
        label = f"{gap} ({names[gap]})" if names else f"{gap}"
        allowed = f"each class from 0 to {num_classes - 1} needs one"
        raise ConfigError(f"There is no training image with label {label} in {path}; {allowed}.")
    class_names = names or tuple(map(str, range(num_classes)))
    decoded = decode_all(items, config, findings)
    images, labels = decoded.images, labels[decoded.kept]
    num_train = int((decoded.kept < num_train).sum())
    places = tuple(items[index][0] for index in decoded.kept.tolist())
    train = ImageSet(images[:num_train], labels[:num_train], class_names, places[:num_train])
    if not has_both:
        return train, None
    return train, ImageSet(images[num_train:], labels[num_train:], class_names, places[num_train:])


def read_unlabelled_parquet(path: str, config: DataConfig, findings: Findings) -> Tensor:
    """The images of Parquet files, which need no column ``label``; of files of both splits, the training split's.

    Args:
        path: as for :func:`read_parquet`.
        config: how images are read.
        findings: gets what is left out.

    Returns:
        uint8 (M, C, H, W), in the order of the files and rows.

    Raises:
        ConfigError: as :func:`read_parquet`, labels apart.
    """
    root, files = _find(path)
    kinds = {file: _kind(file.relative_to(root)) for file in files}
    if "train" in kinds.values() and measured_on(kinds.values()) is not None:
        files = [file for file in files if kinds[file] == "train"]
    items = [item for file in files for item in read_images(file)]
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


def _kind(file: Path) -> Split | None:
    """Which split ``file``, relative to where the user pointed, calls itself; null: none, or more than one."""
    for name in (file.name, *(parent.name for parent in file.parents)):
        words = splits_in(name)
        if words:
            return words[0] if len(words) == 1 else None
    return None


def _agreed_names(tables: dict[Path, ImageTable]) -> tuple[str, ...] | None:
    """The class names of the files that state any."""
    stated = {file: table.class_names for file, table in tables.items() if table.class_names is not None}
    first = next(iter(stated), None)
    for file, names in stated.items():
        if first is not None and names != stated[first]:
            raise ConfigError(f"{first} and {file} must state the same class names.")
    return None if first is None else stated[first]


def _num_classes(names: tuple[str, ...] | None, labels: Tensor, items: list[tuple[str, bytes]]) -> int:
    """How many classes there are, once no label is below 0 or above the last that has a name."""
    num_classes = int(labels.max()) + 1 if names is None else len(names)
    for wrong in ((labels < 0) | (labels >= num_classes)).nonzero().flatten().tolist():
        allowed = "be whole numbers from 0" if names is None else f"lie in 0..{num_classes - 1}, which have names"
        raise ConfigError(f"Labels must {allowed}, but got {int(labels[wrong])} in {items[wrong][0]}.")
    return num_classes


def _first_gap(labels: Tensor) -> int:
    """The smallest label from 0 that does not occur."""
    present = np.unique(labels.numpy())
    return int(np.argmin(np.append(present == np.arange(len(present)), False)))
