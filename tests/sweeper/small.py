"""A preset that trains in a second, and rows of trials.parquet made by hand."""

import atexit
import copy
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch
from mlflow import MlflowClient

from sweeper.cluster.fleet import Fleet
from sweeper.cluster.hosts import Host
from sweeper.preset.misfits import Misfits
from sweeper.preset.spec import SweepSpec, resolve, validate
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import Training, TrialRecord
from sweeper.run_folder.tables import TABLE_COLUMNS, write_table
from sweeper.running.ledger import Ledger
from sweeper.running.searcher import SweepSearcher
from sweeper.running.stopper import SweepStopper
from sweeper.search.agenda import Agenda
from trainers.data import ImageSet
from trainers.seeding import NUMERICS
from trainers.storage.state_store import StateStore

DATA = {"training_images": 200, "test_images": 100, "image_shape": [3, 16, 16], "class_names": list("abcdefghij")}

PRESET: dict[str, Any] = {
    "name": "small",
    "data": {"source": "shapes", "train_size": 200, "test_size": 100},
    "model": {"name": "tiny", "width": 4},
    "augment": {"crop": 0, "flip": False},
    "defense": {
        "name": "vab",
        "threshold": {"float": [0.1, 0.5]},
        "mixing": {"categorical": ["none", "attention"]},
        "warmup_steps": 2,
        "warmup_rounds": 1,
        "mix_epochs": 1,
        "suppression_epochs": 1,
        "batch_size": 64,
        "lr": 0.05,
    },
    "control": {"epochs": 1, "batch_size": 64, "lr": 0.05},
    "scenarios": [{"attack": "badnets", "poison_rate": 0.1, "target": 0}],
    "search": {"sampler": "random", "trials": 2, "workers": 1},
    "device": "cpu",
}

ONE_SETTING = PRESET["defense"] | {"threshold": 0.2, "mixing": "none"}
"""The defense of an attacker's sweep."""


def preset_with(**changes: Any) -> dict[str, Any]:
    """The small preset with keys replaced; one set to ``...`` is taken out."""
    merged = copy.deepcopy(PRESET) | changes
    return {key: value for key, value in merged.items() if value is not ...}


def spec_with(**changes: Any) -> SweepSpec:
    return validate(preset_with(**changes), "small.yaml")


def misfits_of(spec: SweepSpec) -> Misfits:
    """What of a preset does not fit the data, of which nothing was found yet."""
    return Misfits([block.values["name"] for block in spec.scenario_blocks])


def sweep_with(sweep_id: str = "one", **changes: Any) -> dict[str, Any]:
    """The content of a sweep.yaml."""
    preset = preset_with(**changes)
    return {
        "sweep_id": sweep_id,
        "numerics": NUMERICS,
        "preset": resolve(validate(preset, "small.yaml"), preset),
        "data_fingerprint": "data",
        "data": DATA,
        "provenance": {"git_commit": "123", "versions": {}},
    }


def make_objectives(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"metric": metric, "direction": direction} for metric, direction in pairs]


def record_of(trial_id: str = "t0000", role: str = "trial", spec: SweepSpec | None = None) -> TrialRecord:
    """The record of a trial with every distribution at its first corner, or of its first control."""
    spec = spec or spec_with()
    chosen: dict[str, Any] = {}

    def choose(name: str, searched: Any) -> Any:
        chosen[name] = searched.corners()[0]
        return chosen[name]

    config = spec.trial(choose, "data")
    controls = {(s.name, r): config.control(s, r, spec.control.as_dict()) for s, r in config.runs()}
    if role == "control":
        run, control = next(iter(controls.items()))
        return TrialRecord(trial_id, role, control, {run: control.key})
    return TrialRecord(trial_id, role, config, {run: control.key for run, control in controls.items()}, chosen)


def epoch_figures(epoch: int, **figures: Any) -> dict[str, Any]:
    """What a worker sends after an epoch."""
    head = {"epoch": epoch, "stage": "mix", "loss": 1.0 / epoch, "images_seen": 200 * epoch, "seconds": 0.5 * epoch,
            "seconds_shared": 0.0}  # fmt: skip
    known = {
        "val_acc": 0.8, "val_balanced_acc": 0.75, "val_min_class_acc": 0.4, "val_asr": 0.1, "val_ra": 0.7,
        "asr_floor": 0.05, "test_acc": 0.79, "test_balanced_acc": 0.74, "test_min_class_acc": 0.38, "test_asr": 0.12,
        "test_ra": 0.7, "test_asr_floor": 0.06, "detection_auroc": 0.99, "detection_tpr": 0.9, "detection_fpr": 0.1,
        "credible_share": 0.8, "credible_min_class_share": 0.05, "poison_in_credible": 0.01,
    }  # fmt: skip
    return head | known | figures


FACTS = {"poison_share": 0.1, "n_eval": 45, "changed_share": 0.1, "psnr": 20.5, "ssim": 0.95}


def finish(record: TrialRecord, epochs: int = 3, **figures: Any) -> TrialRecord:
    """Give a record figures for every run, and let it be FINISHED."""
    for scenario, repeat in record.config.runs():
        for epoch in range(1, epochs + 1):
            record.add_epoch((scenario.name, repeat), epoch_figures(epoch, **figures), FACTS)
    record.end("FINISHED")
    return record


