"""How much memory there is."""

import math
from contextlib import suppress
from pathlib import Path


def available_memory() -> float:
    """Bytes that are free for use on this machine; infinite where that is not known."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    return math.inf
