"""Trainings without Ray: each is done by a process of a pool, on one core; and their figures over seeds."""

import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from sweeper.preset.spec import validate
from trainers.data.image_set import Splits
from trainers.trial import EpochResult, TrialConfig, run_trial

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """One setting with one seed.

    Args:
        label: what tables call the setting.
        config: the training.
        preset: of the data.
        control: a training without a defense on the same poisoned data, to measure beside it; null: none.
    """

    label: str
    config: TrialConfig
    preset: Mapping[str, Any]
    control: TrialConfig | None = None


_loaded: dict[str, Splits] = {}


def load(preset: Mapping[str, Any]) -> Splits:
    """The data of a preset, read once in each process.

    Raises:
        ConfigError, PresetError: the preset is not valid, or the data cannot be read.
    """
    # A defense may take images without labels from elsewhere, and weights say how images are resized.
    key = repr((preset["data"], preset["defense"], preset.get("model")))
    if key not in _loaded:
        _loaded[key] = validate(dict(preset), "preset").load()
    return _loaded[key]


def last_epoch(config: TrialConfig, preset: Mapping[str, Any], attack_cache: Path | None = None) -> EpochResult:
    """Train on the data of a preset; returns the last epoch.

    Args:
        config: the training.
        preset: of the data.
        attack_cache: folder for the surrogates and generators of attacks; null: they are trained each time.
    """
    return list(run_trial(config, load(preset), attack_cache=attack_cache))[-1]


def in_processes(
    run: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    progress: Callable[[Result], str] | None = None,
) -> list[Result]:
    """The results of jobs, in their order.

    Args:
        run: does one job; a function of a module, since processes import it.
        jobs: what to do.
        workers: number of processes.
        progress: a line about a result, which is printed to stderr; null: nothing is printed.
    """
    results = []
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for result in pool.map(run, jobs):
            results.append(result)
            if progress is not None:
                print(progress(result), file=sys.stderr)
    return results


def mean_and_spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation (n - 1) as text, ``0.912 ± 0.004``; the mean alone if there is one value."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.3f}{spread}"


def lines_by_label(rows: Sequence[Mapping[str, Any]], figures: Sequence[str]) -> list[list[str]]:
    """A line of a table for each ``label`` of the rows: it, and each figure over its rows."""
    lines = []
    for label in dict.fromkeys(row["label"] for row in rows):
        own = [row for row in rows if row["label"] == label]
        lines.append([label, *(mean_and_spread([row[name] for row in own]) for name in figures)])
    return lines
