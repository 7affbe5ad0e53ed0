"""A Ray runtime of the process of the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

from sweeper.cluster.runtime import RAY_SETTINGS


@contextmanager
def ray_here(home: Path, cpus: int, gpus: int = 0) -> Iterator[None]:
    """Start Ray with so many CPUs and GPUs, whether they are there or not.

    Args:
        home: of the fixture ``ray_home``.
        cpus: that Ray takes for granted.
        gpus: likewise.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in RAY_SETTINGS.items():
            patch.setenv(name, value)
        ray.init(num_cpus=cpus, num_gpus=gpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        try:
            yield
        finally:
            ray.shutdown()
