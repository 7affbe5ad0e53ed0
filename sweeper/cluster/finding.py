"""What a look at one thing that sweeps need has shown."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Args:
        what: was looked at.
        fine: whether a sweep can run with it.
        found: what was seen.
        remedy: what to do; empty if nothing.
    """

    what: str
    fine: bool
    found: str
    remedy: str = ""
