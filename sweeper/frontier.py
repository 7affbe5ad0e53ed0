"""The robustness frontier: which settings nobody beats in clean accuracy and in attack success at once."""

from collections.abc import Sequence
from typing import Any

import moocore
import numpy as np
import pandas as pd

from sweeper.results import finished

POINT_COLUMNS = (
    "config_id", "environment", "defense", "trials", "seeds", "val_acc", "val_asr", "asr_floor", "test_acc", "test_asr",
    "test_asr_floor", "control_acc", "control_asr", "weak", "on_frontier",
)  # fmt: skip

REFERENCE = (0.0, 1.0)
"""Accuracy and attack success of the worst setting there could be: where the hypervolume starts."""

ENVIRONMENT_KEYS = ("poison_rate", "target")
CONTROL_KEYS = ("sweep", "scenario", "poison_rate", "target", "seed")
"""With the attack's parameters: what a trial's run and its control have in common."""


def points(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per setting and environment, from the rows of ``trials.parquet``.

    A setting is a defense with its parameters (``config_id``). Its environment is what the attacker varied between
    trials (a searched poison rate, say): settings are compared within one environment only. Figures are means over
    seeds, then the mean over scenarios for accuracy, and the worst scenario for attack success, its floor beside it.

    ``weak`` names scenarios whose control failed or stayed weak: they are no evidence. ``on_frontier`` is decided
    among settings without such scenarios.
    """
    trials = finished(frame)
    if trials.empty:
        return pd.DataFrame(columns=list(POINT_COLUMNS)).astype({"on_frontier": bool, "weak": str})
    trials = trials.assign(environment=environments(trials))
    controls = finished(frame, "control")
    rows = [
        _point(str(config), str(environment), group, controls)
        for (config, environment), group in trials.groupby(["config_id", "environment"], sort=False)
    ]
    table = pd.DataFrame(rows, columns=list(POINT_COLUMNS))
    for _, group in table.groupby("environment"):
        usable = group[(group["weak"] == "") & group["val_asr"].notna() & group["val_acc"].notna()]
        best = usable.index[non_dominated(usable["val_acc"].to_numpy(float), usable["val_asr"].to_numpy(float))]
        table.loc[best, "on_frontier"] = True
    return table.sort_values(["environment", "val_asr", "val_acc"], ascending=[True, True, False], ignore_index=True)


def environments(trials: pd.DataFrame) -> pd.Series:
    """For each row, what the attacker varied between trials: ``poison_rate=0.05``; empty if nothing was."""
    keys = [*ENVIRONMENT_KEYS, *sorted(c for c in trials.columns if c.startswith("param.scenario."))]
    per_scenario = trials.groupby("scenario")
    varied = [key for key in keys if (per_scenario[key].nunique(dropna=False) > 1).any()]
    labels: dict[str, str] = {}
    for trial_id, group in trials.groupby("trial_id"):
        parts = []
        for key in varied:
            values = sorted({_short(value) for value in group[key]})
            parts.append(f"{key.removeprefix('param.scenario.')}={'/'.join(values)}")
        labels[str(trial_id)] = ", ".join(parts)
    return trials["trial_id"].map(labels)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _point(config: str, environment: str, group: pd.DataFrame, controls: pd.DataFrame) -> dict[str, Any]:
    by_scenario = group.groupby("scenario")
    figures = by_scenario[
        ["val_acc", "val_asr", "asr_floor", "test_acc", "test_asr", "test_asr_floor", "control_asr"]
    ].mean()
    attacked = figures["val_asr"].notna()
    worst = str(figures["val_asr"].idxmax()) if attacked.any() else None
    weak = sorted(
        str(name) for name, rows in by_scenario
        if (rows["poison_rate"] > 0).any() and not (rows["weak_attack"] == False).all()  # noqa: E712
    )  # fmt: skip
    scenario_of = [c for c in group.columns if c in CONTROL_KEYS or c.startswith("param.scenario.")]
    same = controls.merge(group[scenario_of].drop_duplicates())
    return {
        "config_id": config,
        "environment": environment,
        "defense": group["defense"].iloc[0],
        "trials": ", ".join(sorted(group["trial_id"].unique())),
        "seeds": group["seed"].nunique(),
        "val_acc": figures["val_acc"].mean(),
        "val_asr": figures["val_asr"].max(),
        "asr_floor": figures["asr_floor"][worst] if worst is not None else None,
        "test_acc": figures["test_acc"].mean(),
        "test_asr": figures["test_asr"].max(),
        "test_asr_floor": figures["test_asr_floor"][worst] if worst is not None else None,
        "control_acc": same["val_acc"].mean() if len(same) else None,
        "control_asr": figures["control_asr"].min(),
        "weak": ", ".join(weak),
        "on_frontier": False,
    }


def non_dominated(acc: np.ndarray[Any, Any], asr: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Which points nobody beats: bool (N,). Accuracy is wanted high, attack success low; equal points are all kept."""
    if len(acc) == 0:
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(np.column_stack([-acc, asr]), keep_weakly=True), dtype=bool)


def hypervolume(acc: Sequence[float], asr: Sequence[float]) -> float:
    """Area in [0, 1] x [0, 1] that the points dominate; 1 is a setting with accuracy 1 and attack success 0."""
    if len(acc) == 0:
        return 0.0
    losses = np.column_stack([1 - np.asarray(acc, float), np.asarray(asr, float)])
    return float(moocore.hypervolume(losses, ref=[1 - REFERENCE[0], REFERENCE[1]]))


def hypervolumes(table: pd.DataFrame) -> dict[str, float]:
    """The hypervolume of the frontier of each environment."""
    found = {}
    for environment, group in table.groupby("environment"):
        front = group[group["on_frontier"]]
        found[str(environment)] = hypervolume(front["val_acc"].tolist(), front["val_asr"].tolist())
    return found
