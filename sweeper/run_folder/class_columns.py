"""Names of classes beside their numbers in tables: ``class.target`` beside ``target``."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sweeper.preset.class_numbers import CLASS_KEYS
from trainers.data.class_names import label

CLASS_COLUMNS = {key if key == "target" else f"param.scenario.{key}": f"class.{key}" for key in CLASS_KEYS}
"""Columns that hold classes by number, and the columns with their names."""


def class_columns(row: Mapping[str, Any], class_names: Sequence[str]) -> dict[str, str | None]:
    """The columns with names of classes that belong to a row of ``trials.parquet``; null where no class is known."""
    return {name: names_of(row[column], class_names) for column, name in CLASS_COLUMNS.items() if column in row}


def with_class_columns(frame: pd.DataFrame, class_names: Sequence[str]) -> pd.DataFrame:
    """Rows of ``trials.parquet`` with the columns of names.

    Args:
        frame: the rows.
        class_names: of the data; empty: they are not known, and there are no such columns.
    """
    known = {name: column for column, name in CLASS_COLUMNS.items() if column in frame and class_names}
    names = {
        name: pd.Series([names_of(value, class_names) for value in frame[column]], frame.index, object)
        for name, column in known.items()
    }
    return frame.assign(**names)


def names_of(value: Any, class_names: Sequence[str]) -> str | None:
    """The name of a class, or of several with commas between them.

    Args:
        value: as tables hold it: a number, a list or its JSON, or a null.
        class_names: of the data.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:  # a damaged table
            return None
    if isinstance(value, (list, tuple)):
        return ", ".join(names_of(one, class_names) or "?" for one in value)
    if pd.isna(value) or not 0 <= value < len(class_names):
        return None
    return class_names[int(value)]


def short(value: Any) -> str:
    """A value of an attack's parameter as labels show it."""
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def shown_values(frame: pd.DataFrame, column: str) -> pd.Series:
    """The values of an attack's parameter as labels show them, classes with their names: ``2 (cat)``.

    Args:
        frame: rows of ``trials.parquet``.
        column: of the parameter.
    """
    texts = frame[column].map(short)
    names = CLASS_COLUMNS.get(column)
    if names not in frame:
        return texts
    shown = [label(text, None if pd.isna(name) else name) for text, name in zip(texts, frame[names], strict=True)]
    return pd.Series(shown, frame.index, object)
