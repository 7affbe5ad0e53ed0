"""Markdown of tables, code and docstrings."""

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

_ROLE = re.compile(r":\w+:`~?([^`]+)`")
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")


def code(value: Any) -> str:
    """A value as a preset writes it, set as code: ``true`` for ``True``, ``null`` for ``None``, lists for tuples."""
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(item)}" for key, item in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that hold Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def captioned(caption: str, text: str) -> str:
    """A table with a caption above it, as MyST writes them. The fence is of tildes, since a caption may hold backticks.

    Args:
        caption: a docstring; its paragraphs become one line.
        text: the table.
    """
    return f"~~~{{table}} {' '.join(prose(caption).split())}\n{text}\n~~~"


def _cell(text: str) -> str:
    """Text on one line, in which a bar is no border of the cell."""
    return " ".join(text.split()).replace("|", "\\|")


def prose(docstring: str | None) -> str:
    """The Markdown of a docstring: its code, its references to other code, and links to the papers it names."""
    text = inspect.cleandoc(docstring or "")
    text = _ROLE.sub(r"`\1`", text).replace("``", "`")
    return _ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def summary(docstring: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(prose(docstring).split("\n\n")[0].split())
