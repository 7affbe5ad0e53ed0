"""How a sweep may end before its time."""


class SweepBroken(Exception):
    """The run folder cannot be written any more. What was written before is whole, and can be resumed."""
