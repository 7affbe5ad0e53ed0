"""Signals by which others end a command: it ends as with Ctrl-C."""

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def end_as_with_ctrl_c() -> None:
    """Let SIGTERM (``timeout``, systemd, Slurm, ``docker stop``) and SIGHUP (a terminal is closed) do what Ctrl-C does.

    What is ignored stays so: ``nohup`` has a command outlive its terminal.
    """
    for number in SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in SIGNALS:  # timeout sends two; the second must not end the end
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
