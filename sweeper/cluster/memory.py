"""Whether this machine has memory for the trials that run at once, by the measure of Ray's memory monitor."""

import os

from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory

WORKER_BYTES = 2**30
"""What a worker takes before it holds a network of any size: torch, Ray and their libraries; 0.8 to 0.9 GB as measured
with small networks on CPUs. The driver takes about the same."""
GIB = 2**30
THRESHOLD = "RAY_memory_usage_threshold"
"""Ray's name of the variable."""


def threshold() -> float:
    """The share of the memory above which Ray ends workers."""
    try:
        return float(os.environ.get(THRESHOLD, "0.95"))
    except ValueError:
        return 0.95


def lack_of_memory(workers: int) -> str | None:
    """What is missing for so many trials at once, and how many there is room for; null if there is enough."""
    limit, used = int(get_system_memory()), int(get_used_memory())
    free = threshold() * limit - used
    if (workers + 1) * WORKER_BYTES <= free:
        return None
    fit = max(int(free / WORKER_BYTES) - 1, 0)
    return (
        f"{used / GIB:.1f} of {limit / GIB:.1f} GiB are used, and Ray ends workers above {threshold():.0%}; {workers} "
        f"trials at once take {(workers + 1) * WORKER_BYTES / GIB:.0f} GiB or more, and there is room for {fit}"
    )
