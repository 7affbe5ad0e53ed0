"""Errors that end a sweep early."""


class SweepBroken(Exception):
    """The run folder can no longer be written. What was written before is intact, and the sweep can be resumed."""
