"""The breaking point: the smallest poison rate at which an attack succeeds, with a defense and without one."""

from typing import Any

import pandas as pd

from sweeper.records import CONTROL
from sweeper.results import finished

SUCCEEDS_AT = 0.5
"""Attack success from which a defense counts as broken."""


def has_rates(frame: pd.DataFrame) -> bool:
    """Whether a scenario was run at more than one poison rate above 0."""
    trials = finished(frame)
    attacked = trials[trials["poison_rate"] > 0]
    return bool((attacked.groupby("scenario")["poison_rate"].nunique() > 1).any())


def success_by_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each scenario, poison rate and setting, and for each control (``config_id`` is then null).

    Columns ``scenario``, ``poison_rate``, ``config_id``, ``defense``, ``val_acc``, ``val_asr``, ``val_asr_sd``,
    ``asr_floor`` and ``seeds``: means over seeds, and the standard deviation over them.

    Args:
        frame: rows of ``trials.parquet``.
    """
    trials, controls = finished(frame), finished(frame, CONTROL).assign(config_id=None)
    rows = pd.concat([trials, controls])
    rows = rows[rows["poison_rate"] > 0]
    by = rows.groupby(["scenario", "poison_rate", "config_id", "defense"], dropna=False)
    names = {name: (name, "mean") for name in ("val_acc", "val_asr", "asr_floor")}
    return by.agg(**names, val_asr_sd=("val_asr", "std"), seeds=("seed", "nunique")).reset_index()


def breaking_points(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """For each scenario and setting, where it breaks.

    Returns:
        Rows with ``scenario``, ``config_id``, ``defense``, ``defended`` (the smallest rate whose mean attack success
        reaches 0.5 against the setting; null if none does), ``undefended`` (the same without a defense), ``lowest``
        and ``highest`` (the rates tried), and ``seeds``.

    Args:
        frame: rows of ``trials.parquet``.
    """
    table = success_by_rate(frame)
    found: list[dict[str, Any]] = []
    for scenario, rows in table.groupby("scenario"):
        control = rows[rows["config_id"].isna()]
        for config, own in rows[rows["config_id"].notna()].groupby("config_id"):
            if own["poison_rate"].nunique() < 2:
                continue
            found.append(
                {
                    "scenario": scenario,
                    "config_id": config,
                    "defense": own["defense"].iloc[0],
                    "defended": _smallest(own),
                    "undefended": _smallest(control),
                    "lowest": float(own["poison_rate"].min()),
                    "highest": float(own["poison_rate"].max()),
                    "seeds": int(own["seeds"].min()),
                }
            )
    return found


def words(rate: float | None, row: dict[str, Any]) -> str:
    """A breaking point as it is shown: the lowest rate tried is only an upper bound, and none tried only a lower."""
    if rate is None:
        return f"not up to {row['highest']:g}"
    return f"{rate:g} or less" if rate <= row["lowest"] else f"{rate:g}"


def _smallest(rows: pd.DataFrame) -> float | None:
    broken = rows.loc[rows["val_asr"] >= SUCCEEDS_AT, "poison_rate"]
    return None if broken.empty else float(broken.min())
