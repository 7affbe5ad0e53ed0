"""Which column of a Parquet file holds the images, and which one the labels."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainers.errors import ConfigError

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
    usable = [field.name for field in schema if holds_images(field.type)]
    named = [name for name in schema.names if name.lower() in _IMAGES]
    structs = [name for name in usable if not is_binary(schema.field(name).type)]
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
    kind = schema.field(name).type
    if not holds_images(kind):
        raise ConfigError(f"The column {name} of {file} must be binary or a struct with binary bytes, but is {kind}.")


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
    if given is not None:
        return given if given in schema.names else None
    if "label" in schema.names:
        return "label"
    stated = [name for name in schema.names if class_names_of(schema, name)]
    found = stated or [name for name in schema.names if name.lower() in _LABELS]
    if len(found) > 1:
        shown = ", ".join(f"{name} ({len(class_names_of(schema, name) or ())} classes)" for name in stated)
        raise ConfigError(f"{file} has several label columns: {shown or ', '.join(found)}; {_LABEL_KEY} names one.")
    return found[0] if found else None


def no_label_column(schema: pa.Schema, given: str | None, file: Path) -> ConfigError:
    """The error for a file that must have labels, and has no column of them."""
    called = f" called {given}" if given is not None else ""
    return ConfigError(
        f"{file} needs a label column{called}, but has only {', '.join(schema.names)}; {_LABEL_KEY} names it."
    )


def class_names_of(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The class names that the metadata of Hugging Face's ``datasets`` states for a column; null if it states none."""
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):  # no metadata, or none of this form
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


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
