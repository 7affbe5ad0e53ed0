"""Pictures: the frontier of a sweep, and histograms and curves of a trial."""

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from sweeper.analysis.comparison import compared, own_frontiers
from sweeper.analysis.frontier import comparable, in_order
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord
from trainers.defenses import DEFENSES
from trainers.storage.files import write_with

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MOST_PANELS = 12
BLUE, RED, GREY = "#2166ac", "#b2182b", "#777777"
OKABE_ITO = ("#000000", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
"""Colours that can be told apart by everyone (Okabe and Ito 2008)."""
DEFENSE_COLOURS = dict(zip(DEFENSES, OKABE_ITO, strict=False))
"""A defense has the same colour in every picture."""


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure of pyplot as a PNG, whole or not at all, and close it."""
    _write(figure, path)
    plt.close(figure)
    return path


def _write(figure: Figure, path: Path) -> Path:
    write_with(path, lambda beside: figure.savefig(beside, dpi=120, bbox_inches="tight"))
    return path


def draw_frontier(table: pd.DataFrame, title: str, volumes: dict[str, float], path: Path, again: pd.DataFrame) -> Path:
    """Draw clean accuracy against what the trigger adds in its worst scenario, a panel per environment, with the
    control, and with the attack success of the settings on the frontier, floor included.

    Args:
        table: from :func:`sweeper.analysis.frontier.points`.
        title: of the figure.
        volumes: hypervolume of each environment.
        path: of the PNG.
        again: points of the settings that were run again with fresh seeds; a line joins each to its search result.
    """
    environments = in_order(table["environment"].unique()) or [""]
    alone = len(environments) > 1 and table["config_id"].nunique() == 1  # the only setting leads everywhere
    if len(environments) > MOST_PANELS or alone:  # an attacker's sweep: each trial is another attacker
        together = f"{len(environments)} attackers"
        # Each leads its own environment; a line through all of them would be no frontier.
        table, environments = table.assign(environment=together, on_frontier=False), [together]
    columns = min(len(environments), 4)
    lines = -(-len(environments) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(5.6 * columns, 4.6 * lines), squeeze=False, sharex=True, sharey=True
    )
    for axes, environment in zip(grid.flat, environments, strict=False):
        group = table[table["environment"] == environment]
        _frontier_panel(axes, group, compared(table))
        if len(again) and not environment:  # they met all environments
            _confirmed(axes, group, again, compared(table))
        area = f"hypervolume {volumes[environment]:.3f}" if environment in volumes else ""
        axes.set_title(": ".join(part for part in (environment, area) if part), fontsize=10)
        axes.set_ylabel("clean accuracy (val_acc)")
        axes.set_xlabel("attack success above the floor, worst scenario (val_asr_excess)")
    for axes in list(grid.flat)[len(environments) :]:
        axes.set_visible(False)
    seeds = int(table["seeds"].min()) if len(table) else 0
    one = "one seed: spread unknown" if again.empty else "the search: one seed"
    note = one if seeds == 1 else f"means over {seeds} seeds, 95 % bootstrap intervals"
    figure.suptitle(f"{title} ({note})", fontsize=12)
    entries = dict(pair for axes in grid.flat for pair in zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncol=3,
        frameon=False,
        fontsize=9,
    )
    figure.tight_layout()
    return save_figure(figure, path)


def _frontier_panel(axes: Axes, group: pd.DataFrame, several: bool) -> None:
    sound, weak = group[comparable(group)], group[group["weak"] != ""]
    broken = group[(group["weak"] == "") & ~group["constraints_kept"]]
    front = group[group["on_frontier"]].sort_values("val_asr_excess")
    if several:
        _own_frontiers(axes, sound)
    else:
        axes.scatter(sound["val_asr_excess"], sound["val_acc"], color=GREY, s=28, alpha=0.7, label="setting")
    if len(weak):
        axes.scatter(
            weak["val_asr_excess"], weak["val_acc"], facecolors="none", edgecolors=GREY, s=28,
            label="weak attack: no evidence",
        )  # fmt: skip
    if len(broken):
        axes.scatter(
            broken["val_asr_excess"], broken["val_acc"], facecolors="none", edgecolors=GREY, marker="s", s=28,
            label="a constraint is broken",
        )  # fmt: skip
    for row in front.dropna(subset=["val_acc_low"]).to_dict("records"):
        ends = [row["val_asr_excess_low"], row["val_asr_excess_high"]]
        axes.plot(ends, [row["val_acc"]] * 2, color=BLUE, lw=1, alpha=0.6)
        axes.plot([row["val_asr_excess"]] * 2, [row["val_acc_low"], row["val_acc_high"]], color=BLUE, lw=1, alpha=0.6)
    if len(front) and several:
        axes.step(
            front["val_asr_excess"], front["val_acc"], where="post", color="black", lw=0.8, marker="o", markersize=11,
            markerfacecolor="none", label="joint frontier",
        )  # fmt: skip
    elif len(front):
        axes.step(
            front["val_asr_excess"], front["val_acc"], where="post", color=BLUE, marker="o", markersize=7,
            label="frontier",
        )  # fmt: skip
    if len(front):
        axes.scatter(
            front["val_asr"], front["val_acc"], color="black", marker="|", s=70, lw=1,
            label="attack success of the frontier, floor included (val_asr)",
        )  # fmt: skip
    control = group[["control_asr_excess", "control_acc"]].dropna().drop_duplicates()
    axes.scatter(
        control["control_asr_excess"], control["control_acc"], color=RED, marker="X", s=80, label="no defense (control)"
    )
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(0, 1.03)
    axes.grid(alpha=0.25)


def _confirmed(axes: Axes, group: pd.DataFrame, again: pd.DataFrame, several: bool) -> None:
    """Draw settings with their figures from fresh seeds, each joined by a line to its figures from the search."""
    before = group.drop_duplicates("config_id").set_index("config_id")
    for row in again.dropna(subset=["val_asr_excess", "val_acc"]).to_dict("records"):
        colour = DEFENSE_COLOURS[row["defense"]] if several else BLUE
        if row["config_id"] in before.index:
            earlier = before.loc[row["config_id"]]
            axes.plot(
                [earlier["val_asr_excess"], row["val_asr_excess"]], [earlier["val_acc"], row["val_acc"]], color=colour,
                lw=1, ls="--",
            )  # fmt: skip
        axes.errorbar(
            row["val_asr_excess"], row["val_acc"], xerr=_known(row["val_asr_excess_sd"]),
            yerr=_known(row["val_acc_sd"]), fmt="D", color=colour, markeredgecolor="black", markersize=8, capsize=3,
            lw=1.2, zorder=5,
        )  # fmt: skip
    counts = sorted({int(seeds) for seeds in again["seeds"]})
    seeds = " to ".join(str(count) for count in sorted({counts[0], counts[-1]}))
    label = f"again with {seeds} fresh seed{'s (mean, sd)' if counts[-1] > 1 else ''}"
    axes.scatter([], [], marker="D", color=GREY if several else BLUE, edgecolors="black", s=60, label=label)


def _known(spread: float | None) -> float | None:
    return None if spread is None or np.isnan(spread) else float(spread)


def _own_frontiers(axes: Axes, sound: pd.DataFrame) -> None:
    """Draw settings and frontier of each defense in a colour of its own."""
    leads = own_frontiers(sound)
    for name, colour in DEFENSE_COLOURS.items():
        own = sound[sound["defense"] == name]
        if own.empty:
            continue
        best = own[leads[own.index]].sort_values("val_asr_excess")
        axes.scatter(own["val_asr_excess"], own["val_acc"], color=colour, s=14, marker="s", alpha=0.6)
        axes.step(
            best["val_asr_excess"], best["val_acc"], where="post", color=colour, marker="o", markersize=5, label=name
        )
    if (~leads).any():
        axes.scatter([], [], color=GREY, s=14, marker="s", label="dominated by another setting of its defense")


def draw_trial(record: TrialRecord, folder: RunFolder, into: Path) -> list[Path]:
    """Draw the curves of a trial, and for each run with scores the histogram of clean and poisoned samples.

    It may run in any thread, since it does without pyplot, whose list of open figures belongs to the main thread.
    """
    made = []
    if record.epochs:
        made.append(_draw_curves(record, into / "curves.png"))
    for scenario, repeat in record.runs:
        scores = folder.scores_of(record.trial_id, scenario.name, repeat)
        if scores.exists():
            name = re.sub(r"[^A-Za-z0-9._-]", "_", f"entropy-{scenario.name}-{repeat}.png")
            title = f"{record.trial_id}: {scenario.name} at rate {scenario.poison_rate:g}, seed {repeat}"
            made.append(draw_histogram(scores, title, into / name))
    return made


def draw_histogram(scores: Path, title: str, path: Path) -> Path:
    """Draw normalised entropies of clean and poisoned training samples, and which of them are credible."""
    frame = pq.read_table(scores).to_pandas()
    entropy = 1 - frame["suspicion"]
    bins = np.linspace(0, 1, 41)
    figure = Figure(figsize=(5.6, 3.6))
    axes = figure.subplots()
    for name, mask, colour in (("clean", ~frame["poisoned"], BLUE), ("poisoned", frame["poisoned"], RED)):
        if mask.any():
            share = np.histogram(entropy[mask], bins)[0] / mask.sum()
            kept = frame.loc[mask, "credible"].mean()
            label = f"{name}: {mask.sum()}, {kept:.1%} credible"
            axes.stairs(share, bins, fill=True, color=colour, alpha=0.55, label=label)  # hist draws a patch per bin
    axes.set_xlabel("entropy, min-max normalised")
    axes.set_ylabel("share of samples")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    return _write(figure, path)


def _draw_curves(record: TrialRecord, path: Path) -> Path:
    shown = (("val_acc", BLUE, "-"), ("val_asr", RED, "-"), ("asr_floor", RED, ":"), ("detection_auroc", GREY, "-"))
    runs = [run for run in record.epochs if record.epochs[run]]
    figure = Figure(figsize=(4.6 * len(runs), 3.4))
    grid = figure.subplots(1, len(runs), squeeze=False, sharey=True)
    for axes, run in zip(grid.flat, runs, strict=True):
        epochs: list[dict[str, Any]] = [record.epochs[run][number] for number in sorted(record.epochs[run])]
        for name, colour, style in shown:
            known = [(figures["epoch"], figures[name]) for figures in epochs if figures[name] is not None]
            if known:
                axes.plot(*zip(*known, strict=True), color=colour, ls=style, label=name)
        axes.set_title(f"{run[0]}, seed {run[1]}", fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.25)
    grid.flat[0].legend(frameon=False, fontsize=8)
    return _write(figure, path)
