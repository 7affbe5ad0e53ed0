"""MLflow: a parent run per sweep, a child run per trial and control."""

import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import CONTROL, FAILED, FINISHED, PRUNED, RUNNING, RunKey, TrialRecord
from sweeper.tracking.content import (
    data_input,
    final_figures,
    metric_prefix,
    milliseconds,
    record_params,
    record_tags,
    sweep_params,
    sweep_tags,
)
from sweeper.tracking.store import experiment_id, reach, set_short_timeouts, shorten, unusable, without_secret
from sweeper.tracking.view import view_of
from trainers.measuring.evaluation import METRICS

STATUS = {FINISHED: "FINISHED", PRUNED: "KILLED", FAILED: "FAILED", RUNNING: "RUNNING"}
BATCH = 1000
"""Metrics that MLflow takes in one request."""
PARAMS_A_BATCH = 100
RUNS_A_PAGE = 1000
SECONDS_BETWEEN_REQUESTS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds without a request after one failed; each failure doubles them."""
TAG_LENGTH = 500
FINAL = "final/"
"""Start of the names of an ended trial's figures."""
EVERY_EPOCH = "images_seen"
"""A metric that every epoch has: it tells which epochs MLflow holds."""
REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "PERMISSION_DENIED")
"""Error codes with which a server refuses a request: sending it again will not help."""

WHOLE_SWEEP = "the sweep's own run"
"""Among what a store lacks."""

DrawTrial = Callable[[TrialRecord, RunFolder, Path], Iterable[Path]]

log = logging.getLogger(__name__)


