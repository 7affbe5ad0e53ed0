"""The report: all results of a run folder on one page, which works offline."""

import base64
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sweeper.analysis.attackers import attackers
from sweeper.analysis.breaking_points import breaking_points
from sweeper.analysis.comparison import compared, holders, standings
from sweeper.analysis.confirmed import confirmed
from sweeper.analysis.frontier import KEYS, in_order, points, with_environments
from sweeper.analysis.importance import importances
from sweeper.analysis.left_out import left_out
from sweeper.preset.class_numbers import describe_classes
from sweeper.preset.spec import SweepSpec
from sweeper.report.certificate import certificate_section
from sweeper.report.points import colours_of, for_json, searched_columns, setting_points
from sweeper.report.rendering import render
from sweeper.report.summary import NOTE, caveats, notes
from sweeper.report.tables import (
    BREAKING_HEADINGS,
    HOLDER_HEADINGS,
    STANDING_HEADINGS,
    attacker_rows,
    breaking_rows,
    grid_rows,
    holder_rows,
    standing_rows,
)
from sweeper.run_folder.certificate import read_certificate
from sweeper.run_folder.class_columns import CLASS_COLUMNS
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.provenance import numeric_format
from sweeper.run_folder.record import CONFIRMATION, CONTROL, TRIAL
from sweeper.run_folder.status import reading_notes
from sweeper.run_folder.tables import as_rows, finished, read_table
from sweeper.words import format_cell, spread
from trainers.errors import ConfigError
from trainers.storage.files import write_text

MOST_DOTS = 300
"""Most settings drawn for one attack at one poison rate; more are thinned out evenly."""
MOST_HISTOGRAMS = 12
BINS = np.linspace(0, 1, 41)
AGAIN = (
    "config_id", "defense", "seeds", "val_acc", "val_acc_sd", "val_asr_excess", "val_asr_excess_sd", "val_asr",
    "val_asr_sd", "asr_floor",
)  # fmt: skip
"""Columns shown of settings that were run again with fresh seeds."""


def rewrite_report(folder: RunFolder) -> Path:
    """Write ``report.html`` from what the run folder holds.

    Raises:
        ConfigError, PresetError: the folder is damaged, or the page cannot be written.
    """
    frame = folder.read_trials()
    spec = folder.spec()
    try:
        return write_report(folder, frame, points(frame), spec)
    except OSError as error:
        raise ConfigError(f"{folder.report} cannot be written: {error.strerror}.") from error


def write_report(folder: RunFolder, frame: pd.DataFrame, table: pd.DataFrame, spec: SweepSpec) -> Path:
    """Write ``report.html``.

    Args:
        folder: the run folder.
        frame: rows of ``trials.parquet``.
        table: points of the frontier.
        spec: the sweep.
    """
    sweep, certificate = folder.read_sweep(), read_certificate(folder.path)
    tested = None if certificate is None else certificate_section(certificate, frame)
    interrupted = {record.trial_id for record in folder.read_records().values() if record.open}
    importance, note = importances(spec, table, frame)
    names = searched_columns(frame)
    leading = _leading(table)
    attacker_table = attackers(frame, spec) if spec.attacking else None
    points_shown = setting_points(frame, table, names, spec)
    environments_shown = in_order(table["environment"].unique())
    if attacker_table is not None:
        leading = attacker_table.loc[attacker_table["leads"], "trial_id"].tolist()
        # Each attacker is an environment of its own, in which the one setting leads: the points form no frontier.
        points_shown = [point | {"environment": "", "on_frontier": False} for point in points_shown]
        environments_shown = [""]
    data: dict[str, Any] = {
        "environments": environments_shown,
        "params": list(names),
        "environment_params": [name for name, column in names.items() if not column.startswith("param.defense.")],
        "points": points_shown,
        "rates": _rates(frame, spec),
        "class_params": [name for name, column in names.items() if column in CLASS_COLUMNS],
        "class_names": folder.class_names,
        "colours": colours_of(table),
        "attacking": spec.attacking,
        "importance": importance,
        "histograms": _histograms(folder, frame, leading),
        "wealth": [] if tested is None else tested.wealth,
        "confirmed": [] if spec.attacking else as_rows(points(frame, role=CONFIRMATION)[list(AGAIN)]),
    }
    page = {
        "name": sweep["preset"]["name"],
        "summary": _summary(frame, sweep, interrupted),
        "notes": reading_notes(folder)
        + _notes(frame, table, spec, attacker_table, tested is not None)
        + _data_findings(sweep),
        "left_out": sweep.get("left_out", []),
        "environments": data["environments"],
        "params": data["params"],
        "importance": importance,
        "importance_note": note,
        "histograms": data["histograms"],
        "failed": _failed(frame, interrupted),
        "attackers": [] if attacker_table is None else _attackers(attacker_table, attackers(frame, spec, CONFIRMATION)),
        "certificate": tested,
        "breaking": {"headings": BREAKING_HEADINGS, "rows": breaking_rows(breaking_points(frame))},
        "comparison": _comparison(folder, frame, table) if compared(table) else None,
        "confirmed": [] if spec.attacking else [_confirmed_row(row) for row in as_rows(confirmed(frame))],
        "provenance": _provenance(sweep)
        | {
            "classes": ", ".join(folder.class_names) or "unknown",
            "attacked classes": describe_classes(spec.scenario_blocks, folder.class_names),
        },
        "preset": yaml.safe_dump(sweep["preset"], sort_keys=False),
    }
    write_text(folder.report, render("report", page=page, data=for_json(data)))
    return folder.report


