"""Servers that the program talks to: whether something answers at an address, found out within seconds."""

import os
import socket
from collections.abc import Callable
from threading import Thread
from urllib.parse import urlsplit

PATIENCE_S = 5.0
"""How long a server may take to accept a connection."""
LOOPBACK = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1")
"""This machine itself, as requests, urllib and botocore read it in ``no_proxy``."""
DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "postgres": 5432, "mysql": 3306, "mssql": 1433}


def address_of(uri: str) -> tuple[str, int] | None:
    """Host and port that a URI names, with the usual port of its scheme; null if it names no server.

    Raises:
        ValueError: its port is no number from 0 to 65535, or it has a bracket too few.
    """
    parts = urlsplit(uri)
    port = parts.port or DEFAULT_PORTS.get(parts.scheme.partition("+")[0])
    return (parts.hostname, port) if parts.hostname and port is not None else None


def no_answer(host: str, port: int, patience_s: float = PATIENCE_S) -> str | None:
    """Why no connection to a server can be made; null if one can.

    Looking up a name is part of the time, which the system's own resolver does not limit.
    """
    answers: list[str | None] = []
    thread = Thread(target=lambda: answers.append(_connect(host, port, patience_s)), daemon=True)
    thread.start()
    thread.join(patience_s)
    return answers[0] if answers else f"it does not answer within {patience_s:g} s"


def _connect(host: str, port: int, patience_s: float) -> str | None:
    try:
        socket.create_connection((host, port), timeout=patience_s).close()
    except (socket.gaierror, UnicodeError):  # UnicodeError: a part of the name is empty or too long
        return f"no host is known by the name {host}"
    except ConnectionRefusedError:
        return f"nothing listens on port {port} of {host}"
    except TimeoutError:
        return f"it does not answer within {patience_s:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return None


def is_proxied(uri: str, environment: Callable[[str], str | None] = os.environ.get) -> bool:
    """Whether requests to a server go through a proxy, so that it need not be reached from here."""
    scheme = urlsplit(uri).scheme
    names = [f"{scheme}_proxy", "all_proxy"]
    return any(environment(name) or environment(name.upper()) for name in names)


def keep_loopback_off_proxies() -> None:
    """Let no request to this machine itself go to a proxy that the environment names; children inherit it."""
    for name in ("no_proxy", "NO_PROXY"):
        known = [entry.strip() for entry in os.environ.get(name, "").split(",") if entry.strip()]
        if "*" not in known:
            os.environ[name] = ",".join([*known, *(entry for entry in LOOPBACK if entry not in known)])
