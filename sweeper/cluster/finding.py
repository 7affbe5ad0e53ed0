"""The result of a check."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Result of one check of ``doctor``.

    Args:
        what: the thing that was checked.
        fine: whether a sweep can run with it.
        found: what the check saw.
        remedy: what to do about it; empty if nothing.
        notes: sentences that a person should read though nothing is amiss.
    """

    what: str
    fine: bool
    found: str
    remedy: str = ""
    notes: tuple[str, ...] = ()