def _comparison(folder: RunFolder, frame: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """Each defense's part of the joint frontier in each environment, and its figures against each attack."""
    held = [(str(name), holder_rows(rows)) for name, rows in holders(table).groupby("environment")]
    table_of_all = standings(frame)
    headings, rows = grid_rows(table_of_all)
    return {
        "holders": {"headings": HOLDER_HEADINGS, "rows": held},
        "grid": {"headings": headings, "rows": rows},
        "standings": {"headings": STANDING_HEADINGS, "rows": standing_rows(table_of_all)},
        "note": NOTE,
        "roc": base64.b64encode(folder.roc.read_bytes()).decode() if folder.roc.exists() else None,
    }


def _rates(frame: pd.DataFrame, spec: SweepSpec) -> list[dict[str, Any]]:
    """For each scenario and poison rate: attack success of every setting, of the control, and the floor; and the median
    of what the trigger adds.

    An attacker's sweep gets no medians: its trials at one rate are other attackers than those at the next.
    """
    trials, controls = finished(frame), finished(frame, CONTROL)
    if trials.empty:
        return []
    trials = with_environments(trials, frame)
    attacked = trials[trials["poison_rate"] > 0]
    by_scenario = []
    for scenario, rows in attacked.groupby("scenario"):
        rates = []
        for rate, group in rows.groupby("poison_rate"):
            means = group.groupby(KEYS)[["val_asr", "val_asr_excess"]].mean().astype(float)
            asr = np.sort(means["val_asr"].dropna().to_numpy())
            same = controls[(controls["scenario"] == scenario) & (controls["poison_rate"] == rate)]
            kept = np.unique(np.linspace(0, max(len(asr) - 1, 0), MOST_DOTS).astype(int))[: len(asr)]
            rates.append(
                {
                    "rate": rate,
                    "settings": asr[kept].tolist(),
                    "median": None if spec.attacking else means["val_asr"].median(),
                    "added": None if spec.attacking else means["val_asr_excess"].median(),
                    "control": same["val_asr"].mean(),
                    "floor": group["asr_floor"].median(),
                }
            )
        by_scenario.append({"scenario": scenario, "rates": rates})
    return by_scenario


def _leading(table: pd.DataFrame) -> list[str]:
    """Trials of the settings on the frontier."""
    return [trial for cell in table.loc[table["on_frontier"], "trials"] for trial in cell.split(", ")]


def _histograms(folder: RunFolder, frame: pd.DataFrame, leading: list[str]) -> list[dict[str, Any]]:
    """Entropies of clean and poisoned samples for runs of the leading trials."""
    histograms: list[dict[str, Any]] = []
    runs = finished(frame)
    runs = runs[runs["trial_id"].isin(leading)].drop_duplicates(["trial_id", "scenario"])
    for row in as_rows(runs):
        path = folder.scores_of(row["trial_id"], row["scenario"], row["seed"])
        if len(histograms) == MOST_HISTOGRAMS or not path.exists():
            continue
        try:
            scores = read_table(path)
        except ConfigError:
            continue  # the page is written without the damaged scores
        entropy, poisoned = 1 - scores["suspicion"], scores["poisoned"].astype(bool)
        parts = {
            name: (np.histogram(entropy[mask], BINS)[0] / max(int(mask.sum()), 1)).tolist()
            for name, mask in (("clean", ~poisoned), ("poisoned", poisoned))
        }
        where = f"{row['scenario']} at rate {row['poison_rate']:g}, seed {row['seed']}"
        title = f"{row['trial_id']} ({row['defense']}): {where}"
        axis = "entropy, normalised" if row["defense"] == "vab" else "1 - suspicion"
        histograms.append({"title": title, "axis": axis, "edges": BINS.tolist(), **parts})
    return histograms


def _summary(frame: pd.DataFrame, sweep: Mapping[str, Any], interrupted: Container[str]) -> str:
    trials = frame[frame["role"] == TRIAL].drop_duplicates("trial_id")
    words = trials["trial_status"].str.lower().to_list()
    names = trials["trial_id"]
    status = pd.Series([
        "interrupted" if name in interrupted else word for name, word in zip(names, words, strict=True)
    ]).value_counts()  # fmt: skip
    counts = ", ".join(f"{count} {word}" for word, count in status.items())
    seeds = frame.loc[frame["role"] == TRIAL, "seed"].nunique()
    data, source = sweep["data"], sweep["preset"]["data"]["source"]
    return (
        f"{len(trials)} trials ({counts}) over {seeds} seed{'s' if seeds != 1 else ''}, on "
        f"{data['training_images']} training and {data['test_images']} test images of {source}."
    )


def _attackers(table: pd.DataFrame, again: pd.DataFrame) -> list[tuple[str, tuple[list[str], list[list[str]]]]]:
    """The tables of the attackers and of those that were run again, each with the line above it."""
    words = (
        "Each trial is an attacker against one defense. An attacker leads if it keeps the constraints, and no other "
        "one that keeps them is better in one objective and at least as good in the others."
    )
    return [(words, attacker_rows(table))] + (
        [("Run again with fresh seeds:", attacker_rows(again))] if len(again) else []
    )


def _notes(
    frame: pd.DataFrame, table: pd.DataFrame, spec: SweepSpec, attacker_table: pd.DataFrame | None, tested: bool
) -> list[str]:
    texts = [text for text in [left_out(frame, spec)] if text] + caveats(table, frame)
    if len(table) == 0:
        texts.append("No trial finished.")
    if attacker_table is not None:
        texts += notes(attacker_table)
    elif not tested:
        texts.append(
            "The winner of a search looks better than it is. Before deploying, certify a setting with sweeper confirm "
            "--confidence, and select with --confidence."
        )
    return texts


def _data_findings(sweep: Mapping[str, Any]) -> list[str]:
    """What was left out of the data, and what is odd about it, as it was said when the sweep began."""
    return [f"Data: {line}" for line in sweep["data"].get("findings", [])]


def _confirmed_row(row: dict[str, Any]) -> dict[str, Any]:
    """A confirmed setting as the page shows it."""
    names = {"accuracy": "val_acc", "worst_class": "val_min_class_acc", "excess": "val_asr_excess", "asr": "val_asr"}
    figures = {shown: spread(row, name) for shown, name in names.items()}
    floor = format_cell(row["asr_floor"])
    return {"setting": row["config_id"], "n": row["seeds"], **figures, "floor": floor, "weak": row["weak"]}


def _failed(frame: pd.DataFrame, interrupted: Container[str]) -> list[dict[str, Any]]:
    rows = as_rows(frame[frame["trial_status"] != "FINISHED"].drop_duplicates("trial_id"))
    columns = {"trial_id": "trial_id", "role": "role", "status": "trial_status", "error": "trial_error"}
    failed = [{shown: row[name] for shown, name in columns.items()} for row in rows]
    return [row | ({"status": "interrupted"} if row["trial_id"] in interrupted else {}) for row in failed]


def _provenance(sweep: Mapping[str, Any]) -> dict[str, str]:
    origin = sweep["provenance"]
    versions = ", ".join(f"{name} {number}" for name, number in origin.get("versions", {}).items())
    return {
        "begun": str(origin.get("created", "unknown")),
        "resumed": ", ".join(str(part["created"]) for part in sweep.get("resumed", [])) or "never",
        "code": str(origin.get("git_commit") or "unknown"),
        "versions": versions or "unknown",
        "machine": str(origin.get("machine", "unknown")),
        "computed in": numeric_format(sweep["preset"]),
        "data": str(sweep["preset"]["data"]["source"]),
        "data fingerprint": str(sweep["data_fingerprint"]),
    }
