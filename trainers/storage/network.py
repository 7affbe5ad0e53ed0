"""Servers that the program talks to: whether something answers at an address, found out within seconds."""

import os
import socket
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

PATIENCE_S = 5.0
"""How long a server may take to accept a connection."""
THIS_MACHINE = "127.0.0.1"
"""The address that servers of this program bind to: only this machine reaches them."""
LOOPBACK = ("localhost", THIS_MACHINE, "127.0.0.0/8", "::1")
"""This machine itself, as requests, urllib and botocore read it in ``no_proxy``."""
DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "postgres": 5432, "mysql": 3306, "mssql": 1433}


def address_of(uri: str) -> tuple[str, int] | None:
    """Host and port that a URI names, with the usual port of its scheme; null if it names no server.

    Raises:
        ValueError: it is none; it is not quoted, since it may hold a password.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise ValueError("its address is none: a port is a number, and special characters are quoted") from None
    port = port or DEFAULT_PORTS.get(parts.scheme.partition("+")[0])
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


def speaks_postgres(host: str, port: int) -> bool:
    """Whether what listens at a port is PostgreSQL, whose own client may wait for ever for what is not.

    It is asked for TLS, which each PostgreSQL answers with one letter (Frontend/Backend Protocol, SSLRequest).
    """
    try:
        with socket.create_connection((host, port), timeout=PATIENCE_S) as connection:
            connection.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47]))
            return connection.recv(1) in (b"S", b"N")
    except OSError:
        return False


def is_proxied(uri: str) -> bool:
    """Whether HTTP requests to a server go through a proxy, so that it need not be reached from here."""
    parts = urlsplit(uri)
    proxies = getproxies()
    return bool((parts.scheme in proxies or "all" in proxies) and parts.hostname and not proxy_bypass(parts.hostname))


def no_http_answer(uri: str) -> str | None:
    """Why no connection to the server of a URI can be made; null if one can, or if a proxy makes it.

    Raises:
        ValueError: the URI is none.
    """
    address = address_of(uri)
    if address is None:
        raise ValueError("its address names no server")
    return None if is_proxied(uri) else no_answer(*address)


def keep_loopback_off_proxies() -> None:
    """Let no request to this machine itself go to a proxy that the environment names; children inherit it.

    The exceptions are those of ``no_proxy``, or of ``NO_PROXY`` where that is empty. Both get the same ones: whoever
    reads them looks at the small letters first.
    """
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    known = [entry.strip() for entry in given.split(",") if entry.strip()]
    if "*" not in known:
        known += [entry for entry in LOOPBACK if entry not in known]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(known)
