"""Measures the time that a sweep's driver spends on each training, by task; the trainings compute nothing.

python -m benchmarks.driver [--trials 1000] [--seeds 2] [--epochs 1] [--wait 0] [--workers 2] [--sampler tpe]

The program is one file that contains its trainings, so it runs on a cluster's head too. With ``--wait`` each training
waits for that many seconds, and the figure to look at is the number of trainings a minute.

MLflow is written by a thread, whose share is told apart. The main thread waits for it only at the end, for what is left
then; while both compute, they take turns.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from threading import get_ident
from typing import Any

from rich.console import Console

from sweeper.launch import begin
from sweeper.preset.spec import validate
from sweeper.run_folder.folder import RunFolder
from sweeper.running import driver, searcher
from sweeper.running.progress import LiveDisplay
from sweeper.running.worker import TrainingActor
from sweeper.search.agenda import Agenda
from sweeper.tracking.background import BackgroundTracker
from sweeper.tracking.sweep_run import Tracker
from trainers.measuring.attack_cost import AttackCost
from trainers.measuring.evaluation import METRICS, Measurement
from trainers.trial import EpochResult, TrialConfig

PRESET: dict[str, Any] = {
    "name": "driver",
    "data": {"source": "shapes", "train_size": 3000, "test_size": 2000},
    "defense": {"name": "vab", "threshold": {"float": [0.05, 0.5]}, "late_weight": {"float": [0.1, 1.0]},
                "mixing": {"categorical": ["none", "attention"]}},
    "scenarios": [{"attack": "badnets", "poison_rate": 0.1}],
    "device": "cpu",
}  # fmt: skip
IN_THREAD, AT_THE_END = "MLflow, in its thread", "MLflow, after the last trial"


class WaitingActor(TrainingActor):
    """Actor that takes trainings like any other, and invents their figures."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], wait_s: float = 0.0, epochs: int = 1, **known: Any
    ) -> None:
        """Take the first training."""
        self._wait_s, self._epochs = wait_s, epochs
        super().setup(config, **known)

    def _open(self, config: dict[str, Any]) -> None:
        super()._open(config)
        self._results = self._made_up(TrialConfig.from_json(config["job"]))

    def _made_up(self, trial: TrialConfig) -> Iterator[EpochResult]:
        time.sleep(self._wait_s)
        threshold = trial.params.get("threshold", 0.0)
        acc, asr = (0.9, 1.0) if trial.defense == "none" else (0.6 + threshold / 2, threshold)
        for scenario, repeat in trial.runs():
            for epoch in range(1, self._epochs + 1):
                known = {
                    name: 0.5 for name in METRICS if name not in ("epoch", "stage", "loss", "images_seen", "seconds")
                }
                known |= {"val_acc": acc, "val_asr": asr, "asr_floor": 0.02, "val_asr_excess": max(asr - 0.02, 0.0)}
                figures = Measurement(epoch, "mix", 0.1, 60_000 * epoch, self._wait_s, **known)
                final = epoch == self._epochs
                yield EpochResult(scenario, repeat, figures, None, 0.1, 900, AttackCost(0.1, 30.0, 0.9), final)


@contextmanager
def waiting_trainings(wait_s: float, epochs: int = 1) -> Iterator[None]:
    """Let sweeps of this process run trainings that only wait, for ``wait_s`` seconds each, and report some epochs."""
    kind, with_parameters = driver.TrainingActor, driver.tune.with_parameters
    driver.TrainingActor = WaitingActor  # type: ignore[misc]
    driver.tune.with_parameters = lambda actor, **known: with_parameters(actor, wait_s=wait_s, epochs=epochs, **known)
    try:
        yield
    finally:
        driver.TrainingActor = kind  # type: ignore[misc]
        driver.tune.with_parameters = with_parameters


class Spent:
    """Seconds that the driver spends in watched functions, without watched functions that they call in its thread."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: defaultdict[int, list[float]] = defaultdict(list)
        """By thread, one for each watched function under way: seconds in those that it called."""

    def watch(self, owner: Any, name: str, label: str) -> None:
        """Time the function ``name`` of ``owner`` from now on, as ``label``."""
        function: Callable[..., Any] = getattr(owner, name)

        @wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            open_here = self._open[get_ident()]
            open_here.append(0.0)
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                took = time.perf_counter() - began
                self.seconds[label] += took - open_here.pop()
                if open_here:
                    open_here[-1] += took

        setattr(owner, name, timed)


def resident_mib() -> float:
    """Resident memory of this process, in MiB."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize() / 2**20


