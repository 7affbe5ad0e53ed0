"""CUDA's multi-process service (MPS), with which processes on one card compute at the same time."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONTROL = "nvidia-cuda-mps-control"
SECONDS = 10.0


@contextmanager
def multi_process_service(folder: Path) -> Iterator[bool]:
    """Start the service for processes that this one starts from now on, and end it afterwards.

    Args:
        folder: for its pipes and logs; made if it is not there.

    Yields:
        Whether it was started.
    """
    place = str(folder.absolute())
    variables = {"CUDA_MPS_PIPE_DIRECTORY": place, "CUDA_MPS_LOG_DIRECTORY": place}
    before = {name: os.environ.get(name) for name in variables}
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(variables)
    try:
        started = _told("-d") == 0
        try:
            yield started
        finally:
            if started:
                _told(text="quit\n")
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _told(*arguments: str, text: str = "") -> int | None:
    """Exit status of the control program; null where it is missing or does not answer."""
    try:
        # Its daemon inherits the streams: a pipe would be read until the daemon ends.
        return subprocess.run(
            [CONTROL, *arguments],
            input=text.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return None
