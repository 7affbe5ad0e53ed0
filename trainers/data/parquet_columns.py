"""Which column of a Parquet file holds the images, and which one the labels."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainers.errors import ConfigError
from trainers.text import composed

_IMAGES = ("img", "image")
_LABELS = ("label", "labels", "fine_label", "coarse_label", "class", "class_label", "category", "target", "cls", "y")
_IMAGE_KEY = "data.image_column (of train: --image-column)"
_LABEL_KEY = "data.label_column (of train: --label-column)"


def find_image_column(schema: pa.Schema, given: str | None, file: Path) -> str:
    """The name of the image column: the one given; else ``img`` or ``image``; else the only one that holds images.

    Images are binary, or structs with a binary field ``bytes`` (as Hugging Face writes them), or lists of one of these.

    Args:
        schema: of the file.
        given: by the user; null: it is to be found.
        file: for errors.

    Raises:
        ConfigError: there is none, or more than one could be meant.
    """
    if given is not None:
        if given not in schema.names:
            raise ConfigError(f"{file} has no column {given}, but {', '.join(schema.names)}; {_IMAGE_KEY} names one.")
        _check_images(schema, given, file)
        return given
    kinds = {field.name: field.type for field in schema}
    usable = [name for name, kind in kinds.items() if holds_images(kind)]
    named = [name for name in kinds if name.lower() in _IMAGES]
    structs = [name for name in usable if not is_binary(kinds[name])]
    found = [name for name in named if name in usable] or named or structs or usable
    if len(found) > 1:
        raise ConfigError(f"{file} has several columns of images: {', '.join(found)}; {_IMAGE_KEY} names one.")
    if not found:
        raise ConfigError(
            f"{file} needs an image column, binary or a struct with binary bytes, but has only "
            f"{', '.join(schema.names)}."
        )
    _check_images(schema, found[0], file)
    return str(found[0])


def _check_images(schema: pa.Schema, name: str, file: Path) -> None:
    _check_single(schema, name, file, _IMAGE_KEY)
    kind = schema.field(name).type
    if not holds_images(kind):
        raise ConfigError(f"The column {name} of {file} must be binary or a struct with binary bytes, but is {kind}.")


def _check_single(schema: pa.Schema, name: str, file: Path, key: str) -> None:
    count = schema.names.count(name)
    if count > 1:
        raise ConfigError(f"{file} has {count} columns called {name}; rename all but one, or {key} names another.")


def find_label_column(schema: pa.Schema, given: str | None, file: Path) -> str | None:
    """The name of the label column; null if the file has none.

    It is the one given; else ``label``; else the only one that the file's metadata calls a ClassLabel; else the only
    one with a name that is usual for labels (``labels``, ``fine_label``, ``class``, ...).

    Args:
        schema: of the file.
        given: by the user; null: it is to be found.
        file: for errors.

    Raises:
        ConfigError: more than one could be meant.
    """
    found = _label_columns(schema, given)
    if len(found) > 1:
        sizes = [len(class_names_of(schema, name) or ()) for name in found]
        shown = [f"{name} ({size} classes)" if size else name for name, size in zip(found, sizes, strict=True)]
        raise ConfigError(f"{file} has several label columns: {', '.join(shown)}; {_LABEL_KEY} names one.")
    if not found:
        return None
    _check_single(schema, found[0], file, _LABEL_KEY)
    return found[0]


def _label_columns(schema: pa.Schema, given: str | None) -> list[str]:
    """The names that could be meant, each once."""
    names = list(dict.fromkeys(schema.names))
    if given is not None or "label" in names:
        wanted = "label" if given is None else given
        return [wanted] if wanted in names else []
    stated = [name for name in names if class_names_of(schema, name)]
    return stated or [name for name in names if name.lower() in _LABELS]


def no_label_column(schema: pa.Schema, given: str | None, file: Path) -> ConfigError:
    """The error for a file that must have labels, and has no column of them."""
    called = f" called {given}" if given is not None else ""
    return ConfigError(
        f"{file} needs a label column{called}, but has only {', '.join(schema.names)}; {_LABEL_KEY} names it."
    )


def class_names_of(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The class names that the metadata of Hugging Face's ``datasets`` states for a column; null if it states none.

    They are written as :func:`trainers.text.composed` says.
    """
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):  # no metadata, or none of this form
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    return tuple(map(composed, names))


def holds_images(kind: pa.DataType) -> bool:
    """Whether values of this type can be images: bytes, structs with bytes, or lists of either."""
    if is_list(kind):
        kind = kind.value_type
    return is_binary(kind) or holds_bytes(kind)


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether values of this type are structs with a binary field ``bytes``."""
    return pa.types.is_struct(kind) and any(field.name == "bytes" and is_binary(field.type) for field in kind)


def is_binary(kind: pa.DataType) -> bool:
    """Whether values of this type are bytes, in a dictionary or not."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def is_list(kind: Any) -> bool:
    """Whether values of this type are lists."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)
