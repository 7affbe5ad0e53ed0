"""Cost of a sweep besides training: Ray, tracking, states, and the tables of a large sweep.

python -m benchmarks.bookkeeping [ray tracking state scale]
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from sweeper.analysis.frontier import points
from sweeper.preset.spec import resolve, validate
from sweeper.report.page import write_report
from sweeper.report.summary import write_frontier
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord
from sweeper.run_folder.tables import TABLE_COLUMNS, read_table
from sweeper.tracking.sweep_run import Tracker
from trainers.compute import Compute
from trainers.data.augmentation import Augmentation
from trainers.data.image_set import ImageSet
from trainers.defenses import DEFENSES
from trainers.defenses.base import TrainingTask
from trainers.models import ModelConfig
from trainers.seeding import NUMERICS
from trainers.storage.state import load_state, save_state

PRESET: dict[str, Any] = {
    "name": "bookkeeping",
    "data": {"source": "shapes", "train_size": 200, "test_size": 100},
    "model": {"name": "tiny", "width": 4},
    "defense": {"name": "none", "epochs": 1, "batch_size": 64, "lr": {"float": [0.01, 0.1]}},
    "control": {"epochs": 1, "batch_size": 64},
    "scenarios": [{"attack": "badnets", "poison_rate": 0.1}],
    "search": {"sampler": "random", "trials": 24, "workers": 1},
    "device": "cpu",
}


def sweep_content(preset: dict[str, Any]) -> dict[str, Any]:
    """Content of ``sweep.yaml``."""
    data = {"training_images": 200, "test_images": 100, "image_shape": [3, 16, 16], "class_names": list("abcdefghij")}
    return {
        "sweep_id": "bookkeeping",
        "preset": resolve(validate(preset, "bookkeeping"), preset),
        "data_fingerprint": "data",
        "data": data,
        "numerics": NUMERICS,
        "provenance": {"git_commit": None, "versions": {}},
    }


def ray_cost(trials: int = 24) -> dict[str, float]:
    """Seconds per trial that a sweep spends outside training, with and without reusing actors."""
    from sweeper.cluster.runtime import ray_runtime
    from sweeper.report.plots import draw_trial
    from sweeper.running import driver
    from sweeper.running.driver import Plan, run_sweep
    from sweeper.running.ledger import Ledger
    from trainers.data import load_data

    found = {}
    for reuse in (True, False):
        count = trials if reuse else max(trials // 4, 2)
        preset = {**PRESET, "search": {**PRESET["search"], "trials": count}}
        spec = validate(preset, "bookkeeping")
        with tempfile.TemporaryDirectory() as place, ray_runtime():
            folder = RunFolder.create(Path(place) / "run")
            tracker = Tracker(f"sqlite:///{place}/mlflow.db", folder, sweep_content(preset), draw_trial)
            began = time.perf_counter()
            splits = load_data(spec.data)
            original = driver.REUSE_ACTORS
            driver.REUSE_ACTORS = reuse
            try:
                ledger = Ledger(folder, {}, [tracker])
                run_sweep(spec, sweep_content(preset), splits, ledger, Plan(count), lambda _text: None)
            finally:
                driver.REUSE_ACTORS = original
            took = time.perf_counter() - began
            training = float(read_table(folder.curves).groupby("trial_id")["seconds"].max().sum())
        found["with reuse" if reuse else "without reuse"] = (took - training) / (count + 1)
    return found


def tracking_cost(trials: int = 5, epochs: int = 200) -> float:
    """Seconds that MLflow (SQLite) takes for a trial of ``epochs`` epochs with 12 metrics each, without pictures."""
    spec = validate(PRESET, "bookkeeping")
    config = spec.trial(lambda _name, searched: searched.corners()[0], "data")
    metrics = dict.fromkeys(
        ("loss", "val_acc", "val_asr", "val_ra", "asr_floor", "detection_auroc", "detection_tpr", "detection_fpr",
         "credible_share", "poison_in_credible"), 0.5
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder.create(Path(place) / "run")
        tracker = Tracker(f"sqlite:///{place}/mlflow.db", folder, sweep_content(PRESET), lambda *_: [])
        spent = 0.0
        for number in range(trials):
            record = TrialRecord(f"t{number:04d}", "trial", config, {("badnets", 0): "control"})
            for epoch in range(1, epochs + 1):
                figures = {"epoch": epoch, "stage": "mix", "images_seen": epoch, "seconds": float(epoch), **metrics}
                record.add_epoch(("badnets", 0), figures, {"poison_share": 0.1, "n_eval": 90})
                began = time.perf_counter()
                tracker.epoch_ended(record)
                spent += time.perf_counter() - began
            record.end("FINISHED")
            rows = record.rows({"control": 1.0})
            began = time.perf_counter()
            tracker.trial_ended(record, rows)
            spent += time.perf_counter() - began
    return spent / trials


def state_cost(repeats: int = 5) -> dict[str, float]:
    """Milliseconds and bytes of V&B's state with two CIFAR ResNet-18, after both have trained a step."""
    torch.set_num_threads(1)
    images = torch.randint(0, 256, (256, 3, 32, 32), dtype=torch.uint8)
    data = ImageSet(images, torch.arange(256) % 10, tuple("abcdefghij"))
    kind = DEFENSES["vab"]
    params = kind.Params(warmup_steps=1, warmup_rounds=0, mix_epochs=1, suppression_epochs=0)
    task = TrainingTask(data, ModelConfig("resnet18"), Augmentation(), Compute(torch.device("cpu")), 0)
    defense = kind(params, task)
    for _ in defense.epochs():
        pass
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "run-0.safetensors"
        saving, loading = [], []
        for _ in range(repeats):
            began = time.perf_counter()
            save_state(path, defense.state())
            saving.append(time.perf_counter() - began)
            began = time.perf_counter()
            defense.load(load_state(path))
            loading.append(time.perf_counter() - began)
        size = path.stat().st_size
    return {
        "save ms": 1000 * float(np.median(saving)),
        "load ms": 1000 * float(np.median(loading)),
        "MiB": size / 2**20,
    }


