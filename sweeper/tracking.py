"""MLflow: a parent run per sweep, a child run per trial and control."""

import json
import logging
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from sweeper import plots
from sweeper.records import FAILED, FINISHED, PRUNED, RUNNING, RunKey, TrialRecord
from sweeper.run_folder import RunFolder
from trainers.errors import ConfigError
from trainers.evaluation import METRICS

STATUS = {FINISHED: "FINISHED", PRUNED: "KILLED", FAILED: "FAILED", RUNNING: "RUNNING"}
BATCH = 1000
"""Metrics that MLflow takes in one request."""
PARAMS_A_BATCH = 100
RUNS_A_PAGE = 1000
SECONDS_BETWEEN_REQUESTS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds without a request after one failed; each failure doubles them."""
TAG_LENGTH = 500
LINE_LENGTH = 200
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
PROBE = "sweeper-probe"
"""An experiment that is made and deleted to see whether a store can be written."""
EVERY_EPOCH = "images_seen"
"""A metric that no epoch lacks: it tells which ones MLflow has."""
REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "PERMISSION_DENIED")
"""Answers of a server that is there: asking again will not help."""

log = logging.getLogger(__name__)


def tracking_uri(runs: Path) -> str:
    """``MLFLOW_TRACKING_URI``, or else an SQLite file beside the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(runs / 'mlflow.db').resolve()}"


def check_store(uri: str) -> None:
    """See whether a tracking store answers and can be written.

    Raises:
        ConfigError: it does not, or cannot.
    """
    impatient()
    try:
        _reach(uri)
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(PROBE)
        experiment = found.experiment_id if found else client.create_experiment(PROBE)
        if found and found.lifecycle_stage == "deleted":
            client.restore_experiment(experiment)
        client.delete_experiment(experiment)
    except Exception as error:
        raise ConfigError(f"The tracking store {without_secret(uri)} cannot be used: {shorten(error)}") from error


def attach(uri: str, sweep: dict[str, Any], path: Path) -> bool:
    """Add a file to the run of a sweep that was tracked before.

    Returns:
        Whether it is there now; no store, or one that does not know the sweep or does not answer, is no error.
    """
    file = uri.removeprefix("sqlite:///")
    if uri.startswith("sqlite:///") and not Path(file).exists():
        return False  # MLflow would make a new store
    impatient()
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(sweep["preset"]["name"])
        wanted = f"tags.sweep_id = '{sweep['sweep_id']}' and tags.role = 'sweep'"
        runs = client.search_runs([found.experiment_id], wanted) if found else []
        for run in runs:
            client.log_artifact(run.info.run_id, str(path))
    except Exception as error:  # noqa: BLE001  # artifact stores raise what their clients raise
        log.warning("MLflow %s: %s", without_secret(uri), shorten(error))
        return False
    return bool(runs)


def _reach(uri: str) -> None:
    """Knock at a database server's door; MLflow itself would try to connect for minutes.

    Raises:
        OSError: nobody answers.
    """
    parts = urlsplit(uri)
    port = DATABASE_PORTS.get(parts.scheme.partition("+")[0])
    if port is not None and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or port), timeout=10).close()


