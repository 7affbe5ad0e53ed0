"""MLflow: a parent run per sweep, a child run per trial and control."""

import logging
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from sweeper import plots
from sweeper.records import FAILED, FINISHED, PRUNED, RunKey, TrialRecord
from sweeper.results import RunFolder
from trainers.errors import ConfigError
from trainers.evaluation import METRICS

STATUS = {FINISHED: "FINISHED", PRUNED: "KILLED", FAILED: "FAILED"}
BATCH = 1000
"""Metrics that MLflow takes in one request."""
SECONDS_BETWEEN_REQUESTS = 10.0
PARAMS_A_BATCH = 100
TAG_LENGTH = 500
LINE_LENGTH = 200

log = logging.getLogger(__name__)


def tracking_uri(runs: Path) -> str:
    """``MLFLOW_TRACKING_URI``, or else an SQLite file beside the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(runs / 'mlflow.db').resolve()}"


class Tracker:
    """Writes one sweep to MLflow. Metrics are kept back and sent in batches, one request per run and trial end.

    Args:
        uri: of the tracking store.
        experiment: its name.
        folder: the run folder.
        tags: of the parent run.
        params: of the parent run.

    Raises:
        ConfigError: the store cannot be reached or written.
    """

    def __init__(self, uri: str, experiment: str, folder: RunFolder, tags: dict[str, str], params: dict[str, Any]):
        # A server that is away is found out now, in seconds, and not by MLflow's retries over minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.shown_uri = _without_secret(uri)
        self._folder = folder
        self._tags = tags
        self._runs: dict[str, str] = {}
        self._waiting: dict[str, list[Metric]] = {}
        self._sent: dict[str, set[tuple[str, int]]] = {}
        self._sent_at: dict[str, float] = {}
        try:
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(experiment)
            artifacts = None if uri.startswith("http") else (folder.path.parent / "mlartifacts").resolve().as_uri()
            self._experiment = found.experiment_id if found else self._client.create_experiment(experiment, artifacts)
            parent = self._client.create_run(self._experiment, tags=tags, run_name=folder.path.name)
        except Exception as error:
            raise ConfigError(f"The tracking store {_without_secret(uri)} cannot be used: {_line(error)}") from error
        self.parent = parent.info.run_id
        self._log(self.parent, params=params)

    def trial_started(self, record: TrialRecord) -> None:
        """Open the run of a trial, or go on with it after a crash."""
        if record.trial_id in self._runs:
            return
        config = record.config
        scenarios = config.scenarios
        tags = {
            **self._tags,
            MLFLOW_PARENT_RUN_ID: self.parent,
            MLFLOW_RUN_NAME: f"{record.trial_id} {config.defense} vs {', '.join(s.name for s in scenarios)}",
            "role": record.role,
            "trial_id": record.trial_id,
            "config_id": config.setting_key,
            "defense": config.defense,
            "attack": ", ".join(sorted({s.attack for s in scenarios})),
            "poison_rate": ", ".join(sorted({f"{s.poison_rate:g}" for s in scenarios})),
            "seed": ", ".join(map(str, config.repeats)),
            "status": "RUNNING",
        }
        params: dict[str, Any] = {f"defense.{key}": value for key, value in config.params.items()}
        for scenario in scenarios:
            common = {"poison_rate": scenario.poison_rate, "target": scenario.resolved_target, **scenario.params}
            params |= {f"{scenario.name}.{key}": value for key, value in common.items()}

        def start() -> None:
            run = self._client.create_run(self._experiment, tags={k: v[:TAG_LENGTH] for k, v in tags.items()})
            self._runs[record.trial_id] = run.info.run_id

        self._safely(start)
        if record.trial_id in self._runs:
            self._log(self._runs[record.trial_id], params=params)

    def epoch_ended(self, record: TrialRecord, run: RunKey, figures: dict[str, Any]) -> None:
        """Keep an epoch's figures for the next request, some seconds later. With several runs in a trial, the name of a
        metric tells which. A retry measures some epochs again, and MLflow would keep both: those are sent once.
        """
        prefix = "" if len(record.config.runs()) == 1 else f"{run[0]}/seed{run[1]}/"
        now = int(time.time() * 1000)
        sent = self._sent.setdefault(record.trial_id, set())
        step = int(figures["epoch"])
        for name in METRICS:
            key = prefix + name
            if name != "epoch" and figures.get(name) is not None and (key, step) not in sent:
                sent.add((key, step))
                metric = Metric(key, float(figures[name]), now, step)
                self._waiting.setdefault(record.trial_id, []).append(metric)
        if time.monotonic() - self._sent_at.setdefault(record.trial_id, time.monotonic()) > SECONDS_BETWEEN_REQUESTS:
            self._sent_at[record.trial_id] = time.monotonic()
            self._send(record.trial_id)

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """Send what is kept, the pictures, and how it ended."""
        run_id = self._runs.get(record.trial_id)
        if run_id is None:
            return
        self._send(record.trial_id)
        tags = {"status": record.status, "attempt": str(record.attempt)}
        if record.error:
            tags["error"] = record.error[:TAG_LENGTH]
        if record.role == "trial" and any(row["weak_attack"] for row in rows):
            tags["weak_attack"] = ", ".join(sorted({row["scenario"] for row in rows if row["weak_attack"]}))
        self._log(run_id, tags=tags)
        self._safely(lambda: self._log_pictures(run_id, record))
        self._safely(lambda: self._client.set_terminated(run_id, STATUS[record.status]))

    def _send(self, trial_id: str) -> None:
        metrics = self._waiting.pop(trial_id, [])
        if trial_id in self._runs:
            self._log(self._runs[trial_id], metrics=metrics)

    def _log_pictures(self, run_id: str, record: TrialRecord) -> None:
        with tempfile.TemporaryDirectory(prefix="sweeper-artifacts-") as scratch:
            for picture in plots.draw_trial(record, self._folder, Path(scratch)):
                self._client.log_artifact(run_id, str(picture))

    def sweep_ended(self, artifacts: Sequence[Path], metrics: dict[str, float], failed: bool) -> None:
        """Close the parent run with the sweep's tables and pictures."""
        now = int(time.time() * 1000)
        self._log(self.parent, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])
        for path in artifacts:
            self._safely(lambda path=path: self._client.log_artifact(self.parent, str(path)))
        self._safely(lambda: self._client.set_terminated(self.parent, "FAILED" if failed else "FINISHED"))

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        entries = [Param(key, str(value)) for key, value in (params or {}).items()]
        labels = [RunTag(key, value) for key, value in (tags or {}).items()]
        for start in range(0, len(entries), PARAMS_A_BATCH):
            part = entries[start : start + PARAMS_A_BATCH]
            self._safely(lambda part=part: self._client.log_batch(run_id, params=part))
        for start in range(0, len(metrics), BATCH):
            some = metrics[start : start + BATCH]
            self._safely(lambda some=some: self._client.log_batch(run_id, metrics=some))
        if labels:
            self._safely(lambda: self._client.log_batch(run_id, tags=labels))

    def _safely(self, action: Any) -> None:
        """A lost server costs entries in MLflow, never the sweep: the run folder is the truth.

        Artifact stores raise what their clients raise, so everything is caught.
        """
        try:
            action()
        except Exception as error:  # noqa: BLE001
            log.warning("MLflow %s: %s", self.shown_uri, _line(error))


def _line(error: Exception) -> str:
    """The first line of an error, without user and password of any address in it."""
    return _without_secret((str(error).splitlines() or [type(error).__name__])[0])[:LINE_LENGTH]


def _without_secret(text: str) -> str:
    return re.sub(r"://[^/\s]*@", "://", text)
