"""An attacker's sweep as a table: what each attacker chose, what it reached, and whom nobody beats."""

from typing import Any

import moocore
import numpy as np
import pandas as pd

from sweeper.results import as_rows, finished
from sweeper.spec import SweepSpec
from sweeper.summary import cell, spread

FIGURES = ("poison_rate", "control_asr", "val_asr", "asr_floor", "detection_auroc", "val_acc")


def attackers(frame: pd.DataFrame, spec: SweepSpec) -> pd.DataFrame:
    """One row per finished trial, the leading ones first.

    Columns ``trial_id``, those of :data:`FIGURES` (means over scenarios and seeds), ``val_asr_sd`` and
    ``detection_auroc_sd`` (standard deviations over seeds, null with one), ``seeds``, ``sound`` (whether the
    constraints are kept), ``leads`` (sound, and no sound one is better in one objective and as good in the others), and
    a column for each searched parameter.

    Args:
        frame: rows of ``trials.parquet``.
        spec: an attacker's sweep.
    """
    searched = _searched(frame)
    rows: list[dict[str, Any]] = []
    values: list[list[float]] = []
    for trial_id, group in finished(frame).groupby("trial_id"):
        plain = as_rows(group)
        reached = [objective.value(plain) for objective in spec.objectives]
        by_seed = group.groupby("seed")[["val_asr", "detection_auroc"]].mean().std(ddof=1)
        rows.append(
            {
                "trial_id": trial_id,
                **{name: group[name].mean() for name in FIGURES},
                **{f"{name}_sd": by_seed[name] for name in by_seed.index},
                "seeds": group["seed"].nunique(),
                "sound": None not in reached and all(c.violation(plain) <= 0 for c in spec.constraints),
                **{shown: plain[0][column] for shown, column in searched.items()},
            }
        )
        signs = [-1.0 if objective.direction == "maximize" else 1.0 for objective in spec.objectives]
        values.append([np.nan if v is None else s * v for s, v in zip(signs, reached, strict=True)])
    table = pd.DataFrame(rows, columns=None if rows else ["trial_id", *FIGURES, "seeds", "sound", "leads"])
    table["leads"] = False
    sound = table.index[table["sound"].astype(bool)]
    if len(sound):
        best = moocore.is_nondominated(np.asarray(values)[sound], keep_weakly=True)
        table.loc[sound[np.asarray(best, dtype=bool)], "leads"] = True
    return table.sort_values(["leads", "sound", "val_asr"], ascending=False, ignore_index=True)


def shown(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and rows as people read them, from what :func:`attackers` gave."""
    known = {*FIGURES, *(f"{name}_sd" for name in FIGURES), "trial_id", "seeds", "sound", "leads"}
    searched = [column for column in table.columns if column not in known]
    rows = []
    for row in as_rows(table):
        mark = "yes" if row["leads"] else "" if row["sound"] else "constraint broken"
        figures = [spread(row, name) for name in FIGURES]
        rows.append([row["trial_id"], mark, str(row["seeds"]), *figures, *(cell(row[name]) for name in searched)])
    return ["trial", "leads", "n", *FIGURES, *searched], rows


def _searched(frame: pd.DataFrame) -> dict[str, str]:
    """Attack parameters that differ between trials: the name shown, and the column."""
    trials = finished(frame)
    columns = [c for c in trials.columns if c.startswith("param.scenario.")]
    return {c.removeprefix("param.scenario."): c for c in columns if trials[c].nunique() > 1}
