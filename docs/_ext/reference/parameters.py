"""Rows of keys: name, type and range, default, meaning."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from reference.markdown import code, summary, table
from trainers.params import LARGEST, Parameters

HEADINGS = ("key", "allowed", "default", "meaning")
TYPES = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}
REQUIRED = "required"
Row = tuple[str, str, str, str]


def key_table(rows: Iterable[Row]) -> str:
    """The table of some keys."""
    return table(HEADINGS, rows)


def parameter_rows(kind: type[Parameters], keys: Iterable[str] | None = None) -> list[Row]:
    """A row for each parameter of a dataclass, or for some of them."""
    hints = get_type_hints(kind)
    wanted = kind.keys() if keys is None else list(keys)
    rows: list[Row] = []
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in wanted:
            continue
        known = field.metadata
        default = REQUIRED if field.default is MISSING and field.default_factory is MISSING else code(field.default)
        hint = hints[field.name]
        if known.get("names_class"):
            may = class_words(hint)
        else:
            may = allowed(hint, known.get("choices"), known.get("bounds", {}))
        rows.append((code(field.name), may, default, known.get("doc", "")))
    return rows


def model_rows(model: Any) -> list[Row]:
    """A row for each field of a pydantic model."""
    rows: list[Row] = []
    for name, field in model.model_fields.items():
        if field.is_required():
            default = REQUIRED
        else:
            value = field.get_default(call_default_factory=True)
            default = "" if _is_block(value) else code(value)
        limits = {k: getattr(item, k) for item in field.metadata for k in ("ge", "gt", "le", "lt") if hasattr(item, k)}
        may = allowed(field.annotation, _choices(field.annotation), limits)
        rows.append((code(name), may, default, field.description or summary(field.annotation.__doc__).rstrip(".")))
    return rows


def _is_block(value: Any) -> bool:
    """Whether a default is a group of keys, which has a table of its own."""
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, (Parameters, BaseModel)) for item in items)


def allowed(hint: Any, choices: Iterable[Any] | None, limits: Mapping[str, float | None]) -> str:
    """Type and range of a value: ``whole number, at least 1``; or the list of choices. A limit may be null: none."""
    return choice_list(choices) if choices else ", ".join(filter(None, [type_name(hint), bounds(limits)]))


def class_words(hint: Any) -> str:
    """The type in words of a parameter that holds a class of the data, or several."""
    parts = [get_origin(part) or part for part in get_args(hint)]
    words = "list of classes" if tuple in parts else "class, by number or name"
    return f"{words} or null" if NoneType in parts else words


def type_name(hint: Any) -> str:
    """The type of a value in words."""
    origin = get_origin(hint)
    if origin is Annotated:
        return type_name(get_args(hint)[0])
    if origin in (Union, UnionType):
        parts = [type_name(part) for part in get_args(hint) if part is not NoneType]
        return " or ".join(dict.fromkeys(parts)) + (" or null" if NoneType in get_args(hint) else "")
    if origin in (tuple, list):
        item = type_name(get_args(hint)[0])
        return f"list of {'numbers' if item == 'number' else 'whole numbers' if item == 'whole number' else 'blocks'}"
    if origin is dict or hint is dict:
        return "mapping"
    return TYPES.get(hint, "block")


def _choices(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        found = [choice for part in get_args(hint) for choice in _choices(part)]
        return (*found, None) if found and NoneType in get_args(hint) else tuple(found)
    return ()


def choice_list(choices: Iterable[Any]) -> str:
    """What may be chosen."""
    return ", ".join(map(code, choices))


def bounds(limits: Mapping[str, float | None]) -> str:
    """A range in words: ``above 0, at most 1``."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(f"{words[kind]} {limit:g}" for kind, limit in limits.items() if limit not in (None, LARGEST))
