"""The settings of a sweep, as pages draw and list them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sweeper.analysis.frontier import ENVIRONMENT_KEYS, with_environments
from sweeper.preset.spec import SweepSpec
from sweeper.report.plots import DEFENSE_COLOURS
from sweeper.run_folder.record import TRIAL
from sweeper.run_folder.tables import as_rows, finished

POINT_FIGURES = (
    "config_id", "environment", "defense", "trials", "seeds", "val_acc", "val_acc_sd", "val_acc_low", "val_acc_high",
    "val_balanced_acc", "val_balanced_acc_sd", "val_min_class_acc", "val_min_class_acc_sd", "val_asr_excess",
    "val_asr_excess_sd", "val_asr_excess_low", "val_asr_excess_high", "val_asr", "val_asr_sd", "asr_floor", "test_acc",
    "test_balanced_acc", "test_min_class_acc", "test_asr_excess", "test_asr", "test_asr_floor", "control_acc",
    "control_asr", "control_asr_excess", "lost_classes", "weak", "on_frontier", "frontier_share",
)  # fmt: skip


def colours_of(table: pd.DataFrame) -> dict[str, str]:
    """The colour of each compared defense; empty for a single one."""
    present = set(table["defense"])
    return {name: colour for name, colour in DEFENSE_COLOURS.items() if name in present} if len(present) > 1 else {}


def searched_columns(frame: pd.DataFrame) -> dict[str, str]:
    """Parameters that differ between trials: the column of each, by the name that the page shows."""
    trials = frame[frame["role"] == TRIAL]
    columns = [c for c in trials.columns if c.startswith("param.defense.")]
    by_defense = trials.groupby("defense")  # one that differs only between defenses was not searched
    names = {
        c.removeprefix("param.defense."): c for c in columns if (by_defense[c].nunique(dropna=False) > 1).any()
    }  # fmt: skip
    if trials["defense"].nunique() > 1:
        names = {"defense": "defense", **names}
    by_scenario = trials.groupby("scenario")
    for column in (*ENVIRONMENT_KEYS, *(c for c in trials.columns if c.startswith("param.scenario."))):
        if (by_scenario[column].nunique(dropna=False) > 1).any():
            names[column.replace("param.scenario.", "attack: ")] = column
    return names


def setting_points(
    frame: pd.DataFrame, table: pd.DataFrame, names: Mapping[str, str], spec: SweepSpec
) -> list[dict[str, Any]]:
    """The points of the frontier's table as dictionaries: their figures, and ``params``, what was searched.

    Args:
        frame: rows of ``trials.parquet``.
        table: from :func:`sweeper.analysis.frontier.points`.
        names: from :func:`searched_columns`.
        spec: the sweep.
    """
    trials = finished(frame)
    if trials.empty:
        return []
    trials = with_environments(trials, frame)
    first = trials.drop_duplicates(["config_id", "environment"]).set_index(["config_id", "environment"])
    known = first.to_dict("index")
    rows = as_rows(table[list(POINT_FIGURES)])
    for row in rows:
        own = known[row["config_id"], row["environment"]]
        row["params"] = {name: own[column] for name, column in names.items()}
        for block in spec.defense:
            if block.kind == row["defense"]:
                chosen = {name: own.get(f"param.defense.{name}") for name in block.values}
                row["params"] |= dict.fromkeys((name for name in block.idle(chosen) if name in names), None)
    return rows


def for_json(value: Any) -> Any:
    """The value as JSON can hold it: null in place of what is not finite, and no numpy types."""
    if isinstance(value, dict):
        return {str(key): for_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [for_json(item) for item in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if pd.isna(value):
        return None
    convert: Callable[[], Any] = getattr(value, "item", lambda: value)
    plain = convert()
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
