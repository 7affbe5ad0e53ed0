"""Signals that end a command, each in a process of its own."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, time
from sweeper.cli.signals import end_as_with_ctrl_c
{before}
end_as_with_ctrl_c()
try:
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.1)
    print("went on")
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.{name})  # timeout sends two
    time.sleep(0.1)
    print("ended whole")
"""


def run(name: str, before: str = "signal.signal(signal.SIGHUP, signal.SIG_DFL)") -> str:
    # A parent that was started with nohup hands down that SIGHUP is ignored.
    program = PROGRAM.format(name=name, before=before)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_they_end_a_command_as_ctrl_c_does(number: signal.Signals) -> None:
    assert run(number.name) == "ended whole"


def test_nohup_keeps_its_word() -> None:
    assert run("SIGHUP", "signal.signal(signal.SIGHUP, signal.SIG_IGN)") == "went on"
