"""One Parquet file of encoded images and their labels."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from trainers.data.memory import available_memory
from trainers.errors import ConfigError

_IMAGE_COLUMNS = ("img", "image")
_ROWS = 256
"""Read at a time."""


@dataclass(frozen=True)
class ImageTable:
    """What a file holds.

    Args:
        items: per image its place (``row 17 of FILE``, from 0) and its encoded bytes.
        labels: int64 (N,), of any value.
        class_names: as the file's metadata has them; None if it does not.
    """

    items: list[tuple[str, bytes]]
    labels: Tensor
    class_names: tuple[str, ...] | None


def read_image_table(file: Path) -> ImageTable:
    """Read a file with an image column, ``img`` or ``image``, and an integer column ``label``.

    The image column is binary, or a struct with a binary field ``bytes``. A ``path`` beside it is not even read: a data
    file has no say in which other files are opened. Class names come from the schema metadata that Hugging Face's
    ``datasets`` writes.

    Raises:
        ConfigError: the file cannot be read, a column is missing or of the wrong type, or a row lacks its image bytes
            or its label.
    """
    with _opened(file) as parquet:
        schema = parquet.schema_arrow
        image, leaf = _image_column(schema, file)
        _check_label_column(schema, file)
        table = _read(parquet, [leaf, "label"], file)
        labels = table.column("label").cast(pa.int64())
    items = _items(table, image, leaf, file)
    if labels.null_count:
        row = labels.is_null().to_pylist().index(True)
        raise ConfigError(f"Labels must be whole numbers from 0, but got null in row {row} of {file}.")
    return ImageTable(items, torch.tensor(labels.to_numpy()), _class_names(schema))


def read_images(file: Path) -> list[tuple[str, bytes]]:
    """The images alone of such a file, as ``ImageTable.items``; it needs no labels.

    Raises:
        ConfigError: as :func:`read_image_table`, labels apart.
    """
    with _opened(file) as parquet:
        image, leaf = _image_column(parquet.schema_arrow, file)
        table = _read(parquet, [leaf], file)
    return _items(table, image, leaf, file)


def _read(parquet: pq.ParquetFile, columns: list[str], file: Path) -> pa.Table:
    """The columns, part by part: a few hundred bytes may stand for more than memory holds, without saying so."""
    parts, size = [], 0
    for part in parquet.iter_batches(batch_size=_ROWS, columns=columns):
        size += part.nbytes
        if size > available_memory():
            raise ConfigError(f"The images of {file} do not fit into memory.")
        parts.append(part)
    return pa.Table.from_batches(parts) if parts else parquet.read(columns=columns)


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"Cannot read {file} as a Parquet file: {reason}.") from error


def _items(table: pa.Table, image: str, leaf: str, file: Path) -> list[tuple[str, bytes]]:
    encoded = table.column(image)
    encoded = encoded if leaf == image else pc.struct_field(encoded, "bytes")
    items = [(f"row {row} of {file}", value) for row, value in enumerate(encoded.to_pylist())]
    for place, value in items:
        if value is None:
            raise ConfigError(f"No image bytes in {place}; they must be in the file, as a path in it is not opened.")
    return items


def _check_label_column(schema: Any, file: Path) -> None:
    if "label" not in schema.names:
        raise ConfigError(f"{file} needs an integer column called label, but has only {', '.join(schema.names)}.")
    label = schema.field("label").type
    if not pa.types.is_integer(label):
        raise ConfigError(f"The column label of {file} must hold integers, but holds {label}.")


def _image_column(schema: Any, file: Path) -> tuple[str, str]:
    """The name of the image column, and of what to read of it."""
    name = next((name for name in _IMAGE_COLUMNS if name in schema.names), None)
    if name is None:
        raise ConfigError(f"{file} needs an image column called img or image, but has only {', '.join(schema.names)}.")
    image = schema.field(name).type
    if _is_binary(image):
        return name, name
    if pa.types.is_struct(image) and any(field.name == "bytes" and _is_binary(field.type) for field in image):
        return name, f"{name}.bytes"
    raise ConfigError(f"The column {name} of {file} must be binary or a struct with binary bytes, but is {image}.")


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _class_names(schema: Any) -> tuple[str, ...] | None:
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):  # no metadata, or none of this form
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)
