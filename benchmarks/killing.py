"""Kills parts of a program that runs a sweep, and lets it go on, until it has come to its end."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from benchmarks.faults import Sweep

KILLS_OF_A_SWEEP = 4
LATEST_S = 20.0
"""Seconds after a start within which a kill comes."""
VICTIMS = {"driver": "", "worker": "Trainable", "head's store": "gcs_server", "head's scheduler": "raylet/raylet",
           "all at once": ""}  # fmt: skip

Moment = Callable[[Sweep, random.Random], str | None]
"""Waits for a moment of a sweep; returns what it was, or null if the sweep has ended, or must not be killed yet."""


def kill(sweep: Sweep, victim: str) -> int:
    """Kill a part of a sweep that runs; returns the number of processes."""
    assert sweep.process is not None
    if victim == "driver":
        members = [sweep.process.pid]
    elif victim == "all at once":
        members = sweep.members()
    else:
        members = sweep.named(VICTIMS[victim])[:1]
    for pid in members:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(members)


def sleeps(sweep: Sweep, seconds: float) -> bool:
    """Wait; returns whether the sweep still runs then."""
    assert sweep.process is not None
    until = time.monotonic() + seconds
    while time.monotonic() < until and sweep.process.poll() is None:
        time.sleep(0.05)
    return sweep.process.poll() is None


def hit(
    sweep: Sweep, wanted: int, draw: random.Random, moment: Moment, go_on: Callable[[Sweep, random.Random], object]
) -> list[str]:
    """Kill a part of a sweep that runs a few times, let it go on each time, and wait for its end.

    Args:
        sweep: started.
        wanted: how many kills, if it does not end before.
        draw: chooses victims and moments.
        moment: when each kill comes.
        go_on: starts the sweep again where a kill ended it.

    Returns:
        A line for each kill, and for each time that it ended early otherwise.

    Raises:
        AssertionError: it did not come to a good end.
    """
    lines: list[str] = []
    for _ in range(wanted):
        victim = draw.choice(sorted(VICTIMS))
        when = moment(sweep, draw)
        if when is None:
            break
        count = kill(sweep, victim)
        if not count:
            continue
        lines.append(f"{victim} ({count} process{'es' if count > 1 else ''}) {when}")
        if victim != "worker":
            sweep.end()
            go_on(sweep, draw)
    code, shown = sweep.end()
    ended = 0
    while code != 0 and "Traceback" not in shown and ended < 2 * KILLS_OF_A_SWEEP:
        lines.append(f"  ended with {code}; goes on")
        go_on(sweep, draw)
        code, shown = sweep.end()
        ended += 1
    assert code == 0, shown
    return lines


def kills_in(lines: list[str]) -> int:
    """How many of the lines of :func:`hit` are kills."""
    return sum(not line.startswith(" ") for line in lines)