@dataclass(frozen=True)
class Load:
    """What a sweep does whose driver is measured.

    Args:
        trials: how many.
        seeds: trainings of each; as many controls are trained.
        epochs: that each training reports.
        wait_s: seconds that a training takes.
        workers: trainings at a time; null: as many as fit.
        sampler: of the search.
        images: training images.
    """

    trials: int
    seeds: int = 1
    epochs: int = 1
    wait_s: float = 0.0
    workers: int | None = None
    sampler: str = "tpe"
    images: int = 3000

    @property
    def preset(self) -> dict[str, Any]:
        """The sweep; every training runs."""
        search = {"sampler": self.sampler, "trials": self.trials, "race": "off"}
        search |= {} if self.workers is None else {"workers": self.workers}
        data = PRESET["data"] | {"train_size": self.images}
        return PRESET | {"data": data, "search": search, "seeds": list(range(self.seeds))}


def measure(load: Load, place: Path) -> dict[str, Any]:
    """Run a sweep of waiting trainings, and measure its times and memory."""
    spent = Spent()
    for owner, name, label in (
        (Agenda, "_ask", "asking the study"), (Agenda, "_tell", "telling the study"),
        (Agenda, "next", "agenda"), (Agenda, "ended", "agenda"),
        (RunFolder, "write_record", "records"), (searcher, "new_attempt", "attempts"),
        (RunFolder, "write_tables", "tables"), (LiveDisplay, "trial_ended", "display"),
        (BackgroundTracker, "epoch_ended", "handing over to MLflow's thread"),
        (BackgroundTracker, "trial_ended", "handing over to MLflow's thread"),
        (BackgroundTracker, "sweep_ended", AT_THE_END), (Tracker, "_follow", IN_THREAD),
    ):  # fmt: skip
        spent.watch(owner, name, label)
    memory, cpu_s = [resident_mib()], []
    trial_ended = LiveDisplay.trial_ended

    def take_notes(*arguments: Any) -> None:
        memory.append(resident_mib())
        cpu_s.append(time.thread_time())
        trial_ended(*arguments)

    LiveDisplay.trial_ended = take_notes  # type: ignore[method-assign]
    began = time.perf_counter()
    with (place / "log").open("w", encoding="utf-8") as log, waiting_trainings(load.wait_s, load.epochs):
        ended = begin(validate(load.preset, "driver"), load.preset, place / "run", Console(file=log))
    took = time.perf_counter() - began
    records = ended.folder.read_records().values()
    ends = sorted(record.final(run)["reported_at"] for record in records for run in record.trainings)
    fifth = len(ends) // 5
    middle = ends[fifth : len(ends) - fifth]
    paces = [(ends[(k + 1) * fifth - 1] - ends[k * fifth]) / (fifth - 1) for k in range(5)] if fifth > 1 else []
    in_thread, at_the_end = spent.seconds.pop(IN_THREAD), spent.seconds.pop(AT_THE_END)
    return {
        "trials": ended.outcome.finished,
        "trainings": len(ends),
        "seconds": round(took, 1),
        "trainings a minute, middle three fifths": round(60 * (len(middle) - 1) / (middle[-1] - middle[0]), 1),
        "ms a training, fifth by fifth": [round(1000 * pace, 1) for pace in paces],
        "driver's ms a training": {name: round(1000 * s / len(ends), 2) for name, s in sorted(spent.seconds.items())},
        "driver's ms a training, the sum": round(1000 * sum(spent.seconds.values()) / len(ends), 1),
        "driver's ms of CPU a training, with those of Ray Tune": round(1000 * (cpu_s[-1] - cpu_s[0]) / len(ends), 1),
        "MLflow's thread": {
            "ms a training": round(1000 * in_thread / len(ends), 1),
            "seconds that the driver waits for it at the end": round(at_the_end, 1),
        },
        "driver's MiB": {
            "programs loaded": round(memory[0]),
            "first end": round(memory[1]),
            "fifth by fifth": [round(memory[(k + 1) * (len(memory) - 1) // 5]) for k in range(5)],
            "peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        },
        "hosts": sorted({str(state.host) for record in records for state in record.trainings.values()}),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.driver", description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument(
        "--seeds", type=int, default=2, help="trainings of each trial; as many controls are trained (2)"
    )
    parser.add_argument("--epochs", type=int, default=1, help="epochs that each training reports (1)")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds that a training takes (0)")
    parser.add_argument("--workers", type=int, help="trainings at a time (default: as many as fit)")
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--images", type=int, default=3000, help="training images, 16x16 each (3000)")
    args = parser.parse_args(argv)
    if "://" in os.environ.get("SWEEPER_STORAGE", ""):
        parser.error("SWEEPER_STORAGE must be a folder here")
    # A folder that every host sees. HOME is not changed, since a cluster's token is in it.
    with tempfile.TemporaryDirectory(dir=os.environ.get("SWEEPER_STORAGE")) as place:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
        load = Load(args.trials, args.seeds, args.epochs, args.wait, args.workers, args.sampler, args.images)
        found = measure(load, Path(place))
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
