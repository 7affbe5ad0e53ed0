"""The order of classes that are known by their names."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

_WHOLE = re.compile(r"[+-]?[0-9]+")
_COUNTED = re.compile(r"([^0-9]*)([0-9]+).*", re.DOTALL)


def in_class_order(names: Iterable[str]) -> list[str]:
    """The names in the order of their classes, which is that of their numbers where people would count: ``2`` before
    ``10``, ``class2`` before ``class10``.

    Names are ordered by number if all of them are whole numbers, or if all of them begin with the same text (it may be
    empty) and a whole number: ``class1``, ``0_cat``, ``fold-12b``. Other names are ordered as text. Equal numbers
    (``1``, ``01``) are ordered as text too.
    """
    names = list(names)
    if all(_WHOLE.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (Decimal(name), name))
    counted = [_COUNTED.fullmatch(name) for name in names]
    if all(counted) and len({match[1] for match in counted if match}) == 1:
        return sorted(names, key=_number)
    return sorted(names)


def _number(name: str) -> tuple[Any, str]:
    match = _COUNTED.fullmatch(name)
    assert match is not None, "all names were seen to hold a number"
    return Decimal(match[2]), name
