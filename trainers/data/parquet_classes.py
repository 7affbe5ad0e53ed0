"""The classes of labels that lie in several Parquet files."""

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from trainers.data.class_order import in_class_order
from trainers.data.parquet_table import FileLabels
from trainers.errors import ConfigError


def classes_of(known: list[FileLabels], num_train: int, path: str) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as int64 (N,), and the class names.

    Args:
        known: the labels of each file, the training files first.
        num_train: how many of them are those of training images.
        path: of all files, for errors.

    Raises:
        ConfigError: files disagree on the column, the kind of labels or the class names, a label is missing, negative
            or without a name, or a class has no training image.
    """
    _check_alike(known)
    return (_text_classes if known[0].are_text else _numbered_classes)(known, num_train, path)


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
