"""Runs a sweep: one Ray Tune run over one study, one run folder and one MLflow experiment."""

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from rich.console import Console

from sweeper.callback import RecordKeeper
from sweeper.progress import LiveDisplay
from sweeper.provenance import provenance
from sweeper.records import FINISHED
from sweeper.results import RunFolder
from sweeper.scheduler import make_scheduler
from sweeper.searcher import SweepSearcher
from sweeper.spec import SweepSpec
from sweeper.study import open_study
from sweeper.tracking import Tracker
from sweeper.worker import CRASH_FILE, TrialActor, pack
from trainers.data.image_set import Splits
from trainers.defenses import DEFENSES
from trainers.errors import ConfigError

RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our own records take their place
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # warm-up epochs have no objective yet
    "TUNE_DISABLE_SIGINT_HANDLER": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Ray's own snapshots are never read
    "RAY_AIR_NEW_OUTPUT": "0",
}


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Args:
        finished: trials with figures.
        failed: reasons of the trials without.
        interrupted: whether it was cut short, by the user or by its time budget.
    """

    finished: int
    failed: list[str]
    interrupted: str | None


def run_sweep(
    spec: SweepSpec, resolved: dict[str, Any], splits: Splits, folder: RunFolder, tracker: Tracker, console: Console
) -> Outcome:
    """Run every trial of a sweep; the run folder is written as they finish.

    Args:
        spec: the sweep.
        resolved: its preset as plain values, for ``sweep.yaml``.
        splits: the data.
        folder: a new run folder.
        tracker: an open tracking run.
        console: for progress.

    Raises:
        ConfigError: Ray cannot be started, or has fewer resources than one trial asks for.
    """
    folder.write_sweep(
        {"preset": resolved, "data_fingerprint": splits.fingerprint, "provenance": provenance()}
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    searcher = SweepSearcher(spec, open_study(spec, folder.study), splits.fingerprint, folder.states)
    with _ray_runtime(), tempfile.TemporaryDirectory(prefix="sweeper-ray-") as scratch:
        workers = _workers(spec)
        display = LiveDisplay(console, searcher.budget)
        keeper = RecordKeeper(searcher, folder, tracker, display)
        keeper.write_tables()
        trainable = tune.with_parameters(
            TrialActor,
            data=pack(splits),
            folder=str(folder.path.resolve()),
            state_every_s=spec.state_every_s,
            gpu_share=spec.resources.gpu,
            objective=spec.objectives[0] if spec.search.scheduler != "none" else None,
        )
        tuner = tune.Tuner(
            tune.with_resources(trainable, spec.resources.model_dump()),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=make_scheduler(spec, _longest_trial(spec)),
                num_samples=-1,
                max_concurrent_trials=workers,
                reuse_actors=True,
                time_budget_s=spec.search.time_budget and spec.search.time_budget * 60,
            ),
            run_config=tune.RunConfig(
                name=spec.name,
                storage_path=scratch,
                callbacks=[keeper],
                failure_config=tune.FailureConfig(max_failures=spec.search.retries),
                verbose=0,
            ),
        )
        interrupted = None
        try:
            with _noticing_interrupt() as interrupt:
                tuner.fit()
            if interrupt:
                interrupted = "the sweep was interrupted"
            elif searcher.unfinished():
                interrupted = "the time budget ended"
        finally:
            for record in searcher.abandon(f"Not finished: {interrupted or 'the sweep ended early'}."):
                keeper.ended(record)
            keeper.write_tables()
            display.close()
    shutil.rmtree(folder.states, ignore_errors=True)
    trials = [record for record in searcher.records.values() if record.role == "trial"]
    failed = [f"{record.trial_id}: {record.error}" for record in trials if record.error]
    return Outcome(sum(record.status == FINISHED for record in trials), failed, interrupted)
