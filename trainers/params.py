"""Parameter dataclasses: each field has a range, so a bad value gives the same error wherever it comes from."""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from trainers.errors import ConfigError
from trainers.text import did_you_mean

LARGEST = 2**63 - 1
"""Largest whole number that tensors and files can hold."""


def param(
    default: Any = MISSING,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: tuple[Any, ...] | None = None,
    names_class: bool = False,
    check: Callable[[Any], None] | None = None,
    doc: str = "",
) -> Any:
    """A dataclass field with a range (``ge``, ``gt``, ``le``, ``lt``) or ``choices``, and one line of ``doc``.

    One that ``names_class`` holds a class of the data, or a list of them: the number of each, from 0, or its name. What
    else is to be seen of a value that is not null, ``check`` sees; it raises a ConfigError that goes on after the name.
    """
    bounds = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    metadata = {"bounds": {k: v for k, v in bounds.items() if v is not None}, "choices": choices, "doc": doc}
    return field(default=default, metadata=metadata | {"names_class": names_class, "check": check})


def changed(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The ``values`` that differ from their defaults; only these enter a seed, a key or a digest.

    A field that is added later therefore changes none of these while it has its default.

    Args:
        kind: the dataclass of the fields; a field without default always differs.
        values: values by field name. :class:`Parameters` among them, alone or in a tuple, are reduced in the same way.
    """
    return {f.name: _reduced(values[f.name]) for f in fields(kind) if values[f.name] != _default(f)}


def _default(of: Field[Any]) -> Any:
    return of.default if of.default_factory is MISSING else of.default_factory()


def _reduced(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_reduced(item) for item in value)
    return value.changed() if isinstance(value, Parameters) else value


class Parameters:
    """Base of parameter dataclasses: checks the type and the range of every field.

    Raises:
        ConfigError: a field has the wrong type or lies outside its range.
    """

    def __post_init__(self) -> None:
        """Check every field, and turn whole numbers given for floats into floats."""
        for name in self.keys():
            object.__setattr__(self, name, self.check(name, getattr(self, name)))

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The names of the parameters, in the order in which they are declared."""
        return tuple(f.name for f in fields(cls))  # type: ignore[arg-type]

    @classmethod
    def class_keys(cls) -> tuple[str, ...]:
        """The names of the parameters that hold a class of the data, or a list of them."""
        return tuple(f.name for f in fields(cls) if f.metadata.get("names_class"))  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Any]:
        """The values of the parameters by name."""
        return {name: getattr(self, name) for name in self.keys()}

    def changed(self) -> dict[str, Any]:
        """The parameters that differ from their defaults, see :func:`changed`."""
        return changed(type(self), self.as_dict())

    @classmethod
    def check(cls, name: str, value: Any) -> Any:
        """Return ``value`` in the type of field ``name``.

        Raises:
            ConfigError: there is no such field, or it does not allow this value.
        """
        if name not in cls.keys():
            raise ConfigError(
                f"{name} is no parameter here; known are {', '.join(cls.keys())}.{did_you_mean(str(name), cls.keys())}"
            )
        hint = _hints(cls)[name]  # type: ignore[arg-type]  # a class is hashable
        metadata = next(f.metadata for f in fields(cls) if f.name == name)  # type: ignore[arg-type]
        if metadata.get("names_class"):
            return _checked_class(name, value, hint)
        checked = _checked(name, value, hint, metadata.get("bounds", {}), metadata.get("choices"))
        if checked is not None and metadata.get("check") is not None:
            try:
                metadata["check"](checked)
            except ConfigError as error:
                raise ConfigError(f"{name} {error}") from error
        return checked


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of a class's fields, which take long to read from their text."""
    return get_type_hints(kind)


def _checked_class(name: str, value: Any, hint: Any) -> Any:
    """A class by number or name, or a tuple of such. Whether the data has it, the data must tell."""
    options = get_args(hint)
    several = any(get_origin(option) is tuple for option in options)
    if several and isinstance(value, (list, tuple)):
        return tuple(_checked_class(name, item, int | str) for item in value)
    if value is None and NoneType in options:
        return None
    if not several and isinstance(value, str) and value:
        return value
    if not several and isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST:
        return value
    allowed = "a list of classes, each" if several else "a class,"
    null = " (or null)" if NoneType in options else ""
    raise ConfigError(
        f"{name} must be {allowed} by its number, from 0, or by its name (in quotes, if YAML reads it as something "
        f"else, as yes){null}, but got {value!r}."
    )


def _checked(name: str, value: Any, hint: Any, bounds: dict[str, float], choices: tuple[Any, ...] | None) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and NoneType in options:
        return None
    kinds = [o for o in options if o is not NoneType]
    allowed = _allowed(kinds, bounds, choices) + (" (or null)" if NoneType in options else "")
    problem = ConfigError(f"{name} must be {allowed}, but got {value!r}.")
    for kind in kinds:
        if get_origin(kind) is tuple:
            if isinstance(value, (list, tuple)):
                return tuple(_checked(name, item, get_args(kind)[0], bounds, choices) for item in value)
        elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                value = float(value)
            except OverflowError as error:
                raise problem from error
            break
        elif isinstance(value, get_origin(kind) or kind) and (kind is bool or not isinstance(value, bool)):
            break
    else:
        raise problem
    if choices is not None and value not in choices:
        raise problem
    if isinstance(value, float) and not math.isfinite(value):
        raise problem
    tests = {"ge": lambda v, b: v >= b, "gt": lambda v, b: v > b, "le": lambda v, b: v <= b, "lt": lambda v, b: v < b}
    if not all(tests[key](value, bound) for key, bound in bounds.items()):
        raise problem
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(f"{name} must be at most {LARGEST}, but got {value}.")
    return value


def _allowed(kinds: list[Any], bounds: dict[str, float], choices: tuple[Any, ...] | None) -> str:
    if choices is not None:
        return "one of " + ", ".join(str(choice) for choice in choices if choice is not None)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    text = " or ".join(words.get(k, "a list") for k in kinds)
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " ".join([text, " and ".join(f"{signs[k]} {v:g}" for k, v in bounds.items())]).strip()
