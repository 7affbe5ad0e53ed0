"""Serves MLflow's UI and the report of a sweep to this machine only."""

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
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from trainers.errors import ConfigError
from trainers.storage.network import keep_loopback_off_proxies

HOST = "127.0.0.1"
SECONDS_TO_START = 60
SECONDS_TO_END = 10


class _Report(SimpleHTTPRequestHandler):
    """Serves ``report.html``, and nothing else of the folder."""

    def send_head(self) -> Any:
        """Answer a request, up to the content."""
        # Another host name in a request comes from a web page elsewhere that tries to read the report (DNS rebinding).
        if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in (HOST, "localhost"):
            return self.send_error(403)
        if self.path not in ("/", "/report.html"):
            return self.send_error(404)
        self.path = "/report.html"
        return super().send_head()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def serve(report: Path, store: str, port: int, report_port: int) -> Iterator[tuple[str, str]]:
    """Serve the report and MLflow's UI until the block ends.

    Args:
        report: path of ``report.html``.
        store: address of the tracking store; an MLflow server has a UI of its own, so none is started.
        port: of MLflow's UI; 0: any that is free.
        report_port: of the report; 0: any that is free.

    Yields:
        Addresses of the report and of MLflow's UI.

    Raises:
        ConfigError: a port is taken, or MLflow does not start.
    """
    keep_loopback_off_proxies()  # nor do requests of MLflow's own processes
    try:
        server = ThreadingHTTPServer((HOST, report_port), partial(_Report, directory=str(report.parent)))
    except OSError as error:
        raise ConfigError(f"Port {report_port} cannot be used: {error.strerror}.") from error
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        if store.startswith("http"):
            yield f"http://{HOST}:{server.server_port}/", store
            return
        with _mlflow(store, port or _free_port()) as address:
            yield f"http://{HOST}:{server.server_port}/", address
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _mlflow(store: str, port: int) -> Iterator[str]:
    # -P: no module is imported from the working folder, which may be somebody else's run folder.
    command = [sys.executable, "-P", "-m", "mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1"]
    address = f"http://{HOST}:{port}"
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise ConfigError(f"Port {port} cannot be used: something listens there.")
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
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
