"""Text from untrusted sources, made safe to show."""

import os
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches


def printable(text: str) -> str:
    """``text`` with every non-printable character escaped, since it could forge lines or control a terminal.

    Non-printable are control characters, line breaks, marks that change the direction of writing, and bytes of file
    names that are not text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def name_as_text(name: str) -> str:
    """The name of a file or folder as UTF-8, whatever the locale is, so that a class is called the same everywhere.

    A name in the locale's own encoding (GBK, EUC-JP) that is no UTF-8 stays as it is. A letter and its accent, which
    macOS may write as two characters, are composed.
    """
    try:
        return composed(os.fsencode(name).decode("utf-8"))
    except UnicodeError:
        return composed(name)


def composed(text: str) -> str:
    """``text`` with each letter and its accents as one character where there is one (Unicode NFC), as people see it."""
    return unicodedata.normalize("NFC", text)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`` Did you mean NAME?``, with the name of ``known`` that is most like ``given``; empty if none is like it."""
    near = get_close_matches(given, list(known), 1)
    return f" Did you mean {near[0]}?" if near else ""
