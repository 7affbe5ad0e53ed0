import os

import pytest

from trainers.text import did_you_mean, name_as_text


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("apple", "apple"),
        ("\xc4pfel", "\xc4pfel"),
        ("A\u0308pfel", "\xc4pfel"),  # as of macOS
        ("A\u0308\udce9", "\xc4\udce9"),
        (b"\xc3\x84pfel".decode("ascii", "surrogateescape"), "\xc4pfel"),  # as in the locale C
        ("caf\udce9", "caf\udce9"),  # Latin-1
    ],
)
def test_a_name_is_read_as_utf_8_if_it_is(monkeypatch: pytest.MonkeyPatch, name: str, read: str) -> None:
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("utf-8", "surrogateescape"))
    assert name_as_text(name) == read


def test_a_name_in_the_encoding_of_the_locale_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("gbk"))
    assert name_as_text("\u82f9\u679c") == "\u82f9\u679c"


def test_the_name_that_is_most_like_another() -> None:
    assert did_you_mean("backgruond", ["source", "background", "root"]) == " Did you mean background?"
    assert did_you_mean("alpha", ["size", "corner"]) == did_you_mean("alpha", []) == ""
