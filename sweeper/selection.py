"""Picks the setting to deploy."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweeper.frontier import points
from sweeper.results import as_rows, finished
from trainers.defenses import DEFENSES
from trainers.errors import ConfigError
from trainers.params import Parameters


class NothingQualifies(Exception):
    """No setting keeps the bounds on sound evidence. The message says what comes nearest."""


@dataclass(frozen=True)
class Selection:
    """A chosen setting.

    Args:
        point: its row of the frontier's table.
        others: how many settings qualified beside it.
        hardest_of: environments that were compared, where there was more than one; the chosen one is the hardest.
    """

    point: dict[str, Any]
    others: int
    hardest_of: list[str]


def select(frame: pd.DataFrame, max_asr: float, min_acc: float = 0.0, poison_rate: float | None = None) -> Selection:
    """The highest mean val_acc among settings whose worst val_asr is at most ``max_asr``; ties by lower val_asr.

    Settings with a weak scenario do not qualify. Where the attacker varied something between trials (a searched poison
    rate), each of its values must have a setting that qualifies, and the one from the value that leaves the least
    accuracy is taken: evidence from an easier attacker earns nothing.

    Args:
        frame: rows of ``trials.parquet``.
        max_asr: bound on attack success.
        min_acc: bound on accuracy.
        poison_rate: look at trials of this poison rate only.

    Raises:
        NothingQualifies: no setting qualifies, or not for every environment.
    """
    if poison_rate is not None:
        rates = sorted(finished(frame)["poison_rate"].unique())
        frame = frame[(frame["poison_rate"] - poison_rate).abs() < 1e-9]
        if finished(frame).empty:
            known = ", ".join(f"{rate:g}" for rate in rates)
            raise NothingQualifies(f"No finished trial has the poison rate {poison_rate:g}; there are {known}.")
    table = points(frame)
    if table.empty:
        raise NothingQualifies("No trial finished.")
    best: dict[str, pd.DataFrame] = {}
    for environment, group in table.groupby("environment"):
        fits = (group["weak"] == "") & (group["val_asr"] <= max_asr) & (group["val_acc"] >= min_acc)
        if not fits.any():
            raise NothingQualifies(_nearest(group, str(environment), max_asr, min_acc))
        best[str(environment)] = group[fits].sort_values(["val_acc", "val_asr"], ascending=[False, True])
    hardest = min(best, key=lambda environment: best[environment]["val_acc"].iloc[0])
    chosen = best[hardest]
    return Selection(as_rows(chosen)[0], len(chosen) - 1, sorted(best) if len(best) > 1 else [])


def _nearest(group: pd.DataFrame, environment: str, max_asr: float, min_acc: float) -> str:
    where = f" at {environment}" if environment else ""
    wanted = f"val_asr <= {max_asr:g}" + (f" and val_acc >= {min_acc:g}" if min_acc else "")
    sound = group[group["weak"] == ""]
    if sound.empty:
        weak = ", ".join(sorted(set(", ".join(group["weak"]).split(", "))))
        return (
            f"No setting{where} rests on sound evidence: without a defense the attack fails, or its control did not "
            f"finish, in {weak}."
        )
    defined = sound[sound["val_asr"].notna()]
    if defined.empty:
        return f"No setting{where} was measured under attack."
    miss = (defined["val_asr"] - max_asr).clip(lower=0) + (min_acc - defined["val_acc"]).clip(lower=0)
    row = defined.iloc[int(miss.argmin())]
    return (
        f"No setting{where} has {wanted}; nearest is {row['config_id']} ({row['trials']}) with val_asr "
        f"{row['val_asr']:.3f} (floor {row['asr_floor']:.3f}) and val_acc {row['val_acc']:.3f}."
    )


def deployment(
    selection: Selection, frame: pd.DataFrame, sweep: dict[str, Any], bounds: dict[str, Any]
) -> dict[str, Any]:
    """The content of ``deploy.yaml``: the setting, the evidence, and where it came from.

    Args:
        selection: the choice.
        frame: rows of ``trials.parquet``.
        sweep: content of ``sweep.yaml``.
        bounds: what was asked of the setting.
    """
    point = selection.point
    rows = [r for r in as_rows(finished(frame)) if r["trial_id"] in point["trials"].split(", ")]
    preset = sweep["preset"]
    evidence = [
        {key: row[key] for key in (
            "trial_id", "scenario", "attack", "poison_rate", "target", "seed", "val_acc", "val_asr", "asr_floor",
            "control_asr", "test_acc", "test_asr", "test_asr_floor", "n_eval",
        )} for row in rows
    ]  # fmt: skip
    return {
        "defense": point["defense"],
        "params": setting_params(rows[0]),
        "model": preset["model"],
        "augment": preset["augment"],
        "chosen_for": {**bounds, "environment": point["environment"] or None, "hardest_of": selection.hardest_of},
        "val_acc": point["val_acc"],
        "val_asr": point["val_asr"],
        "asr_floor": point["asr_floor"],
        "seeds": point["seeds"],
        "evidence": evidence,
        "source": {
            "sweep": preset["name"],
            "config_id": point["config_id"],
            "data": preset["data"],
            "data_fingerprint": sweep["data_fingerprint"],
            **sweep["provenance"],
        },
    }


def setting_params(row: dict[str, Any]) -> dict[str, Any]:
    """The defense's parameters of a row of ``trials.parquet``."""
    kind = DEFENSES[row["defense"]].Params
    columns = {key: f"param.defense.{key}" for key in kind.keys()}
    return {key: _as_declared(kind, key, row[column]) for key, column in columns.items() if column in row}


def _as_declared(kind: type[Parameters], key: str, value: Any) -> Any:
    """Tables know fewer types: beside nulls whole numbers become floats, and lists are their JSON."""
    options = [value]
    if isinstance(value, float) and value.is_integer():
        options.append(int(value))
    if isinstance(value, str):
        with suppress(ValueError):
            options.append(json.loads(value))
    for option in options:
        with suppress(ConfigError):
            known = kind.check(key, option)
            return list(known) if isinstance(known, tuple) else known
    return value