def impatient() -> None:
    """Find out in seconds that a server is away, and not by MLflow's retries over minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)


class Tracker:
    """Writes one sweep to MLflow, from what the run folder holds too.

    Whatever the store has already of this sweep is found by the sweep's id and gone on with, so that a sweep which is
    resumed, or written again, stands there once. A store that is lost on the way is asked again after a pause; what it
    missed is sent then, or by ``sweeper track``.

    Args:
        uri: of the tracking store.
        folder: the run folder.
        sweep: content of ``sweep.yaml``.

    Raises:
        ConfigError: the store cannot be reached or written.
    """

    def __init__(self, uri: str, folder: RunFolder, sweep: dict[str, Any]):
        impatient()
        self.shown_uri = without_secret(uri)
        self._folder = folder
        self._sweep = sweep
        self._tags = sweep_tags(sweep)
        self._runs: dict[str, _Child] = {}
        self._behind: dict[str, tuple[TrialRecord, Sequence[dict[str, Any]] | None]] = {}
        self._refused: set[str] = set()
        self._lost = False
        self._unsure = False
        self._pause = FIRST_PAUSE
        self._ask_again_at = 0.0
        self._uri = uri
        try:
            _reach(uri)
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(sweep["preset"]["name"])
            artifacts = None if uri.startswith("http") else (folder.path.parent / "mlartifacts").resolve().as_uri()
            self._experiment = (
                found.experiment_id if found else self._client.create_experiment(sweep["preset"]["name"], artifacts)
            )
            self._find_runs()
            parent = self._known_parent or self._client.create_run(
                self._experiment, tags={**self._tags, "role": "sweep"}, run_name=folder.path.resolve().name
            )
            self.parent = parent.info.run_id
            if parent.info.status != "RUNNING":
                self._client.update_run(self.parent, status="RUNNING")
            self._log_params(self.parent, sweep_params(sweep))
            self._client.log_inputs(self.parent, [data_input(sweep)])
        except Exception as error:
            raise ConfigError(f"The tracking store {self.shown_uri} cannot be used: {shorten(error)}") from error

    @property
    def behind(self) -> list[str]:
        """What MLflow does not know in full: ended trials, and the sweep's own run."""
        ended = {name for name, (_, rows) in self._behind.items() if rows is not None}
        return sorted(ended | self._refused)

    def follow(self, record: TrialRecord, rows: Sequence[dict[str, Any]] | None = None) -> None:
        """Send what is new of a trial, running ones at most every few seconds.

        Args:
            record: of the trial.
            rows: of ``trials.parquet``, once it has ended.
        """
        child = self._runs.get(record.trial_id)
        if rows is None and child and child.introduced and time.monotonic() - child.sent_at < SECONDS_BETWEEN_REQUESTS:
            return
        self._behind[record.trial_id] = (record, rows)
        if time.monotonic() >= self._ask_again_at:
            self._catch_up()

    def _catch_up(self) -> None:
        """Send all that MLflow misses, until a request fails."""
        for trial_id, (record, rows) in list(self._behind.items()):
            del self._behind[trial_id]
            if self._safely(partial(self._send, record, rows)):
                self._refused.discard(trial_id)
            elif self._lost:
                self._behind[trial_id] = (record, rows)  # at the end, so that one trial does not hold up the others
                return
            else:
                self._refused.add(trial_id)

    def sweep_ended(self, artifacts: Sequence[Path], metrics: dict[str, float], status: str) -> None:
        """Close the parent run with the sweep's tables and pictures. One last time, what MLflow misses is sent.

        Args:
            artifacts: files; those that are not there are left out.
            metrics: of the whole sweep.
            status: FINISHED, FAILED or KILLED.
        """
        self._catch_up()
        parts = [partial(self._close_parent, metrics, status)]
        parts += [partial(self._client.log_artifact, self.parent, str(path)) for path in artifacts if path.exists()]
        done = [self._safely(part) for part in parts]  # each of them, whatever becomes of the others
        if not all(done):
            self._refused.add("the sweep's own run")

    def _close_parent(self, metrics: dict[str, float], status: str) -> None:
        known = self._client.get_run(self.parent).data.metrics
        now = _milliseconds(time.time())
        new = [Metric(name, value, now, 0) for name, value in metrics.items() if known.get(name) != value]
        if new:
            self._client.log_batch(self.parent, metrics=new)
        self._client.set_terminated(self.parent, status)

    def _find_runs(self) -> None:
        """Learn which runs of this sweep the store holds."""
        self._known_parent: Run | None = None
        for run in self._search(f"tags.sweep_id = '{self._sweep['sweep_id']}'"):
            trial_id = run.data.tags.get("trial_id")
            if trial_id is None:
                self._known_parent = run
            elif trial_id not in self._runs:
                self._runs[trial_id] = _Child.found(run)

    def _search(self, text: str) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], text, max_results=RUNS_A_PAGE, order_by=["attributes.start_time"], page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _send(self, record: TrialRecord, rows: Sequence[dict[str, Any]] | None) -> None:
        """Bring a trial's run up to date. Its status is sent last, so that it says whether all the rest is there."""
        child = self._runs.get(record.trial_id) or self._open(record)
        if rows is not None and (child.status, child.error) == (record.status, (record.error or "")[:TAG_LENGTH]):
            return
        if child.status != RUNNING:
            self._client.update_run(child.run_id, status="RUNNING")
            self._client.set_tag(child.run_id, "status", RUNNING)
            child.status = RUNNING
        if not child.introduced:
            self._log_params(child.run_id, _params(record))
            self._client.log_inputs(child.run_id, [data_input(self._sweep)])
            child.introduced = True
        self._send_epochs(child, record)
        child.sent_at = time.monotonic()
        if rows is not None:
            self._close(child, record, rows)

    def _open(self, record: TrialRecord) -> "_Child":
        if self._unsure:  # the answer to an earlier request was lost, and the run may be there
            self._find_runs()
            self._unsure = False
            if record.trial_id in self._runs:
                return self._runs[record.trial_id]
        tags = {**self._tags, **_record_tags(record), MLFLOW_PARENT_RUN_ID: self.parent, "status": RUNNING}
        self._unsure = True
        run = self._client.create_run(
            self._experiment, _milliseconds(record.began_at), {k: v[:TAG_LENGTH] for k, v in tags.items()}
        )
        self._unsure = False
        child = self._runs[record.trial_id] = _Child(run.info.run_id, sent={})
        return child

    def _send_epochs(self, child: "_Child", record: TrialRecord) -> None:
        """Send the epochs that MLflow lacks, whole epochs in each request."""
        batch: list[Metric] = []
        going: list[tuple[RunKey, int]] = []

        def send() -> None:
            if batch:
                self._client.log_batch(child.run_id, metrics=batch)
            for run, epoch in going:
                child.sent[run].add(epoch)
            batch.clear()
            going.clear()

        for run, epochs in record.epochs.items():
            prefix = _prefix(record, run)
            if run not in child.sent:
                child.sent[run] = self._steps(child.run_id, prefix + EVERY_EPOCH) if child.before else set()
            for epoch in sorted(set(epochs) - child.sent[run]):
                figures = epochs[epoch]
                at = _milliseconds(figures["reported_at"])
                metrics = [
                    Metric(prefix + name, float(figures[name]), at, epoch)
                    for name in METRICS
                    if name != "epoch" and figures.get(name) is not None
                ]
                if len(batch) + len(metrics) > BATCH:
                    send()
                batch.extend(metrics)
                going.append((run, epoch))
        send()

    def _steps(self, run_id: str, key: str) -> set[int]:
        return {metric.step for metric in self._client.get_metric_history(run_id, key)}

    def _close(self, child: "_Child", record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        at = _milliseconds(record.ended_at or record.began_at)
        step = max((max(epochs) for epochs in record.epochs.values() if epochs), default=0)
        final = [Metric(f"final/{name}", value, at, step) for name, value in final_figures(rows).items()]
        if final:
            self._client.log_batch(child.run_id, metrics=final)
        try:
            self._log_pictures(child.run_id, record)
        except Exception as error:  # noqa: BLE001  # figures matter more than pictures, whatever is wrong with those
            log.warning("MLflow %s: no pictures of %s: %s", self.shown_uri, record.trial_id, shorten(error))
        tags = {"attempt": str(record.attempt)}
        if record.error or child.before:
            tags["error"] = (record.error or "")[:TAG_LENGTH]
        weak = sorted({str(row["scenario"]) for row in rows if row["weak_attack"]})
        if record.role != "control" and weak:
            tags["weak_attack"] = ", ".join(weak)[:TAG_LENGTH]
        self._client.log_batch(child.run_id, tags=[RunTag(k, v) for k, v in {**tags, "status": record.status}.items()])
        self._client.set_terminated(child.run_id, STATUS[record.status], at)
        child.status, child.error = record.status, (record.error or "")[:TAG_LENGTH]

    def _log_pictures(self, run_id: str, record: TrialRecord) -> None:
        with tempfile.TemporaryDirectory(prefix="sweeper-artifacts-") as scratch:
            for picture in plots.draw_trial(record, self._folder, Path(scratch)):
                self._client.log_artifact(run_id, str(picture))

    def _log_params(self, run_id: str, params: dict[str, Any]) -> None:
        entries = [Param(key, str(value)) for key, value in params.items()]
        for start in range(0, len(entries), PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=entries[start : start + PARAMS_A_BATCH])

    def _safely(self, action: Callable[[], None]) -> bool:
        """A lost server costs entries in MLflow for a while, never the sweep: the run folder is the truth.

        Artifact stores raise what their clients raise, so everything is caught.

        Returns:
            Whether it was done. If not, ``_lost`` says whether the store is away, which may pass.
        """
        try:
            if self._lost:
                _reach(self._uri)
            action()
        except Exception as error:  # noqa: BLE001
            log.warning("MLflow %s: %s", self.shown_uri, shorten(error))
            self._lost = not (isinstance(error, MlflowException) and error.error_code in REFUSED)
            if not self._lost:
                return False
            self._ask_again_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False
        self._pause, self._lost = FIRST_PAUSE, False
        return True


class _Child:
    """What is known of a trial's run in MLflow.

    Args:
        run_id: there.
        sent: epochs that MLflow has, by run within the trial.
        before: whether the run was there before this process, so that the store must be asked what it has.
        status: as its tag says.
        error: as its tag says.
    """

    def __init__(
        self, run_id: str, sent: dict[RunKey, set[int]], before: bool = False, status: str = RUNNING, error: str = ""
    ):
        self.run_id = run_id
        self.sent = sent
        self.before = before
        self.status = status
        self.error = error
        self.introduced = False
        self.sent_at = 0.0

    @classmethod
    def found(cls, run: Run) -> "_Child":
        """A run that the store holds."""
        status = run.data.tags.get("status", RUNNING)
        whole = run.info.status == STATUS.get(status)
        error = run.data.tags.get("error", "")
        return cls(run.info.run_id, {}, before=True, status=status if whole else "", error=error)


def sweep_tags(sweep: dict[str, Any]) -> dict[str, str]:
    """Tags that every run of a sweep carries."""
    return {
        "sweep": sweep["preset"]["name"],
        "sweep_id": sweep["sweep_id"],
        "data_fingerprint": sweep["data_fingerprint"],
        "git_commit": sweep["provenance"]["git_commit"] or "unknown",
    }


def sweep_params(sweep: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a sweep's own run. The number of trials is no such: a resumed sweep may raise it."""
    preset = sweep["preset"]
    return {
        "data.source": preset["data"]["source"],
        "model": preset["model"]["name"],
        "sampler": preset["search"]["sampler"],
        "scheduler": preset["search"]["scheduler"],
        "seeds": preset["seeds"],
        "objectives": ", ".join(f"{o['direction']} {o['metric']}" for o in preset["objectives"]),
    }


def data_input(sweep: dict[str, Any]) -> DatasetInput:
    """The data set as MLflow shows it."""
    source = sweep["preset"]["data"]["source"]
    dataset = Dataset(
        name=source.rstrip("/").rpartition("/")[2],
        digest=sweep["data_fingerprint"][:36],
        source_type=source.partition(":")[0],
        source=json.dumps(sweep["preset"]["data"]),
        profile=json.dumps(sweep["data"]),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])


def final_figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Figures of an ended trial over its scenarios, under the same names in every sweep: the mean accuracy, and of
    attack success the worst scenario, each a mean over seeds.
    """
    found: dict[str, float] = {}
    for name, reduce in _FINAL.items():
        by_scenario: dict[str, list[float]] = {}
        for row in rows:
            if row[name] is not None:
                by_scenario.setdefault(row["scenario"], []).append(row[name])
        if by_scenario:
            found[name] = float(reduce([fmean(values) for values in by_scenario.values()]))
    return found


_FINAL: dict[str, Callable[[list[float]], float]] = {
    "val_acc": fmean, "val_asr": max, "test_acc": fmean, "test_asr": max, "control_asr": min, "detection_auroc": min
}  # fmt: skip


def _record_tags(record: TrialRecord) -> dict[str, str]:
    """Tags by which a trial is found."""
    tags = {"role": record.role, "trial_id": record.trial_id}
    if record.config is None:
        return tags | {MLFLOW_RUN_NAME: f"{record.trial_id} refused"}
    config = record.config
    names = ", ".join(s.name for s in config.scenarios)
    seeds = "" if len(config.repeats) > 1 else f" seed {config.repeats[0]}"
    return tags | {
        MLFLOW_RUN_NAME: f"{record.trial_id} {config.defense} vs {names}{seeds}",
        "config_id": config.setting_key,
        "defense": config.defense,
        "attack": ", ".join(sorted({s.attack for s in config.scenarios})),
        "poison_rate": ", ".join(sorted({f"{s.poison_rate:g}" for s in config.scenarios})),
        "seed": ", ".join(map(str, config.repeats)),
    }


def _params(record: TrialRecord) -> dict[str, Any]:
    if record.config is None:
        return record.searched
    params: dict[str, Any] = {f"defense.{key}": value for key, value in record.config.params.items()}
    for scenario in record.config.scenarios:
        common = {"poison_rate": scenario.poison_rate, "target": scenario.resolved_target, **scenario.params}
        params |= {f"{scenario.name}.{key}": value for key, value in common.items()}
    return params


def _prefix(record: TrialRecord, run: RunKey) -> str:
    """With several runs in a trial, the name of a metric tells which."""
    return "" if len(record.runs) == 1 else f"{run[0]}/seed{run[1]}/"


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def shorten(error: Exception) -> str:
    """The first line of an error, without user and password of any address in it."""
    return without_secret((str(error).splitlines() or [type(error).__name__])[0])[:LINE_LENGTH]


def without_secret(text: str) -> str:
    """The text without user and password of any address in it."""
    return re.sub(r"://[^/\s]*@", "://", text)
