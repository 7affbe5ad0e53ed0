"""Which split the name of a file or folder stands for."""

import re
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "val", "test"]

UNUSED = "a validation split, as there is a test split to measure on"
"""Why something is left out."""

_WORDS: dict[Split, str] = {"train": "train(ing)?", "val": "val|valid|validation", "test": "test(ing)?"}
# A word stands between what are no letters; at the start of a name more may follow it, as in trainset.
_STARTS: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}
_LOOSE: dict[Split, re.Pattern[str]] = {
    split: re.compile(rf"^{_STARTS[split]}|(?<![a-z])({words})(?![a-z])") for split, words in _WORDS.items()
}


def split_named(name: str) -> Split | None:
    """The split whose word is all of ``name``, in upper or lower case: train, val, valid, validation, test, ..."""
    return next((split for split, words in _WORDS.items() if re.fullmatch(words, name.lower())), None)


def splits_in(name: str) -> list[Split]:
    """The splits whose word is a part of ``name``, in upper or lower case, as in ``train-00000-of-00001``."""
    return [split for split, pattern in _LOOSE.items() if pattern.search(name.lower())]


def measured_on(there: Iterable[Split | None]) -> Split | None:
    """The split to measure on, of those that are there beside ``train``: test, or val where there is no test."""
    known = set(there)
    return "test" if "test" in known else "val" if "val" in known else None