def row_with(trial: str = "t0000", config: str | None = None, **changes: Any) -> dict[str, Any]:
    """A row of trials.parquet: a finished trial under a strong BadNets, with figures replaced."""
    row: dict[str, Any] = dict.fromkeys(TABLE_COLUMNS)
    row |= {
        "trial_id": trial, "config_id": config or f"config-{trial}", "role": "trial", "status": "FINISHED",
        "scenario": "badnets", "attack": "badnets", "poison_rate": 0.1, "poison_share": 0.1, "target": 0, "seed": 0,
        "defense": "vab", "epoch": 4, "val_acc": 0.8, "val_asr": 0.1, "asr_floor": 0.05, "test_acc": 0.79,
        "test_asr": 0.11, "test_asr_floor": 0.06, "control_asr": 1.0, "weak_attack": False, "n_eval": 45, "attempt": 1,
    }  # fmt: skip
    row |= changes
    row |= {
        name: row[own] for name, own in (("trial_status", "status"), ("trial_error", "error")) if name not in changes
    }
    for name, asr, floor in (
        ("val_asr_excess", "val_asr", "asr_floor"), ("test_asr_excess", "test_asr", "test_asr_floor"),
    ):  # fmt: skip
        if name not in changes and row[asr] is not None and row[floor] is not None:
            row[name] = max(row[asr] - row[floor], 0.0)
    return row


def control_row(**changes: Any) -> dict[str, Any]:
    known = {"role": "control", "defense": "none", "val_acc": 0.9, "val_asr": 1.0}
    return row_with(**({"trial": "c0000", "config": "control"} | known | changes))


def frame_of(*rows: dict[str, Any]) -> pd.DataFrame:
    """A table from rows."""
    return pd.DataFrame(list(rows))


def write_rows(folder: RunFolder, rows: list[dict[str, Any]]) -> None:
    """Write trials.parquet by hand."""
    write_table(folder.trials, rows, TABLE_COLUMNS)


@cache
def _empty_store() -> Path:
    folder = tempfile.mkdtemp(prefix="sweeper-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


def fresh_store(path: Path) -> str:
    """Address of an empty MLflow store at ``path``; MLflow itself takes seconds to make one, so it makes one only."""
    shutil.copy(_empty_store(), path)
    return f"sqlite:///{path}"


class Hosts:
    """Those that are there: two trials fit on each."""

    def __init__(self, *names: str):
        self.names = list(names)

    def __call__(self) -> list[Host]:
        return [Host(name, f"10.0.0.{name}", {"CPU": 2}) for name in self.names]


def roomy() -> Fleet:
    """One host with room for any number of trials."""
    return Fleet({"CPU": 1}, lambda: [Host("1", "10.0.0.1", {"CPU": 1e6})])


def begin_on_a_host(searcher: SweepSearcher, *ray_ids: str) -> None:
    """As a worker does, which then may crash."""
    for ray_id in ray_ids:
        training = searcher.ledger.of(ray_id)
        assert training is not None
        StateStore(searcher.ledger.states_of(training), attempt=training.state.attempt).begin("1")


def end_training(searcher: SweepSearcher, ray_id: str, **figures: Any) -> Training:
    """As a worker does that trained one epoch."""
    training = searcher.ledger.of(ray_id)
    assert training is not None
    training.record.add_epoch(training.run, epoch_figures(1, **figures), FACTS)
    searcher.on_trial_complete(ray_id, {"finished": True, "attempt": 1})
    return training


def searcher_over(
    spec: SweepSpec,
    study: optuna.Study,
    ledger: Ledger,
    time_budget_s: float | None = None,
    fleet: Fleet | None = None,
    workers: int | None = None,
    said: Callable[[str], None] = lambda _text: None,
) -> SweepSearcher:
    """The searcher of a sweep, without Ray."""
    stopper = SweepStopper(time_budget_s, lambda: ledger.broken is not None)
    agenda = Agenda(spec, study, "data", ledger, spec.search.trials)
    return SweepSearcher(agenda, ledger, stopper, fleet or roomy(), spec.search.retries, workers, said)


def start(searcher: SweepSearcher, *ray_ids: str) -> list[str]:
    """Ask for a job under each of Ray's ids; the names of trials."""
    jobs = [searcher.suggest(ray_id) for ray_id in ray_ids]
    return [job["training"].partition("-")[0] if isinstance(job, dict) else str(job) for job in jobs]


class Watcher:
    """A follower of a ledger that does nothing."""

    def trial_changed(self, record: TrialRecord) -> None:
        pass

    def epoch_ended(self, record: TrialRecord) -> None:
        pass

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        pass


def colours(count: int) -> ImageSet:
    """Four colours, which any network tells apart after an epoch."""
    labels = torch.arange(count) % 4
    shades = torch.tensor([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    images = shades[labels][:, :, None, None].repeat(1, 1, 8, 8)
    return ImageSet(images, labels, ("black", "red", "green", "blue"))
