"""Memory of this machine."""

import math
from contextlib import suppress
from pathlib import Path

IN_MEMORY = 1 / 8
"""Decoded images that take more than this share of the machine's memory lie in a file: trainings that run at once, each
with a poisoned copy of its own, would fill it."""
GIB = 2**30


def available_memory() -> float:
    """Bytes of memory available on this machine; infinite if unknown."""
    return _stated("MemAvailable:")


def total_memory() -> float:
    """Bytes of memory of this machine, or of the container that it is limited to; infinite if unknown."""
    limit = math.inf
    with suppress(OSError, ValueError):  # where there is no limit, the file says max
        limit = float(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return min(_stated("MemTotal:"), limit)


def sized(nbytes: float) -> str:
    """Bytes as text: in GiB, or in MiB below a tenth of one."""
    return f"{nbytes / GIB:.1f} GiB" if nbytes >= GIB / 10 else f"{nbytes / 2**20:.0f} MiB"


def _stated(name: str) -> float:
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith(name)).split()[1])
    return math.inf
