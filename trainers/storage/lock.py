"""Locks between processes, which end with the process that holds them."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from trainers.storage.object_store import Place


@contextmanager
def held(path: Place, wait_at_most_s: float) -> Iterator[None]:
    """Hold a lock file; the kernel releases it when this process ends.

    A process does not wait where locks are not supported, and never longer than it says: over NFS a lost host may hold
    a lock for ever.

    Args:
        path: of the lock file, which is made if it is not there; in an object store, there is no lock.
        wait_at_most_s: seconds to wait for another process.
    """
    if not isinstance(path, Path):
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        until = time.monotonic() + wait_at_most_s
        with suppress(OSError):
            while not _locked(file) and time.monotonic() < until:
                time.sleep(0.1)
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
