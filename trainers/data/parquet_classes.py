"""The classes of labels that lie in several Parquet files."""

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from trainers.data.class_order import in_class_order
from trainers.data.config import LEAVE_OUT_KEY, REFUSE
from trainers.data.findings import Findings
from trainers.data.parquet_table import FileLabels
from trainers.errors import ConfigError
from trainers.params import LARGEST
from trainers.text import composed

NO_LABEL = "a row without a label"
"""Why an image is left out."""


def leave_out_unlabelled(known: list[FileLabels], unreadable: str, findings: Findings) -> None:
    """Note the rows without a label, of files that have some.

    Args:
        known: the labels of each file.
        unreadable: as ``data.unreadable``: whether these rows may be left out.
        findings: gets them.

    Raises:
        ConfigError: there is one, and none may be left out.
    """
    for labels in known:
        for row in labels.values.is_null().to_numpy(zero_copy_only=False).nonzero()[0].tolist():
            if unreadable == REFUSE:
                raise ConfigError(
                    f"Every image needs a label, but there is none in row {row} of {labels.file}. {LEAVE_OUT_KEY} goes "
                    "on without such rows."
                )
            findings.leave_out(f"row {row} of {labels.file}", NO_LABEL)


def classes_of(known: list[FileLabels], num_train: int, path: str) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as int64 (N,), and the class names. Rows without a label are none of the N.

    Args:
        known: the labels of each file, the training files first.
        num_train: how many of the N are those of training images.
        path: of all files, for errors.

    Raises:
        ConfigError: files disagree on the column, the kind of labels or the class names, a label is negative or without
            a name, a class has no training image, or numbers without names leave one out.
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
    texts = [composed(text) for labels in known for text in labels.values.drop_null().to_pylist()]
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
    last = len(names) - 1 if names else LARGEST
    allowed = f"lie in 0..{last}, which have names" if names else "be whole numbers from 0"
    for labels in known:
        row = pc.index(pc.and_(pc.greater_equal(labels.values, 0), pc.less_equal(labels.values, last)), False).as_py()
        if row >= 0:
            raise ConfigError(f"Labels must {allowed}, but got {labels.values[row]} in row {row} of {labels.file}.")
    numbers = torch.cat([torch.tensor(labels.values.drop_null().to_numpy()) for labels in known])
    if names is None:
        return _counted_classes(numbers, num_train, known, path)
    gap = _first_gap(numbers[:num_train], 0)
    if gap <= last:
        allowed = f"each class from 0 to {last} needs one"
        raise ConfigError(f"There is no training image with label {gap} ({names[gap]}) in {path}; {allowed}.")
    return numbers, names


def _counted_classes(
    numbers: Tensor, num_train: int, known: list[FileLabels], path: str
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels from 0 as int64 (N,), and the class names, of numbers without names: they count up from any number."""
    first, last = int(numbers.min()), int(numbers.max())
    gap = _first_gap(numbers[:num_train], first)
    if gap <= last:
        # A stray label may be absurdly large, and is named by the row that has it.
        stray = int(numbers[numbers >= gap].min())
        row, file = next((row, labels.file) for labels in known if (row := pc.index(labels.values, stray).as_py()) >= 0)
        has = "has it; each class needs one"
        if stray > gap:
            has = f"has label {stray}; numbers without class names must count up by one, but labels may be text"
        raise ConfigError(f"There is no training image with label {gap} in {path}, but row {row} of {file} {has}.")
    return numbers - first, tuple(map(str, range(first, last + 1)))


def _agreed_names(known: list[FileLabels]) -> tuple[str, ...] | None:
    """The class names of the files that state any."""
    stated = [labels for labels in known if labels.class_names is not None]
    for labels in stated[1:]:
        if labels.class_names != stated[0].class_names:
            raise ConfigError(f"{stated[0].file} and {labels.file} must state the same class names.")
    return stated[0].class_names if stated else None


def _first_gap(labels: Tensor, first: int) -> int:
    """The smallest label from ``first`` that does not occur."""
    present = np.unique(labels.numpy())
    return first + int(np.argmin(np.append(present == first + np.arange(len(present)), False)))
