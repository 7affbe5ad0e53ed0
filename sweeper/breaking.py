"""The breaking point: the smallest poison rate at which an attack succeeds, with a defense and without one."""

import math
from typing import Any

import pandas as pd

from sweeper.frontier import short
from sweeper.records import CONTROL, FINISHED, TRIAL

SUCCEEDS_AT = 0.5
"""Attack success from which a defense counts as broken."""


def has_rates(frame: pd.DataFrame) -> bool:
    """Whether an attack was run, all else alike, at more than one poison rate above 0."""
    rows = _attacked(frame)
    return bool((rows[rows["role"] == TRIAL].groupby("scenario")["poison_rate"].nunique() > 1).any())


def success_by_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each scenario, poison rate and setting, and for each control (``config_id`` is then null).

    Columns ``scenario``, ``poison_rate``, ``config_id``, ``defense``, ``val_acc``, ``val_asr``, ``val_asr_sd``,
    ``asr_floor`` and ``seeds``: means over seeds, and the standard deviation over them. What else than the rate was
    varied in a scenario stands in its name: ``blend, alpha=0.2``.

    Args:
        frame: rows of ``trials.parquet``.
    """
    rows = _attacked(frame)
    rows = rows.assign(config_id=rows["config_id"].where(rows["role"] == TRIAL))
    by = rows.groupby(["scenario", "poison_rate", "config_id", "defense"], dropna=False)
    names = {name: (name, "mean") for name in ("val_acc", "val_asr", "asr_floor")}
    return by.agg(**names, val_asr_sd=("val_asr", "std"), seeds=("seed", "nunique")).reset_index()


def _attacked(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of finished trials and controls under attack, each scenario named with what else than the rate varied."""
    known = (frame["status"] == FINISHED) & frame["role"].isin([TRIAL, CONTROL]) & (frame["poison_rate"] > 0)
    rows = frame[known]
    name = rows["scenario"]
    for key in ("target", *sorted(c for c in rows.columns if c.startswith("param.scenario."))):
        varied = rows.groupby("scenario")[key].nunique(dropna=False) > 1
        if varied.any():
            text = f", {key.removeprefix('param.scenario.')}=" + rows[key].map(short)
            name = name + text.where(rows["scenario"].map(varied), "")
    return rows.assign(scenario=rows["sweep"] + "/" + name if "sweep" in rows else name)


def breaking_points(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """For each scenario and setting, where it breaks.

    Returns:
        Rows with ``scenario``, ``config_id``, ``defense``, ``defended`` (the smallest rate whose mean attack success
        reaches 0.5 against the setting; null if none does), ``undefended`` (the same without a defense; NaN if no
        control finished), ``lowest`` and ``highest`` (the rates tried), and ``seeds``.

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
    if math.isnan(rate):
        return "-"
    return f"{rate:g} or less" if rate <= row["lowest"] else f"{rate:g}"


def _smallest(rows: pd.DataFrame) -> float | None:
    if rows.empty:
        return math.nan
    broken = rows.loc[rows["val_asr"] >= SUCCEEDS_AT, "poison_rate"]
    return None if broken.empty else float(broken.min())
