"""An attacker's sweep as a table: the parameters and figures of each attacker, and which of them lead."""

from typing import Any

import moocore
import numpy as np
import pandas as pd

from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.class_columns import CLASS_COLUMNS, shown_values
from sweeper.run_folder.record import TRIAL
from sweeper.run_folder.tables import as_rows, finished

FIGURES = ("poison_rate", "control_asr", "val_asr", "asr_floor", "val_asr_excess", "detection_auroc", "val_acc")

VARIED = ("val_asr", "val_asr_excess", "detection_auroc")
"""Figures that have a standard deviation beside them."""


def attackers(frame: pd.DataFrame, spec: SweepSpec, role: str = TRIAL) -> pd.DataFrame:
    """A table with one row per attacker (finished trial), the leading ones first.

    Columns ``trial_id``, those of :data:`FIGURES` (means over scenarios and seeds), those of :data:`VARIED` with
    ``_sd`` (standard deviations over seeds, null with one), ``seeds``, ``sound`` (whether the constraints are kept),
    ``leads`` (sound, and not dominated in the objectives by another sound attacker), and a column for each searched
    parameter, and for the scenario where trials meet different ones. Attackers that are alike in this come in the order
    of the attack success that they maximize (:attr:`sweeper.preset.spec.SweepSpec.attack_metric`).

    Args:
        frame: rows of ``trials.parquet``.
        spec: an attacker's sweep.
        role: of the rows that count; a confirming run is listed under the trial whose attacker it repeats.
    """
    trials = finished(frame, role)
    if role != TRIAL:
        trials = trials.assign(trial_id=_repeated(trials, finished(frame)))
    chosen = _chosen(trials)
    rows: list[dict[str, Any]] = []
    losses: list[list[float]] = []
    for trial_id, group in trials.groupby("trial_id"):
        plain = as_rows(group)
        reached = [objective.value(plain) for objective in spec.objectives]
        by_seed = group.groupby("seed")[[*VARIED]].mean().std(ddof=1)
        rows.append(
            {
                "trial_id": trial_id,
                **{name: group[name].mean() for name in FIGURES},
                **{f"{name}_sd": by_seed[name] for name in by_seed.index},
                "seeds": group["seed"].nunique(),
                "sound": None not in reached and all(c.violation(plain) <= 0 for c in spec.constraints),
                **{name: values.get(str(trial_id)) for name, values in chosen.items()},
            }
        )
        signs = [-1.0 if objective.direction == "maximize" else 1.0 for objective in spec.objectives]
        losses.append([np.nan if v is None else s * v for s, v in zip(signs, reached, strict=True)])
    spreads = [f"{name}_sd" for name in VARIED]
    table = pd.DataFrame(rows, columns=None if rows else ["trial_id", *FIGURES, *spreads, "seeds", "sound"])
    whole = {name: table[name].convert_dtypes() for name in chosen}  # whole numbers stay whole beside nulls
    table = table.astype({"sound": bool}).assign(leads=np.zeros(len(table), dtype=bool), **whole)
    sound = table.index[table["sound"]]
    if len(sound):
        best = moocore.is_nondominated(np.asarray(losses)[sound], keep_weakly=True)
        table.loc[sound[np.asarray(best, dtype=bool)], "leads"] = True
    return table.sort_values(["leads", "sound", spec.attack_metric], ascending=False, ignore_index=True)


def _repeated(runs: pd.DataFrame, trials: pd.DataFrame) -> pd.Series:
    """For each run, the trial of the same attacker: one with the same parameters in every scenario."""
    keys = [c for c in trials.columns if c in ("scenario", "poison_rate", "target") or c.startswith("param.scenario.")]

    def attackers_of(rows: pd.DataFrame) -> dict[str, frozenset[str]]:
        texts = pd.Series([repr(row) for row in as_rows(rows[keys])], index=rows.index, dtype=object)
        return {str(name): frozenset(group) for name, group in texts.groupby(rows["trial_id"])}

    known = {attacker: name for name, attacker in reversed(attackers_of(trials).items())}
    return runs["trial_id"].map({name: known.get(attacker) for name, attacker in attackers_of(runs).items()})


def _chosen(trials: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Parameters, other than the poison rate, in which attackers differ: by name, the value of each trial."""
    firsts = trials.drop_duplicates(["trial_id", "scenario"])
    several = bool(firsts["trial_id"].duplicated().any())
    chosen: dict[str, dict[str, Any]] = {}
    if not several and firsts["scenario"].nunique() > 1:
        chosen["scenario"] = dict(zip(firsts["trial_id"], firsts["scenario"], strict=True))
    for scenario, rows in firsts.groupby("scenario"):
        for column in ("target", *(c for c in rows.columns if c.startswith("param.scenario."))):
            if rows[column].nunique(dropna=False) > 1:
                name = column.removeprefix("param.scenario.")
                values = chosen.setdefault(f"{scenario} {name}" if several else name, {})
                shown = shown_values(rows, column) if CLASS_COLUMNS.get(column) in rows else rows[column]
                values.update(zip(rows["trial_id"], shown, strict=True))
    return chosen
