"""Errors that end a sweep early."""


class SweepBroken(Exception):
    """The run folder cannot be written any more. What was written before is whole, and can be resumed."""
