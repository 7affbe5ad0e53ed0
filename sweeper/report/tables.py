"""Tables as text: headings and rows."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from search_spaces.distributions import Searched
from sweeper.analysis.attackers import FIGURES
from sweeper.analysis.breaking_points import BreakingPoint
from sweeper.analysis.comparison import NO_DEFENSE
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.tables import as_rows
from sweeper.words import format_cell, parameter, spread

HOLDER_HEADINGS = (
    "defense",
    "settings",
    "hypervolume",
    "on the joint frontier",
    "with val_asr_excess",
    "hypervolume lost without it",
)
STANDING_HEADINGS = (
    "attack",
    "defense",
    "setting",
    "n",
    "val_acc",
    "worst class",
    "excess",
    "val_asr",
    "floor",
    "control",
    "AUROC",
    "images",
    "s",
)
MOST_ATTACKS = 8
"""Most attacks, and so columns, of :func:`grid_rows`."""
BREAKING_HEADINGS = (
    "scenario", "config_id", "defense", "breaks at", "excess", "val_asr", "floor", "val_acc", "no defense", "excess",
    "val_asr", "n",
)  # fmt: skip


def setting_of(spec: SweepSpec, defense: str, params: Mapping[str, Any]) -> str:
    """The parameters that the search chose, as text: ``threshold=0.213 mixing=none``; empty if it chose none."""
    block = next((block for block in spec.defense if block.kind == defense), None)
    searched = [] if block is None else [key for key, value in block.values.items() if isinstance(value, Searched)]
    return " ".join(f"{key}={parameter(params[key])}" for key in searched if key in params)


def holder_rows(table: pd.DataFrame) -> list[list[str]]:
    """Rows of text for :func:`~sweeper.analysis.comparison.holders` in one environment (:data:`HOLDER_HEADINGS`)."""
    rows = []
    for row in as_rows(table):
        ends = [] if row["excess_from"] is None else sorted({f"{row['excess_from']:.3f}", f"{row['excess_to']:.3f}"})
        reach = " to ".join(ends) or "-"
        figures = [format_cell(row["hypervolume"]), str(row["joint"]), reach, format_cell(row["alone"])]
        rows.append([row["defense"], str(row["settings"]), *figures])
    return rows


def grid_rows(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text for :func:`sweeper.analysis.comparison.standings`: a row for each setting, with what
    the trigger adds, and attack success and floor in brackets, in a column for each attack. No rows if there are too
    many attacks for columns.

    The first row is the control without a defense; the others are sorted by their worst attack.
    """
    table = table.assign(attack=[_attack_label(row) for row in as_rows(table)])
    attacks = list(dict.fromkeys(table["attack"]))
    headings = ["defense", "setting", "val_acc", "worst excess", *attacks]
    if len(attacks) > MOST_ATTACKS:
        return headings, []
    sortable = []
    for (defense, config), rows in table.groupby(["defense", "config_id"]):
        own = {row["attack"]: row for row in as_rows(rows)}
        cells = [_attack_cell(own[attack]) if attack in own else "-" for attack in attacks]
        worst = rows["val_asr_excess"].max()
        figures = [format_cell(rows["val_acc"].mean()), format_cell(worst)]
        sortable.append((defense != NO_DEFENSE, worst, [str(defense), str(config), *figures, *cells]))
    return headings, [row for *_, row in sorted(sortable, key=lambda item: item[:2])]


def _attack_cell(row: dict[str, Any]) -> str:
    """What the trigger adds, and attack success and floor in brackets: means, so that many columns fit."""
    excess, asr, floor = (format_cell(row[name]) for name in ("val_asr_excess", "val_asr", "asr_floor"))
    return f"{excess} ({asr}, {floor})"


def _attack_label(row: dict[str, Any]) -> str:
    return f"{row['scenario']} {row['poison_rate']:g}" + (" (weak)" if row["weak"] else "")


def standing_rows(table: pd.DataFrame) -> list[list[str]]:
    """Rows of text for :func:`sweeper.analysis.comparison.standings`, under :data:`STANDING_HEADINGS`."""
    rows = []
    for row in as_rows(table):
        accuracies = [spread(row, "val_acc"), spread(row, "val_min_class_acc")]
        success = [spread(row, "val_asr_excess"), spread(row, "val_asr"), format_cell(row["asr_floor"])]
        control = "-" if row["defense"] == NO_DEFENSE else format_cell(row["control_asr"])
        budget = [f"{row['images_seen']:,.0f}", f"{row['seconds']:.0f}"]
        auroc = spread(row, "detection_auroc")
        setting = [row["defense"], row["config_id"], str(row["seeds"])]
        rows.append([_attack_label(row), *setting, *accuracies, *success, control, auroc, *budget])
    return rows


def attacker_rows(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text for :func:`sweeper.analysis.attackers.attackers`."""
    known = {*FIGURES, *(f"{name}_sd" for name in FIGURES), "trial_id", "seeds", "sound", "leads"}
    searched = [column for column in table.columns if column not in known]
    rows = []
    for row in as_rows(table):
        mark = "yes" if row["leads"] else "" if row["sound"] else "constraint broken"
        figures = [spread(row, name) for name in FIGURES]
        rows.append(
            [row["trial_id"], mark, str(row["seeds"]), *figures, *(format_cell(row[name]) for name in searched)]
        )
    return ["trial", "leads", "n", *FIGURES, *searched], rows


def breaking_rows(points: list[BreakingPoint]) -> list[list[str]]:
    """Rows of text for breaking points, under :data:`BREAKING_HEADINGS`."""
    rows = []
    for point in points:
        own, plain = point.defended, point.undefended
        success = [spread(asdict(own), "val_asr_excess"), spread(asdict(own), "val_asr")]
        figures = [*success, format_cell(own.asr_floor), format_cell(own.val_acc)]
        without = [str(plain), spread(asdict(plain), "val_asr_excess"), spread(asdict(plain), "val_asr")]
        rows.append([point.scenario, point.config_id, point.defense, str(own), *figures, *without, str(own.seeds)])
    return rows
