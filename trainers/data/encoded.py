"""The encoded images of a whole data set, decoded as its settings say."""

import csv
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from trainers.data.cached import cached
from trainers.data.config import AUTO, LEAVE_OUT_KEY, OFF, REFUSE, DataConfig
from trainers.data.decode import NAMED, Decoded, Items, decode, size_of_first
from trainers.data.findings import Findings, Place
from trainers.data.memory import IN_MEMORY, total_memory
from trainers.errors import ConfigError
from trainers.text import printable

UNREADABLE = "the image cannot be read"
"""Why an image is left out."""
ELONGATED = 2.0
"""Ratio of the sides from which on an image that is resized to a square is counted."""
_DARK = 64
"""A data set whose values all lie below this is dark enough to be told of."""
_DARK_OF_16_BITS = 1 << 15
"""An image of 16 bits whose values all lie below this uses a part of them."""


def decode_all(items: Items, config: DataConfig, findings: Findings, root: Path | None = None) -> Decoded:
    """Decode the images of a data set, as far as ``config.unreadable`` lets some be left out.

    They go into memory, or into a file that all processes of this host map, as ``config.cache`` says.

    Args:
        items: per image, the name that people know it by, and its encoded bytes, the file that holds them, or why there
            is none.
        config: how images are read.
        findings: gets what is left out, and warnings.
        root: folder that names are written relative to in the findings; null: as they are.

    Raises:
        ConfigError: as :func:`trainers.data.decode.decode` or :func:`trainers.data.cached.cached`, or an image cannot
            be read and none may be left out, or no image can be read.
    """
    if config.cache == OFF or (config.cache == AUTO and not _exceeds_memory(items, config)):
        decoded = decode(items, config.rendering)
    else:
        decoded = cached(items, config.rendering, findings, config.unreadable == REFUSE)
    if decoded.broken and (config.unreadable == REFUSE or not len(decoded.kept)):
        raise _refusal(decoded)
    prefix = "" if root is None else f"{root}{os.sep}"
    names = [name.removeprefix(prefix) for name in decoded.names]
    for index, reason in sorted(decoded.broken.items()):
        findings.leave_out(names[index], UNREADABLE, reason)
    _warn(decoded, names, config, findings)
    return decoded


def _exceeds_memory(items: Items, config: DataConfig) -> bool:
    """Whether the decoded images take more memory than is meant for them."""
    if not len(items):
        return False
    size = size_of_first(items, config.rendering)
    return size is not None and len(items) * 3 * size[0] * size[1] > IN_MEMORY * total_memory()


def check_split(split: str, left: int, there: int) -> None:
    """See that a split has an image.

    Args:
        split: what it is and where it lies, for errors.
        left: its images.
        there: as many as it had before those were left out that cannot be read.

    Raises:
        ConfigError: it has none.
    """
    if left == 0:
        why = f"; {there:,} that cannot be read are left out" if there else ""
        raise ConfigError(f"{split} has no image{why}.")


def _refusal(decoded: Decoded) -> ConfigError:
    """An error that names the images that cannot be read, in a file if they are many."""
    try:
        decoded.all_images()
    except ConfigError as error:
        text = str(error)
    if len(decoded.broken) > NAMED:
        with suppress(OSError):  # no room for a list is not what the user has to hear of
            text += f" All are listed in {_listed(decoded)}."
    if len(decoded.kept):
        text += f" {LEAVE_OUT_KEY} goes on without them."
    return ConfigError(text)


def _listed(decoded: Decoded) -> str:
    """The path of a new file that lists what cannot be read."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="sweeper-unreadable-", suffix=".csv", delete=False, encoding="utf-8", newline=""
    ) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("place", "reason"))
        for index in sorted(decoded.broken):
            writer.writerow((printable(decoded.names[index]), printable(decoded.broken[index])))
    return file.name


def _warn(decoded: Decoded, names: list[str], config: DataConfig, findings: Findings) -> None:
    """Tell what a person would want to know about the images of a data set."""
    notes, total = decoded.notes, len(decoded.kept)

    def warn(indices: Sequence[int], what: str, text: str) -> None:
        if indices:
            places = [Place(what, names[index]) for index in indices]
            findings.warn(f"{len(indices):,} of {total:,} images {text}", places)

    if notes.transparent:  # often all of them, so that no list is of use
        findings.warn(
            f"{len(notes.transparent):,} of {total:,} images have transparent parts, behind which data.background "
            f"({config.background}) shows."
        )
    warn(notes.frames, "has several frames or pages", "have several frames or pages; the first of each is read.")
    elongated = [i for i, size in sorted(notes.sizes.items()) if max(size) >= ELONGATED * min(size)]
    warn(
        elongated,
        "elongated",
        "are at least twice as wide as high, or as high as wide; data.image_size makes them square.",
    )
    hint = "; another data.background may show more" if set(notes.constant) & set(notes.transparent) else ""
    warn(notes.constant, "one colour all over", f"show one colour all over{hint}.")
    _warn_of_range(decoded, config, findings)


def _warn_of_range(decoded: Decoded, config: DataConfig, findings: Findings) -> None:
    notes = decoded.notes
    if config.max_value is not None:
        above = sum(high > config.max_value for _, high in notes.deep.values())
        if above:
            findings.warn(
                f"{above:,} of {len(decoded.kept):,} images have values above data.max_value ({config.max_value:g}), "
                f"which become white as it does; the largest is {max(high for _, high in notes.deep.values()):g}."
            )
        return
    known = [bounds for bounds in notes.deep.values() if bounds[1] > 0]
    dark = [bounds for bounds in known if bounds[1] < _DARK_OF_16_BITS]
    if 2 * len(dark) > len(known):
        _warn_of_16_bits(dark, len(known) - len(dark), findings)
    elif not notes.deep and 0 < (largest := notes.largest) < _DARK:
        findings.warn(
            f"The largest value of all images is {largest} of 255, so that they are nearly black; data.max_value: "
            f"{largest} makes it white."
        )


def _warn_of_16_bits(dark: list[tuple[float, float]], others: int, findings: Findings) -> None:
    """Tell of the images that use the lower bits alone, each by its smallest and largest value, and of ``others``."""
    low, high = min(low for low, _ in dark), max(high for _, high in dark)
    suggested = (1 << int(high).bit_length()) - 1
    of_all = f" of {len(dark) + others:,}" if others else ""
    too = f", and what is larger in the other {others:,} as well" if others else ""
    findings.warn(
        f"{len(dark):,}{of_all} images of 16 bits have values from {low:g} to {high:g} of 65535, so that they are "
        f"nearly black; data.max_value: {suggested} makes {suggested} white{too}."
    )