def synthetic(folder: RunFolder, trials: int, scenarios: int = 4, seeds: int = 3) -> dict[str, Any]:
    """Write the table of a large sweep; returns its preset."""
    random = np.random.default_rng(0)
    names = [f"s{n}" for n in range(scenarios)]
    preset = {
        **PRESET,
        "defense": {"name": "vab", "threshold": {"float": [0.1, 0.5]}, "late_weight": {"float": [0.0, 1.0]}},
        "scenarios": [{"attack": "badnets", "name": name} for name in names],
        "seeds": list(range(seeds)),
    }
    count = trials * scenarios * seeds
    trial = np.repeat(np.arange(trials), scenarios * seeds)
    threshold, weight = random.uniform(0.1, 0.5, trials)[trial], random.uniform(0, 1, trials)[trial]
    asr, floor = np.clip(0.6 - threshold - weight / 5 + random.normal(0, 0.02, count), 0, 1), 0.02
    columns: dict[str, Any] = dict.fromkeys(TABLE_COLUMNS)
    columns |= {
        "trial_id": [f"t{n:04d}" for n in trial], "config_id": [f"config{n}" for n in trial], "role": "trial",
        "status": "FINISHED", "trial_status": "FINISHED", "scenario": np.tile(np.repeat(names, seeds), trials),
        "attack": "badnets",
        "poison_rate": 0.1, "poison_share": 0.1, "target": 0, "seed": np.tile(np.arange(seeds), trials * scenarios),
        "defense": "vab", "epoch": 9, "val_acc": np.clip(0.9 - threshold / 2 + random.normal(0, 0.02, count), 0, 1),
        "val_asr_excess": np.maximum(asr - floor, 0), "val_asr": asr, "asr_floor": floor, "test_acc": 0.5,
        "test_asr_excess": 0.08, "test_asr": 0.1, "test_asr_floor": floor, "control_asr": 0.99, "weak_attack": False,
        "n_eval": 450, "attempt": 1, "param.defense.threshold": threshold, "param.defense.late_weight": weight,
    }  # fmt: skip
    folder.write_sweep(sweep_content(preset))
    pd.DataFrame(columns, index=range(count)).to_parquet(folder.trials)
    return preset


def scale_cost(trials: int = 10_000) -> dict[str, float]:
    """Seconds that the frontier and the report of a large sweep take."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder.create(Path(place) / "run")
        preset = synthetic(folder, trials)
        began = time.perf_counter()
        frame = folder.read_trials()
        table, _, _ = write_frontier(frame, "scale", folder.path)
        found["frontier"] = time.perf_counter() - began
        began = time.perf_counter()
        frame = folder.read_trials()
        write_report(folder, frame, points(frame), validate(preset, "scale"))
        found["report"] = time.perf_counter() - began
        found["report MiB"] = folder.report.stat().st_size / 2**20
        assert len(table) == trials
    return found


def main() -> None:
    """Run the parts that are named on the command line, or all."""
    home = tempfile.mkdtemp()  # Ray writes a token below the home folder
    os.environ["HOME"] = home
    parts: dict[str, Callable[[], Any]] = {
        "ray": ray_cost, "tracking": tracking_cost, "state": state_cost, "scale": scale_cost,
    }  # fmt: skip
    wanted = sys.argv[1:] or list(parts)
    try:
        for name in wanted:
            print(yaml.safe_dump({name: parts[name]()}, default_flow_style=False).strip(), flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
