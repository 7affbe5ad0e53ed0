"""Compares defenses: each one's part of the joint frontier, and its figures against each attack."""

from typing import Any

import pandas as pd

from sweeper.analysis.confirmation import leaders
from sweeper.analysis.controls import CONTROL_KEYS
from sweeper.analysis.frontier import axes_of, comparable, environments, hypervolume, non_dominated
from sweeper.run_folder.record import CONFIRMATION, CONTROL, TRIAL
from sweeper.run_folder.tables import finished

FIGURES = (
    "val_acc", "val_min_class_acc", "val_asr_excess", "val_asr", "asr_floor", "control_asr", "detection_auroc",
    "images_seen", "seconds",
)  # fmt: skip
NO_DEFENSE = "none (control)"


def compared(table: pd.DataFrame) -> bool:
    """Whether points, or rows of ``trials.parquet``, come from several defenses."""
    trials = table[table["role"] == TRIAL] if "role" in table else table
    return bool(trials["defense"].nunique() > 1)


def own_frontiers(table: pd.DataFrame) -> pd.Series:
    """Whether each point is on the frontier of its own defense: bool, with the index of ``table``.

    Args:
        table: from :func:`sweeper.analysis.frontier.points`.
    """
    on_frontier = pd.Series(False, index=table.index)
    for _, group in table[comparable(table)].groupby(["environment", "defense"]):
        on_frontier.loc[group.index[non_dominated(*axes_of(group))]] = True
    return on_frontier


def holders(table: pd.DataFrame) -> pd.DataFrame:
    """The part of the joint frontier that each defense holds: a row for each environment and defense.

    Columns: ``environment``, ``defense``, ``settings``, ``hypervolume`` (of its own frontier), ``joint`` (its points on
    the joint frontier), ``excess_from`` and ``excess_to`` (what the trigger adds there; NaN where there are none), and
    ``alone``: the area that the joint frontier would lose without it.

    Args:
        table: from :func:`sweeper.analysis.frontier.points`.
    """
    rows = []
    for environment, group in table[comparable(table)].groupby("environment"):
        whole = hypervolume(*axes_of(group))
        for defense, own in group.groupby("defense"):
            joint = own[own["on_frontier"]]
            rows.append({
                "environment": environment, "defense": defense, "settings": len(own),
                "hypervolume": hypervolume(*axes_of(own)), "joint": len(joint),
                "excess_from": joint["val_asr_excess"].min(), "excess_to": joint["val_asr_excess"].max(),
                "alone": whole - hypervolume(*axes_of(group[group["defense"] != defense])),
            })  # fmt: skip
    columns = ["environment", "defense", "settings", "hypervolume", "joint", "excess_from", "excess_to", "alone"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        ["environment", "hypervolume"], ascending=[True, False], ignore_index=True
    )


def representatives(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``trials.parquet`` of the setting that represents each defense.

    If settings of a defense were confirmed with fresh seeds, it is the one of them that ranks first in the search,
    with the rows of its confirming runs. If none was, it is the leading setting of the search, whose figures look
    better than they are; where trials met different attackers, the leading setting against each attacker. A defense
    whose settings met no sound attack has none.
    """
    parts = []
    for defense in sorted(finished(frame)["defense"].unique()):
        own = frame[frame["defense"] == defense]
        searched, again = finished(own), finished(own, CONFIRMATION)
        confirmed = leaders(searched[searched["config_id"].isin(again["config_id"])], 1)
        if confirmed:
            parts.append(again[again["config_id"] == confirmed[0]])
            continue
        for _, group in searched.groupby(environments(searched)):
            parts.append(group[group["config_id"].isin(leaders(group, 1))])
    return pd.concat(parts) if parts else frame[:0]


def standings(frame: pd.DataFrame) -> pd.DataFrame:
    """Figures of the representatives and of the controls: a row for each scenario, poison rate and setting.

    Columns: ``scenario``, ``poison_rate``, ``defense``, ``config_id``, ``seeds``, each of :data:`FIGURES` as its mean
    over seeds, the same with ``_sd`` (n - 1), and ``weak``.

    Args:
        frame: rows of ``trials.parquet``.
    """
    chosen = representatives(frame)
    same = [c for c in frame.columns if c in CONTROL_KEYS or c.startswith("param.scenario.")]
    controls = finished(frame, CONTROL).assign(defense=NO_DEFENSE, config_id="-")
    controls = controls.merge(chosen[same].drop_duplicates(), on=same)
    keys = ["scenario", "poison_rate", "defense", "config_id"]
    rows: list[dict[str, Any]] = []
    for values, group in pd.concat([controls, chosen]).groupby(keys, sort=False):
        figures = group.astype(dict.fromkeys(FIGURES, float)).groupby("seed")[list(FIGURES)].mean()
        means, deviations = figures.mean(), figures.std(ddof=1).add_suffix("_sd")
        attacked = bool((group["poison_rate"] > 0).all()) and values[2] != NO_DEFENSE
        weak = attacked and bool(group["weak_attack"].fillna(True).any())
        rows.append(
            {**dict(zip(keys, values, strict=True)), "seeds": len(figures), **means, **deviations, "weak": weak}
        )
    names = [*keys, "seeds", *FIGURES, *(f"{name}_sd" for name in FIGURES), "weak"]
    return pd.DataFrame(rows, columns=names).sort_values(["scenario", "poison_rate", "defense"], ignore_index=True)
