"""Classes by number and by name: which number a name stands for, and how both are shown."""

import re
from collections.abc import Sequence
from decimal import Decimal

from trainers.errors import ConfigError
from trainers.text import composed, did_you_mean

_NUMBER = re.compile(r"[+-]?[0-9]+")
LISTED = 20
"""Class names that an error lists."""


def class_number(key: str, given: int | str, class_names: Sequence[str]) -> int:
    """The number, from 0, of the class that a parameter gives by its number or by its name.

    A number is always the class's place in the order of the classes, even where names look like numbers; a text is
    always a name, whose letters and accents may be written as one character or two.

    Args:
        key: the parameter, for errors.
        given: number or name.
        class_names: of the data, as :func:`trainers.text.composed` writes them.

    Raises:
        ConfigError: there is no such class.
    """
    if isinstance(given, int):
        if given < len(class_names):
            return given
        raise ConfigError(f"{key} must be a class from 0 to {len(class_names) - 1}, but got {given}.")
    wanted = composed(given)
    if wanted in class_names:
        return class_names.index(wanted)
    hint = did_you_mean(wanted, class_names)
    raise ConfigError(f"{key} must be a class, but none is called {given!r}; there are {_listed(class_names)}.{hint}")


def numbers_among(class_names: Sequence[str]) -> list[int]:
    """The numbers that are names of classes, in ascending order: 3 and 10 of ``cat``, ``10``, ``03``."""
    return sorted({int(Decimal(name)) for name in class_names if _NUMBER.fullmatch(name)})


def check_unambiguous(key: str, number: int, class_names: Sequence[str]) -> None:
    """See that a class's number is not another class's name: of folders ``1`` to ``10``, is 3 the third or the fourth?

    Args:
        key: the parameter, for errors.
        number: as the user wrote it.
        class_names: of the data.

    Raises:
        ConfigError: it is.
    """
    called = [name for name in class_names if _NUMBER.fullmatch(name) and Decimal(name) == number]
    if not called or (number < len(class_names) and class_names[number] in called):
        return
    counted = "but there is no class of that number; write"
    names = [called[0]]
    if number < len(class_names):
        counted = f"or class number {number}, from 0, which is called {class_names[number]}; write"
        names.append(class_names[number])
    quoted = " or ".join(f'"{name}"' for name in names)
    raise ConfigError(
        f"{key}: {number} may be the class called {called[0]}, {counted} the name in quotes: {quoted} (on the "
        f"command line: --set 'scenarios.0.{key}=\"{called[0]}\"')."
    )


def class_label(number: int, class_names: Sequence[str]) -> str:
    """A class as people read it: its number, and its name beside it, if it has another one than that: ``2 (cat)``."""
    return label(str(number), class_names[number] if 0 <= number < len(class_names) else None)


def label(number: str, name: str | None) -> str:
    """A number, or several, as text, with the name beside it, unless they are the same."""
    return number if name is None or name == number else f"{number} ({name})"


def _listed(class_names: Sequence[str]) -> str:
    shown = ", ".join(class_names[:LISTED])
    return shown if len(class_names) <= LISTED else f"{shown}, ... ({len(class_names)} classes)"