class Tracker:
    """Writes one sweep to MLflow: a follower of the sweep's ledger.

    Runs of this sweep that the store already holds are found by the sweep's id and continued, so that a sweep that is
    resumed, or written again, appears only once. If the store stops answering, it is tried again after a pause; what it
    missed is sent then, or by ``sweeper track``: the run folder holds all of it.

    Args:
        uri: of the tracking store.
        folder: the run folder.
        sweep: content of ``sweep.yaml``.
        draw_trial: draws what a trial's run shows, from its record and the run folder, as files in a scratch folder.

    Raises:
        ConfigError: the store cannot be reached or written.
        ExperimentDeleted: the sweep's experiment was deleted there.
    """

    def __init__(self, uri: str, folder: RunFolder, sweep: dict[str, Any], draw_trial: DrawTrial):
        set_short_timeouts()
        self.shown_uri = without_secret(uri)
        self._folder = folder.absolute
        self._sweep = sweep
        self._draw_trial = draw_trial
        self._tags = sweep_tags(sweep)
        self._class_names = tuple(map(str, sweep["data"].get("class_names", [])))
        self._runs: dict[str, _Child] = {}
        self._behind: dict[str, tuple[TrialRecord, Sequence[dict[str, Any]] | None]] = {}
        self._refused: set[str] = set()
        self._lost = False
        self._unsure = False
        self._pause = FIRST_PAUSE
        self._ask_again_at = 0.0
        self._uri = uri
        try:
            reach(uri)
            self._client = MlflowClient(tracking_uri=uri)
            self._experiment = experiment_id(self._client, sweep["preset"]["name"], folder.path.parent)
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
            raise unusable(uri, error) from error
        self._save_view()

    @property
    def behind(self) -> list[str]:
        """What MLflow lacks, in whole or in part: ids of ended trials, and the sweep's own run."""
        ended = {name for name, (_, rows) in self._behind.items() if rows is not None}
        return sorted(ended | self._refused)

    @property
    def rest_s(self) -> float | None:
        """Seconds until the store is asked again; null while it answers."""
        return max(self._ask_again_at - time.monotonic(), 0.0) if self._lost else None

    def trial_changed(self, record: TrialRecord) -> None:
        """Record that a training of a trial or control started or broke off."""
        self._follow(record, None)

    def epoch_ended(self, record: TrialRecord) -> None:
        """Record that a trial has trained one more epoch; new figures are sent at most every few seconds."""
        self._follow(record, None)

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """Record that a trial ended; ``rows`` are its rows of ``trials.parquet``."""
        self._follow(record, rows)

    def _follow(self, record: TrialRecord, rows: Sequence[dict[str, Any]] | None) -> None:
        child = self._runs.get(record.trial_id)
        if rows is None and child and child.introduced and time.monotonic() - child.sent_at < SECONDS_BETWEEN_REQUESTS:
            return
        self._behind[record.trial_id] = (record, rows)
        if time.monotonic() >= self._ask_again_at:
            self.catch_up()

    def catch_up(self) -> None:
        """Send everything that MLflow lacks, until the store stops answering."""
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
        """Send what MLflow still lacks, and close the parent run with the sweep's tables and pictures.

        Args:
            artifacts: files; missing ones are left out.
            metrics: of the whole sweep.
            status: FINISHED, FAILED or KILLED.
        """
        self.catch_up()
        done = [self._safely(partial(self._close_parent, metrics, status))]
        if done[0] or not self._lost:  # else each file would wait for an answer in vain
            parts = [partial(self._client.log_artifact, self.parent, str(path)) for path in artifacts if path.exists()]
            done += [self._safely(part) for part in parts]  # all of them, even if one fails
        if not all(done):
            self._refused.add(WHOLE_SWEEP)

    def _close_parent(self, metrics: dict[str, float], status: str) -> None:
        known = self._client.get_run(self.parent).data.metrics
        now = milliseconds(time.time())
        new = [Metric(name, value, now, 0) for name, value in metrics.items() if known.get(name) != value]
        if new:
            self._client.log_batch(self.parent, metrics=new)
        self._client.set_terminated(self.parent, status)

    def _save_view(self) -> None:
        """Save a view of the sweep for MLflow's UI, once; a store that refuses it has all the runs all the same."""
        try:
            key, value = view_of(self._sweep, self._folder.path.name, milliseconds(time.time()))
            if key not in self._client.get_experiment(self._experiment).tags:
                self._client.set_experiment_tag(self._experiment, key, value)
        except Exception as error:  # noqa: BLE001  # nobody needs it, whatever the reason is
            log.info("MLflow %s: no saved view: %s", self.shown_uri, shorten(error))

    def _find_runs(self) -> None:
        """Find the runs of this sweep that the store holds."""
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
        """Bring a trial's run up to date. Its status is sent last, so that it shows that all the rest is there."""
        child = self._runs.get(record.trial_id) or self._open(record)
        if rows is not None and child.has(record, rows):
            return
        if child.status != RUNNING:
            self._client.update_run(child.run_id, status="RUNNING")
            self._client.set_tag(child.run_id, "status", RUNNING)
            child.status = RUNNING
        if not child.introduced:
            self._log_params(child.run_id, record_params(record, self._class_names))
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
        own = record_tags(record, self._class_names)
        tags = {**self._tags, **own, MLFLOW_PARENT_RUN_ID: self.parent, "status": RUNNING}
        self._unsure = True
        run = self._client.create_run(
            self._experiment, milliseconds(record.began_at), {k: v[:TAG_LENGTH] for k, v in tags.items()}
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
            prefix = metric_prefix(record, run)
            if run not in child.sent:
                child.sent[run] = self._steps(child.run_id, prefix + EVERY_EPOCH) if child.before else set()
            for epoch in sorted(set(epochs) - child.sent[run]):
                figures = epochs[epoch]
                at = milliseconds(figures["reported_at"])
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
        at = milliseconds(record.ended_at or record.began_at)
        step = max((max(epochs) for epochs in record.epochs.values() if epochs), default=0)
        now = milliseconds(time.time())  # for what changed: of figures of one time MLflow shows the largest
        final = child.new_figures(rows)
        if final:
            metrics = [Metric(FINAL + k, v, now if k in child.final else at, step) for k, v in final.items()]
            self._client.log_batch(child.run_id, metrics=metrics)
            child.final |= final
        try:
            self._log_pictures(child.run_id, record)
        except Exception as error:  # noqa: BLE001  # figures are sent even if pictures fail
            log.warning("MLflow %s: no pictures of %s: %s", self.shown_uri, record.trial_id, shorten(error))
        tags = {"attempt": str(max((state.attempt for state in record.trainings.values()), default=0))}
        if record.error or child.before:
            tags["error"] = _error_tag(record)
        weak = _weak_tag(record, rows)
        if weak != child.weak_attack:
            tags["weak_attack"] = weak
        self._client.log_batch(child.run_id, tags=[RunTag(k, v) for k, v in {**tags, "status": record.status}.items()])
        self._client.set_terminated(child.run_id, STATUS[record.status], at)
        child.status, child.error, child.weak_attack = record.status, _error_tag(record), weak
        child.sent, child.before = {}, True  # should it go on, the store is asked what it has

    def _log_pictures(self, run_id: str, record: TrialRecord) -> None:
        with tempfile.TemporaryDirectory(prefix="sweeper-artifacts-") as scratch:
            for picture in self._draw_trial(record, self._folder, Path(scratch)):
                self._client.log_artifact(run_id, str(picture))

    def _log_params(self, run_id: str, params: dict[str, Any]) -> None:
        entries = [Param(key, str(value)) for key, value in params.items()]
        for start in range(0, len(entries), PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=entries[start : start + PARAMS_A_BATCH])

    def _safely(self, action: Callable[[], None]) -> bool:
        """Run an action on the store, and catch its errors: a lost store must not end the sweep.

        Artifact stores raise what their clients raise, so everything is caught.

        Returns:
            Whether it was done. If not, ``_lost`` tells whether the store has stopped answering, which may pass.
        """
        try:
            if self._lost:
                reach(self._uri)
            action()
        except Exception as error:  # noqa: BLE001
            refused = isinstance(error, MlflowException) and error.error_code in REFUSED
            if refused or not self._lost:  # it was logged when the store went away
                log.warning("MLflow %s: %s", self.shown_uri, shorten(error))
            self._lost = not refused
            if refused:
                return False
            self._ask_again_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False
        self._pause, self._lost = FIRST_PAUSE, False
        return True


class _Child:
    """State of a trial's run in MLflow.

    Args:
        run_id: MLflow's id of the run.
        sent: epochs that MLflow has, by run within the trial.
        before: whether the run was there before this process, so that the store must be asked what it has.
        status: as its tag says.
        error: as its tag says.
        weak_attack: as its tag says.
        final: figures of the ended trial.
    """

    def __init__(
        self,
        run_id: str,
        sent: dict[RunKey, set[int]],
        before: bool = False,
        status: str = RUNNING,
        error: str = "",
        weak_attack: str = "",
        final: dict[str, float] | None = None,
    ):
        self.run_id = run_id
        self.sent = sent
        self.before = before
        self.status = status
        self.error = error
        self.weak_attack = weak_attack
        self.final = final or {}
        self.introduced = False
        self.sent_at = 0.0

    @classmethod
    def found(cls, run: Run) -> "_Child":
        """The state of a run that the store already holds."""
        tags = run.data.tags
        status = tags.get("status", RUNNING)
        whole = run.info.status == STATUS.get(status)
        final = {k.removeprefix(FINAL): v for k, v in run.data.metrics.items() if k.startswith(FINAL)}
        error, weak = tags.get("error", ""), tags.get("weak_attack", "")
        return cls(run.info.run_id, {}, True, status if whole else "", error, weak, final)

    def has(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> bool:
        """Whether MLflow has all of an ended trial; its control may end later, and add to it."""
        ended = (record.status, _error_tag(record), _weak_tag(record, rows))
        return (self.status, self.error, self.weak_attack) == ended and not self.new_figures(rows)

    def new_figures(self, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
        """The final figures that MLflow lacks, or has with other values."""
        return {name: value for name, value in final_figures(rows).items() if self.final.get(name) != value}


def _error_tag(record: TrialRecord) -> str:
    """The tag with the error of a trial; empty if there was none."""
    return (record.error or "")[:TAG_LENGTH]


def _weak_tag(record: TrialRecord, rows: Sequence[dict[str, Any]]) -> str:
    """The tag with the scenarios whose attack is weak; empty if there are none, and for controls."""
    if record.role == CONTROL:
        return ""
    return ", ".join(sorted({str(row["scenario"]) for row in rows if row["weak_attack"]}))[:TAG_LENGTH]
