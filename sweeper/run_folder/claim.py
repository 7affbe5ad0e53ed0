"""Claims on a place in an object store. It has no locks, so the driver that works there keeps renewing an object."""

import json
import logging
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from trainers.errors import ConfigError
from trainers.storage.object_store import ObjectPath

CLAIM = "driver.json"
RENEW_EVERY_S = 10.0
FRESH_S = 60.0
"""Seconds for which a claim that is not renewed stays valid; hosts' clocks must agree much better than that."""
LATEST_CLOCK_S = 3600.0
"""Most seconds by which another host's clock may be ahead; a claim from a later time is ignored."""
_TOKEN = uuid.uuid4().hex

log = logging.getLogger(__name__)


def other_driver(store: ObjectPath) -> str | None:
    """The other driver that works on a place in a store, as text; null if there is none.

    Raises:
        OSError: the store does not answer.
    """
    try:
        claim = json.loads((store / CLAIM).read_bytes())
        age = time.time() - claim["at"]
        gone = claim["machine"] == _machine() and not _lives(claim["process"])
        if claim["token"] == _TOKEN or gone or not -LATEST_CLOCK_S < age <= FRESH_S:
            return None
        return f"process {claim['process']} on {claim['host']}, last heard of {max(age, 0):.0f} s ago"
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # no claim, or one that cannot be read
        return None


def refuse_other_driver(store: ObjectPath) -> None:
    """Refuse a place where another driver works. Two drivers that begin within the same second do not see each other.

    Raises:
        ConfigError: another driver works there, or did a moment ago and may be gone; or the store does not answer.
    """
    try:
        other = other_driver(store)
    except (OSError, ValueError) as error:  # ValueError: no valid address
        raise ConfigError(f"{store} cannot be read: {error}") from error
    if other is not None:
        raise ConfigError(f"{store} is in use by {other}; if that is gone, try again in {FRESH_S:.0f} s.")


@contextmanager
def claimed(store: ObjectPath | None) -> Iterator[None]:
    """Claim a place in a store; do nothing if there is no store.

    A driver that was away for so long that another took over its place is stopped, as by ``sweeper stop``.

    Raises:
        ConfigError: another driver works there, or the store does not answer.
    """
    if store is None:
        yield
        return
    refuse_other_driver(store)
    try:
        _renew(store)
    except OSError as error:
        raise ConfigError(f"{store} cannot be written: {error}") from error
    ended = Event()
    thread = Thread(target=_keep, args=[store, ended], name="claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            if other_driver(store) is None:
                (store / CLAIM).unlink()


def _keep(store: ObjectPath, ended: Event) -> None:
    while not ended.wait(RENEW_EVERY_S):
        with suppress(OSError):  # the store may answer again the next time
            other = other_driver(store)
            if other is not None:
                log.error("%s was taken over by %s; this sweep ends here.", store, other)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            _renew(store)


def _renew(store: ObjectPath) -> None:
    claim = {"token": _TOKEN, "process": os.getpid(), "host": os.uname().nodename, "machine": _machine(),
             "at": time.time()}  # fmt: skip
    (store / CLAIM).write_bytes(json.dumps(claim).encode())


def _machine() -> str:
    """An id of the system and namespace in which process ids are unique; containers may share a host's name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip() + os.readlink(
            "/proc/self/ns/pid"
        )
    except OSError:  # no Linux
        return os.uname().nodename


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # no such process
        return False
    except PermissionError:  # of another user
        pass
    return True
