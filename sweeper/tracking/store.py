"""The tracking store: its address, whether it answers, and its error messages without secrets."""

import logging
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient

from trainers.errors import ConfigError

LINE_LENGTH = 200
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
PROBE = "sweeper-probe"
"""An experiment that is made and deleted to check that a store can be written. Each user of a server has one of their
own, since other users may not restore it."""

_ADDRESSES = ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE")
_ASIDE = "(raised as a result of "
"""Start of a line that SQLAlchemy puts before the one with the error."""

log = logging.getLogger(__name__)


def tracking_uri(runs: Path) -> str:
    """``MLFLOW_TRACKING_URI``, or else an SQLite file beside the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(runs / 'mlflow.db').resolve()}"


def check_store(uri: str) -> None:
    """Check that a tracking store answers and can be written.

    Raises:
        ConfigError: it does not answer, or cannot be written.
    """
    set_short_timeouts()
    try:
        reach(uri)
        client = MlflowClient(tracking_uri=uri)
        name = "-".join(filter(None, [PROBE, os.environ.get("MLFLOW_TRACKING_USERNAME")]))
        probe = client.get_experiment_by_name(name)
        probe_id = probe.experiment_id if probe else client.create_experiment(name)
        if probe and probe.lifecycle_stage == "deleted":
            client.restore_experiment(probe_id)
        client.delete_experiment(probe_id)
    except Exception as error:
        raise ConfigError(f"The tracking store {without_secret(uri)} cannot be used: {shorten(error)}") from error


def experiment_id(client: MlflowClient, name: str, beside: Path) -> str:
    """The id of the experiment of this name, which is created if it does not exist.

    Where no server keeps artifacts, they go into a folder ``mlartifacts`` in ``beside``, and never into ``mlruns`` in
    the working folder: MLflow would take a folder of that name for a store of its own.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    served = client.tracking_uri.startswith("http")
    return str(client.create_experiment(name, None if served else (beside / "mlartifacts").resolve().as_uri()))


def attach(uri: str, sweep: dict[str, Any], path: Path) -> bool:
    """Add a file to the run of a sweep that was tracked before.

    Returns:
        Whether it is there now; no store, or one that does not know the sweep or does not answer, is no error.
    """
    file = uri.removeprefix("sqlite:///")
    if uri.startswith("sqlite:///") and not Path(file).exists():
        return False  # MLflow would create a new store
    set_short_timeouts()
    try:
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(sweep["preset"]["name"])
        wanted = f"tags.sweep_id = '{sweep['sweep_id']}' and tags.role = 'sweep'"
        runs = client.search_runs([experiment.experiment_id], wanted) if experiment else []
        for run in runs:
            client.log_artifact(run.info.run_id, str(path))
    except Exception as error:  # noqa: BLE001  # artifact stores raise what their clients raise
        log.warning("MLflow %s: %s", without_secret(uri), shorten(error))
        return False
    return bool(runs)


def reach(uri: str) -> None:
    """Check that a database server answers at its port; MLflow itself would try to connect for minutes.

    Raises:
        OSError: nobody answers.
    """
    parts = urlsplit(uri)
    port = DATABASE_PORTS.get(parts.scheme.partition("+")[0])
    if port is not None and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or port), timeout=10).close()


def set_short_timeouts() -> None:
    """Make MLflow give up on an unreachable server within seconds instead of minutes, and silence its own log."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)  # it prints tracebacks of what it raises as well


def shorten(error: Exception) -> str:
    """The first line of an error, without user and password of any address in it."""
    lines = [line for line in str(error).splitlines() if not line.startswith(_ASIDE)]
    return without_secret((lines or [type(error).__name__])[0])[:LINE_LENGTH]


def without_secret(text: str) -> str:
    """The text without user and password of any address in it, also if the password has unusual characters."""
    for uri in filter(None, map(os.environ.get, _ADDRESSES)):
        text = text.replace(uri, re.sub(r"://[^/@:]*:(?!\d+/).*@", "://", uri))  # of a known address, with spaces too
    for secret in (r"(?<=://)[^/\s]*@", r"(?<=://)[^/@:\s]*:(?!\d+/)\S*@", r"(?i)(?<=password=)[^&\s]+"):
        text = re.sub(secret, "", text)
    return text
