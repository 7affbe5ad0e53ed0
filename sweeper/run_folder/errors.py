"""Errors that end a sweep early."""


class SweepBroken(Exception):
    """The run folder cannot be written any more. What was written before is whole, and can be resumed."""


class SweepInterrupted(Exception):
    """The user ended a sweep before its trials began, or while what they left was written out.

    Args:
        message: what is kept, and how to go on.
        finished: trials with figures.
    """

    def __init__(self, message: str, finished: int):
        super().__init__(message)
        self.finished = finished
