"""One Parquet file of encoded images and their labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainers.data.decode import NoImage
from trainers.data.memory import available_memory
from trainers.data.parquet_columns import (
    class_names_of,
    find_image_column,
    find_label_column,
    holds_bytes,
    is_list,
    no_label_column,
)
from trainers.errors import ConfigError
from trainers.params import LARGEST

_ROWS = 256
"""Read at a time."""
_BUFFER = 2**20
"""Bytes that are read of a column at a time, though whole pages; without it, all that a row group has of it are."""
_NO_BYTES = NoImage("its bytes are not there; they must be in the file, as a path in it is not opened")


@dataclass(frozen=True)
class FileLabels:
    """The labels of a file.

    Args:
        file: it.
        column: that holds them; null: the file has no such column.
        values: whole numbers (int64) or text (string) by row, null where there is none.
        class_names: as the file's metadata has them for the column; null if it does not.
        missing: the error if the labels of this file are needed; null if there are some.
    """

    file: Path
    column: str | None
    values: pa.Array
    class_names: tuple[str, ...] | None
    missing: ConfigError | None

    @property
    def are_text(self) -> bool:
        """Whether classes are known by their names, and not by number."""
        return bool(pa.types.is_string(self.values.type))


def read_labels(file: Path, given: str | None) -> FileLabels:
    """Read the labels of a file, which are whole numbers, text or true and false.

    Floating-point numbers without a fraction are whole numbers; NaN, -1 and an empty text are no label. ``false`` and
    ``true`` become text. Class names come from the metadata that Hugging Face's ``datasets`` writes.

    Args:
        file: it.
        given: the column, by name; null: it is found (:func:`trainers.data.parquet_columns.find_label_column`).

    Raises:
        ConfigError: the file cannot be read, more than one column could be meant, or the column holds something else.
    """
    with _opened(file) as parquet:
        schema = parquet.schema_arrow
        column = find_label_column(schema, given, file)
        if column is None:
            values, missing = pa.nulls(parquet.metadata.num_rows, pa.int64()), no_label_column(schema, given, file)
            return FileLabels(file, None, values, None, missing)
        table = _read(parquet, [column], file)
    values = _whole_or_text(table.column(column).combine_chunks(), column, file)
    nothing: ConfigError | None = None
    if len(values) == values.null_count > 0:
        nothing = ConfigError(f"No image of {file} has a label: the column {column} holds null or -1 alone.")
    return FileLabels(file, column, values, class_names_of(schema, column), nothing)


def read_images(file: Path, given: str | None, or_another: bool = False) -> Iterator[tuple[str, bytes | NoImage]]:
    """Read the images of a file, some rows at a time: per row its place (``row 17 of FILE``, from 0) and its encoded
    bytes.

    A row without bytes, or with several images, has none. A ``path`` beside the bytes is not opened: a data file has no
    say in which other files are.

    Args:
        file: it.
        given: the column, by name; null: it is found (:func:`trainers.data.parquet_columns.find_image_column`).
        or_another: find it too if the file lacks the one given.

    Raises:
        ConfigError: the file cannot be read, has no such column, or more than one could be meant.
    """
    with _opened(file) as parquet:
        if or_another and given not in parquet.schema_arrow.names:
            given = None
        column = find_image_column(parquet.schema_arrow, given, file)
        kind = parquet.schema_arrow.field(column).type
        encoded, row = _only_ones if is_list(kind) else _encoded, 0
        # Of a struct the bytes alone are read. Lists are read whole: their writers name the part below differently.
        for part in _parts(parquet, [f"{column}.bytes" if holds_bytes(kind) else column], file):
            for image in encoded(pa.chunked_array([part.column(column)])):
                yield f"row {row} of {file}", image
                row += 1


def count_rows(file: Path) -> int:
    """How many rows a file has.

    Raises:
        ConfigError: it cannot be read.
    """
    with _opened(file) as parquet:
        return int(parquet.metadata.num_rows)


def _encoded(values: pa.ChunkedArray) -> list[bytes | NoImage]:
    """The bytes of each image, or of the struct that holds them."""
    values = pc.struct_field(values, "bytes") if holds_bytes(values.type) else values
    return [_NO_BYTES if value is None else value for value in values.to_pylist()]


def _only_ones(lists: pa.ChunkedArray) -> list[bytes | NoImage]:
    """The one image of each list."""
    images = iter(_encoded(pc.list_flatten(lists)))
    rows = (list(islice(images, count)) for count in pc.fill_null(pc.list_value_length(lists), 0).to_pylist())
    return [row[0] if len(row) == 1 else NoImage(f"the row holds {len(row)} images, and must hold one") for row in rows]


def _whole_or_text(values: pa.Array, column: str, file: Path) -> pa.Array:
    """Labels as whole numbers (int64) or text (string), null where there is none."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_boolean(kind):
        return pc.if_else(values, "true", "false")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        texts = values.cast(pa.string())
        return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**63))
        _refuse_others(whole, values, "whole numbers, text or true and false", file)
    elif pa.types.is_uint64(kind):
        _refuse_others(pc.less_equal(values, pa.scalar(LARGEST, pa.uint64())), values, f"at most {LARGEST}", file)
    elif not pa.types.is_integer(kind) and not pa.types.is_null(kind):
        raise ConfigError(
            f"The column {column} of {file} must hold whole numbers, text or true and false, but holds {kind}."
        )
    numbers = values.cast(pa.int64())
    return pc.if_else(pc.equal(numbers, -1), pa.scalar(None, pa.int64()), numbers)


def _refuse_others(allowed: pa.Array, values: pa.Array, words: str, file: Path) -> None:
    row = pc.index(allowed, False).as_py()
    if row >= 0:
        raise ConfigError(f"Labels must be {words}, but got {values[row]} in row {row} of {file}.")


def _read(parquet: pq.ParquetFile, columns: list[str], file: Path) -> pa.Table:
    """The columns, whole.

    Raises:
        ConfigError: memory does not hold them.
    """
    parts, size = [], 0
    for part in _parts(parquet, columns, file):
        size += part.nbytes
        _check_room(size, file)
        parts.append(part)
    return pa.Table.from_batches(parts) if parts else parquet.read(columns=columns)


def _parts(parquet: pq.ParquetFile, columns: list[str], file: Path) -> Iterator[pa.RecordBatch]:
    """The columns, some rows at a time: a few hundred bytes may stand for more than memory holds, without saying so."""
    for part in parquet.iter_batches(batch_size=_ROWS, columns=columns):
        _check_room(part.nbytes, file)
        yield part


def _check_room(size: int, file: Path) -> None:
    if size > available_memory():
        raise ConfigError(f"The images of {file} do not fit into memory.")


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as parquet:
            yield parquet
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"Cannot read {file} as a Parquet file: {reason}.") from error
