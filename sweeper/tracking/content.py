"""Content of a sweep's runs in MLflow: tags to search by, parameters, the data set, and figures to compare."""

import json
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_RUN_NAME

from sweeper.run_folder.class_columns import names_of
from sweeper.run_folder.provenance import numeric_format
from sweeper.run_folder.record import RunKey, TrialRecord
from trainers.data.class_names import class_label


def sweep_tags(sweep: dict[str, Any]) -> dict[str, str]:
    """Tags that every run of a sweep carries."""
    return {
        "sweep": sweep["preset"]["name"],
        "sweep_id": sweep["sweep_id"],
        "data_fingerprint": sweep["data_fingerprint"],
        "git_commit": sweep["provenance"]["git_commit"] or "unknown",
    }


def sweep_params(sweep: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a sweep's own run. The number of trials is not among them: a resumed sweep may raise it."""
    preset = sweep["preset"]
    return {
        "data.source": preset["data"]["source"],
        "model": preset["model"]["name"],
        "computed_in": numeric_format(preset),
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
    attack success and of the accuracy on the worst class the worst scenario, each a mean over seeds.
    """
    figures: dict[str, float] = {}
    for name, reduce in _FINAL.items():
        by_scenario: dict[str, list[float]] = {}
        for row in rows:
            if row[name] is not None:
                by_scenario.setdefault(row["scenario"], []).append(row[name])
        if by_scenario:
            figures[name] = float(reduce([fmean(values) for values in by_scenario.values()]))
    return figures


_FINAL: dict[str, Callable[[list[float]], float]] = {
    "val_acc": fmean, "val_balanced_acc": fmean, "val_min_class_acc": min, "val_asr": max,
    "val_asr_excess": max, "test_asr_excess": max,
    "test_acc": fmean, "test_balanced_acc": fmean, "test_min_class_acc": min, "test_asr": max,
    "control_asr": min, "detection_auroc": min, "changed_share": max, "psnr": min, "ssim": min,
}  # fmt: skip


def record_tags(record: TrialRecord, class_names: Sequence[str]) -> dict[str, str]:
    """Tags by which a trial is found.

    Args:
        record: of the trial.
        class_names: of the data.
    """
    tags = {"role": record.role, "trial_id": record.trial_id}
    if record.config is None:
        return tags | {MLFLOW_RUN_NAME: f"{record.trial_id} refused"}
    config = record.config
    names = ", ".join(s.name for s in config.scenarios)
    seeds = "" if len(config.repeats) > 1 else f" seed {config.repeats[0]}"
    targets = sorted({s.resolved_target for s in config.scenarios if s.resolved_target is not None})
    return tags | {
        MLFLOW_RUN_NAME: f"{record.trial_id} {config.defense} vs {names}{seeds}",
        "config_id": record.config_id or "",
        "defense": config.defense,
        "attack": ", ".join(sorted({s.attack for s in config.scenarios})),
        "poison_rate": ", ".join(sorted({f"{s.poison_rate:g}" for s in config.scenarios})),
        "target": ", ".join(class_label(target, class_names) for target in targets) or "none",
        "seed": ", ".join(map(str, config.repeats)),
    }


def record_params(record: TrialRecord, class_names: Sequence[str]) -> dict[str, Any]:
    """Parameters of a trial's run: those of its defense, and each scenario's under its name.

    Args:
        record: of the trial.
        class_names: of the data.
    """
    if record.config is None:
        return record.searched
    params: dict[str, Any] = {f"defense.{key}": value for key, value in record.config.params.items()}
    for scenario in record.config.scenarios:
        common = {"poison_rate": scenario.poison_rate, "target": scenario.resolved_target, **scenario.params}
        params |= {f"{scenario.name}.{key}": value for key, value in common.items()}
        names = {key: names_of(value, class_names) for key, value in scenario.classes().items()}
        params |= {f"{scenario.name}.class.{key}": name for key, name in names.items() if name is not None}
    return params


def metric_prefix(record: TrialRecord, run: RunKey) -> str:
    """The start of the names of a run's metrics, which tells the runs of a trial apart; empty if there is only one."""
    return "" if len(record.runs) == 1 else f"{run[0]}/seed{run[1]}/"


def milliseconds(seconds: float) -> int:
    """Seconds since 1970 in MLflow's unit."""
    return int(seconds * 1000)
