"""What reading a data set has shown: what was left out, and what a person should know about the rest."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from trainers.text import printable

FILE = "data_findings.csv"
"""Beside results: everything that was found, a row per file or image."""
SHOWN = 3
"""Places that a line names; the file has the others."""


@dataclass(frozen=True)
class Place:
    """A file, or an image in one, that something was found about.

    Args:
        what: what was found; places of the same ``what`` are counted together.
        place: path in the data folder, or row and file.
        detail: what is special about this place; empty if nothing is.
    """

    what: str
    place: str
    detail: str = ""


@dataclass
class Findings:
    """Collects what readers leave out and what they warn of. It is no part of the data: no fingerprint knows of it.

    Args:
        left_out: places that were left out, with the reason.
        warnings: sentences about the data.
        noted: places that warnings are about.
    """

    left_out: list[Place] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    noted: list[Place] = field(default_factory=list)

    def leave_out(self, place: str, reason: str, detail: str = "") -> None:
        """Note that something is left out.

        Args:
            place: of a file, a folder or an image.
            reason: the same words for all that are counted together, e.g. ``hidden``.
            detail: what is special about this one.
        """
        self.left_out.append(Place(printable(reason), printable(place), printable(detail)))

    def warn(self, sentence: str, places: Iterable[Place] = ()) -> None:
        """Note what a person should know about the data.

        Args:
            sentence: it, with counts.
            places: files or images that it is about.
        """
        self.warnings.append(printable(sentence))
        self.noted += [Place(printable(p.what), printable(p.place), printable(p.detail)) for p in places]

    def extend(self, others: "Findings", source: str) -> None:
        """Add what was found in another source, e.g. ``folder:PATH``, with its name."""
        for kept, more in ((self.left_out, others.left_out), (self.noted, others.noted)):
            kept += [Place(printable(f"{place.what} (in {source})"), place.place, place.detail) for place in more]
        self.warnings += [printable(f"{source}: {sentence}") for sentence in others.warnings]

    def lines(self) -> list[str]:
        """The report for a screen: a line per reason, with its count and the first places, and a line per warning."""
        by_reason: dict[str, list[str]] = {}
        for entry in self.left_out:
            by_reason.setdefault(entry.what, []).append(entry.place)
        return [_counted(reason, places) for reason, places in by_reason.items()] + [
            f"Warning: {sentence}" for sentence in self.warnings
        ]

    def table(self) -> str | None:
        """Every place as CSV, with the columns ``finding``, ``place`` and ``detail``; null if there is none."""
        if not self.left_out and not self.noted:
            return None
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("finding", "place", "detail"))
        writer.writerows((f"left out: {entry.what}", entry.place, entry.detail) for entry in self.left_out)
        writer.writerows((entry.what, entry.place, entry.detail) for entry in self.noted)
        return text.getvalue()


def _counted(reason: str, places: list[str]) -> str:
    """``Left out, hidden: 5,000 (.a, .b, .c, ...).``"""
    if len(places) <= SHOWN:
        return f"Left out, {reason}: {', '.join(places)}."
    return f"Left out, {reason}: {len(places):,} ({', '.join(places[:SHOWN])}, ...)."
