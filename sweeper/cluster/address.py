"""The address of the Ray cluster in the environment: looked at before Ray is, which tries it for many minutes."""

import os
import re

import grpc

from trainers.errors import ConfigError
from trainers.storage.network import PATIENCE_S, keep_loopback_off_proxies, no_answer, no_http_answer

VARIABLE = "RAY_ADDRESS"
JOBS_VARIABLE = "RAY_API_SERVER_ADDRESS"
CLIENT = "ray://"
WITHOUT = f"start the cluster, or unset {VARIABLE} to run on this machine alone"


class RayUnavailable(ConfigError):
    """Ray can be neither joined nor started. The sentence says what to do."""


def check_ray_address() -> None:
    """Check that the cluster which ``RAY_ADDRESS`` names answers; nothing is done if it names none.

    Raises:
        RayUnavailable: it is no such address, or no Ray answers there.
    """
    address = os.environ.get(VARIABLE, "")
    if address in ("", "auto", "local"):  # Ray itself tells soon whether a cluster runs here
        return
    host, port = _parsed(address)
    why = no_answer(host, port) or _is_no_ray(address)
    if why is not None:
        raise RayUnavailable(f"No Ray cluster answers at {VARIABLE}={address}: {why}; {WITHOUT}.")


def check_jobs_address() -> None:
    """Check that something answers where the environment says that the job server is, or a cluster that knows it.

    Raises:
        RayUnavailable: nothing listens there.
    """
    name = JOBS_VARIABLE if os.environ.get(JOBS_VARIABLE) else VARIABLE
    address = os.environ.get(name, "")
    if address.startswith(CLIENT):  # Ray joins the cluster by it, and asks for the job server's address
        why = no_answer(*_host_and_port(name, address, address.removeprefix(CLIENT)))
        if why is not None:
            raise RayUnavailable(f"No Ray cluster answers at {name}={address}: {why}.")
        return
    if not address.startswith(("http://", "https://")):
        if name == VARIABLE and address not in ("", "auto", "local"):
            check_ray_address()  # Ray asks the cluster for the job server's address
        return
    keep_loopback_off_proxies()
    try:
        why = no_http_answer(address)
    except ValueError as error:
        raise RayUnavailable(f"{name}={address} is no address; it has the form http://HOST:8265.") from error
    if why is not None:
        raise RayUnavailable(f"No Ray cluster answers at {name}={address}: {why}.")


def _parsed(address: str) -> tuple[str, int]:
    scheme, separator, rest = address.partition("://")
    if separator and scheme in ("http", "https"):
        raise RayUnavailable(
            f"{VARIABLE}={address} is the address of Ray's dashboard; sweeps join a cluster at HOST:PORT, with port "
            f"6379 if it was not started with another (for jobs, --detach, set {JOBS_VARIABLE} instead)."
        )
    if address.startswith(CLIENT):
        host = rest.rpartition(":")[0] or rest
        raise RayUnavailable(
            f"{VARIABLE}={address} is an address of Ray Client, through which no sweep runs; on a host of the cluster "
            f"set {VARIABLE}={host}:6379, or leave the sweep to the cluster as a job (--detach)."
        )
    return _host_and_port(VARIABLE, address, address)


def _host_and_port(name: str, address: str, rest: str) -> tuple[str, int]:
    """Host and port in ``rest``, the part of a variable's address without the scheme."""
    known = re.fullmatch(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^:\s/]+)):(?P<port>\d{1,5})", rest)
    if known is None or not 0 < int(known["port"]) < 2**16:
        scheme = address.removesuffix(rest)
        raise RayUnavailable(
            f"{name}={address} is no address of a Ray cluster; it has the form {scheme}HOST:PORT or "
            f"{scheme}[IPV6]:PORT."
        )
    return known["six"] or known["host"], int(known["port"])


def _is_no_ray(address: str) -> str | None:
    """Why what listens there is no Ray, which speaks gRPC; null if it may be."""
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):  # Ray has the certificates
        return None
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=PATIENCE_S)
        except grpc.FutureTimeoutError:
            return "what listens there is no Ray"
    return None
