"""Serves MLflow's UI to this machine only."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from trainers.errors import ConfigError
from trainers.storage.network import THIS_MACHINE, keep_loopback_off_proxies

SECONDS_TO_START = 60
SECONDS_TO_END = 10


class PortTaken(ConfigError):
    """Something else listens at the port."""


@contextmanager
def serve_mlflow(store: str, port: int) -> Iterator[str]:
    """Serve MLflow's UI until the block ends.

    Args:
        store: address of the tracking store; an MLflow server has a UI of its own, so none is started.
        port: of the UI; 0: any that is free.

    Yields:
        The address of the UI.

    Raises:
        PortTaken: the port is taken.
        ConfigError: MLflow does not start.
    """
    keep_loopback_off_proxies()  # nor do requests of MLflow's own processes
    if store.startswith("http"):
        yield store
        return
    with _mlflow(store, port or _free_port()) as address:
        yield address


@contextmanager
def _mlflow(store: str, port: int) -> Iterator[str]:
    # -P: no module is imported from the working folder, which may be somebody else's run folder.
    command = [
        sys.executable,
        "-P",
        "-m",
        "mlflow",
        "ui",
        "--host",
        THIS_MACHINE,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    address = f"http://{THIS_MACHINE}:{port}"
    with socket.socket() as probe:
        if probe.connect_ex((THIS_MACHINE, port)) == 0:
            raise PortTaken(f"Port {port} cannot be used: something listens there.")
    # In the environment, since the process list would show a password in the address.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": store, "PYTHONSAFEPATH": "1"}
    quiet = subprocess.DEVNULL
    # In a session of its own, so that it can be ended with all that it started.
    process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        _wait_for(f"{address}/health", process)
        yield address
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all others of its session; one that is still starting may not obey."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_END)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ConfigError(f"MLflow's UI did not start at {address}; run mlflow ui to see why.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((THIS_MACHINE, 0))
        port: int = probe.getsockname()[1]
        return port
