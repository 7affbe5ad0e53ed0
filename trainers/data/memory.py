"""Memory of this machine."""

import math
from contextlib import suppress
from pathlib import Path


def available_memory() -> float:
    """Bytes of memory available on this machine; infinite if unknown."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    return math.inf
