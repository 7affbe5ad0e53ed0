"""The tracking store: its address, whether it answers, and its error messages without secrets."""

import logging
import os
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

from mlflow import MlflowClient

from trainers.errors import ConfigError
from trainers.storage.network import address_of, keep_loopback_off_proxies, no_answer, no_http_answer, speaks_postgres

LINE_LENGTH = 200
VARIABLE = "MLFLOW_TRACKING_URI"
ARTIFACTS_VARIABLE = "MLFLOW_S3_ENDPOINT_URL"
PROBE = "sweeper-probe"
"""An experiment that is made and deleted to check that a store can be written. Each user of a server has one of their
own, since other users may not restore it."""

_ADDRESSES = (VARIABLE, "OPTUNA_STORAGE")
_ASIDE = "(raised as a result of "
"""Start of a line that SQLAlchemy puts before the one with the error."""
_SILENT = re.compile(r"Read timed out\. \(read timeout=(?P<seconds>[\d.]+)\)")
"""Words of urllib3, which MLflow repeats."""

log = logging.getLogger(__name__)


def tracking_uri(runs: Path) -> str:
    """``MLFLOW_TRACKING_URI``, or else an SQLite file beside the runs."""
    return os.environ.get(VARIABLE) or f"sqlite:///{(runs / 'mlflow.db').resolve()}"


def check_store(uri: str) -> None:
    """Check that a tracking store answers and can be written.

    Raises:
        ConfigError: it does not answer, or cannot be written.
    """
    set_short_timeouts()
    try:
        reach(uri)
        _make_file(uri)
        client = MlflowClient(tracking_uri=uri)
        name = "-".join(filter(None, [PROBE, os.environ.get("MLFLOW_TRACKING_USERNAME")]))
        probe = client.get_experiment_by_name(name)
        probe_id = probe.experiment_id if probe else client.create_experiment(name)
        if probe and probe.lifecycle_stage == "deleted":
            client.restore_experiment(probe_id)
        client.delete_experiment(probe_id)
    except Exception as error:
        raise unusable(uri, error) from error


def _make_file(uri: str) -> None:
    """Make the file of an SQLite store that does not exist yet: beside its place first, then moved there.

    MLflow makes its tables one by one, and cannot go on with a file in which some are missing.
    """
    path = Path(uri.removeprefix("sqlite:///"))
    plain = uri.startswith("sqlite:///") and path.name != ":memory:" and "?" not in uri  # options are no part of a name
    if not plain or path.exists() or not path.parent.is_dir():
        return
    beside = path.with_name(f".{path.name}.{uuid4().hex}")  # MLflow keeps a store open under its name
    try:
        MlflowClient(tracking_uri=f"sqlite:///{beside}").search_experiments(max_results=1)
        os.link(beside, path)
    except FileExistsError:  # another sweep was first
        pass
    except OSError:  # no links on this disk
        beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)


class ExperimentDeleted(ConfigError):
    """The experiment was deleted, and its name stays taken until somebody restores it or removes it for good."""


def unusable(uri: str, error: Exception) -> ConfigError:
    """What is said of a store that does not answer or cannot be written, with the variable that names it."""
    if isinstance(error, ExperimentDeleted):
        return error
    named = f" ({VARIABLE})" if os.environ.get(VARIABLE) == uri else ""
    hint = "; is it an MLflow server?" if uri.startswith("http") and "failed with error code 404" in str(error) else ""
    return ConfigError(f"The tracking store {without_secret(uri)}{named} cannot be used: {shorten(error)}{hint}")


def experiment_id(client: MlflowClient, name: str, beside: Path) -> str:
    """The id of the experiment of this name, which is created if it does not exist.

    Where no server keeps artifacts, they go into a folder ``mlartifacts`` in ``beside``, and never into ``mlruns`` in
    the working folder: MLflow would take a folder of that name for a store of its own.

    Raises:
        ExperimentDeleted: it was deleted.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        restore = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        raise ExperimentDeleted(
            f"The MLflow experiment {name} was deleted; restore it: "
            f"{VARIABLE}={without_secret(client.tracking_uri)} {restore}"
        )
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
    """Check that a server answers at its port, and the object store of an MLflow server's artifacts, if the environment
    names one; MLflow itself would try to connect for minutes.

    Raises:
        OSError: nobody answers, or what does is no database.
        ValueError: the address is none.
    """
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", uri):
        raise ValueError(f"it has no scheme; write http://{uri}")
    address = address_of(uri)
    if address is None:  # a file
        return
    served = uri.startswith("http")
    why = no_http_answer(uri) if served else no_answer(*address)
    if why is None and uri.startswith("postgres") and not speaks_postgres(*address):
        why = f"what listens on port {address[1]} of {address[0]} is no PostgreSQL"
    artifacts = os.environ.get(ARTIFACTS_VARIABLE)
    if why is None and served and artifacts:
        why = no_http_answer(artifacts)
        why = why and f"its artifacts go to {ARTIFACTS_VARIABLE}={without_secret(artifacts)}, and {why}"
    if why is not None:
        raise ConnectionError(why)


def why_away(uri: str) -> str | None:
    """Why nobody answers at a store's address, as :func:`reach` finds it; null if somebody does."""
    try:
        reach(uri)
    except (OSError, ValueError) as error:
        return shorten(error)
    return None


def set_short_timeouts() -> None:
    """Make MLflow give up on an unreachable server within seconds instead of minutes, and silence its own log.

    Requests to this machine itself go through no proxy.
    """
    keep_loopback_off_proxies()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)  # it prints tracebacks of what it raises as well


def shorten(error: Exception) -> str:
    """The first line of an error, without user and password of any address in it.

    Of a server that took a request and did not answer in time, MLflow's line is longer than what is kept of it and has
    the reason at its end; that reason is returned.
    """
    silent = _SILENT.search(str(error))
    if silent is not None:
        return f"it takes requests, but does not answer within {silent['seconds']} s"
    lines = [line for line in str(error).splitlines() if not line.startswith(_ASIDE)]
    return without_secret((lines or [type(error).__name__])[0])[:LINE_LENGTH]


def without_secret(text: str) -> str:
    """The text without user and password of any address in it, also if the password has unusual characters."""
    for uri in filter(None, map(os.environ.get, _ADDRESSES)):
        text = text.replace(uri, re.sub(r"://[^/@:]*:(?!\d+/).*@", "://", uri))  # of a known address, with spaces too
    for secret in (r"(?<=://)[^/\s]*@", r"(?<=://)[^/@:\s]*:(?!\d+/)\S*@", r"(?i)(?<=password=)[^&\s]+"):
        text = re.sub(secret, "", text)
    return text
