"""Who works on a place in an object store, where nothing can be locked: its driver keeps an object fresh there."""

import json
import os
import time
from contextlib import suppress

from trainers.errors import ConfigError
from trainers.object_store import ObjectPath

CLAIM = "driver.json"
FRESH_S = 60.0
"""How long a driver that is not heard of any more keeps its place."""


def check_free(store: ObjectPath) -> None:
    """See whether another driver works there. Two that begin within the same second do not see each other.

    Raises:
        ConfigError: one does; or did a moment ago on another host, and may have died since.
    """
    try:
        claim = json.loads((store / CLAIM).read_bytes())
        process, host, left = int(claim["process"]), str(claim["host"]), claim["at"] + FRESH_S - time.time()
    except (OSError, ValueError, TypeError, KeyError):  # nobody was there; what is wrong with the store others say
        return
    if left <= 0 or (host == os.uname().nodename and not _lives(process)):
        return
    raise ConfigError(
        f"{store} is worked on by process {process} on {host}; if that is gone, try again in {left:.0f} s."
    )


def renew(store: ObjectPath) -> None:
    """Say that this process works there now; where the store does not answer, the next time does."""
    claim = {"process": os.getpid(), "host": os.uname().nodename, "at": time.time()}
    with suppress(OSError):
        (store / CLAIM).write_bytes(json.dumps(claim).encode())


def release(store: ObjectPath) -> None:
    """Leave the place to others."""
    with suppress(OSError):
        (store / CLAIM).unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return process != os.getpid()
