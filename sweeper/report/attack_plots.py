"""Pictures of attack success: over poison rates, and in an attacker's sweep."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from sweeper.analysis.breaking_points import SUCCEEDS_AT, success_by_rate
from sweeper.analysis.frontier import axes_of, non_dominated
from sweeper.report.plots import BLUE, GREY, RED, save_figure

COLUMNS = 4
MOST_MAPS, MOST_RATES = 24, 12
"""Most panels, and most rates told apart by colour, of a legible map."""
TICKS = 12
"""Most ticks that fit on the axis of poison rates."""


def can_map(frame: pd.DataFrame) -> bool:
    """Whether a map of these rows of ``trials.parquet`` is legible; an attacker's sweep has too many rates."""
    table = success_by_rate(frame)
    return 0 < table["scenario"].nunique() <= MOST_MAPS and table["poison_rate"].nunique() <= MOST_RATES


def draw_map(frame: pd.DataFrame, title: str, path: Path) -> Path:
    """Draw the frontier of every attack and poison rate: a panel for each scenario, a line for each rate.

    Args:
        frame: rows of ``trials.parquet``.
        title: of the figure.
        path: of the PNG.
    """
    table = success_by_rate(frame).dropna(subset=["val_asr_excess", "val_acc"])
    rates = table["poison_rate"]
    norm = LogNorm(rates.min(), rates.max()) if rates.nunique() > 1 else Normalize(0, 2 * rates.max())
    colours = colormaps["viridis_r"]
    figure, panels = _panels(table, title)
    for axes, (_, rows) in panels:
        for rate in sorted(rows["poison_rate"].unique()):
            group, colour = rows[rows["poison_rate"] == rate], colours(float(norm(rate)))
            own, control = group[group["config_id"].notna()], group[group["config_id"].isna()]
            sound, weak = own[own["sound"]], own[~own["sound"]]
            best = sound[non_dominated(*axes_of(sound))].sort_values("val_asr_excess")
            axes.scatter(sound["val_asr_excess"], sound["val_acc"], color=colour, s=16, alpha=0.6)
            axes.scatter(weak["val_asr_excess"], weak["val_acc"], facecolors="none", edgecolors=[colour], s=24)
            axes.step(
                best["val_asr_excess"], best["val_acc"], where="post", color=colour, marker="o", ms=6,
                label=f"{rate:.3g}",
            )  # fmt: skip
            axes.scatter(best["val_asr"], best["val_acc"], color=colour, marker="|", s=50, lw=1)
            axes.scatter(
                control["val_asr_excess"], control["val_acc"], color=colour, marker="X", s=70, edgecolors=RED, lw=1
            )
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("attack success above the floor (val_asr_excess)")
        axes.set_ylabel("clean accuracy (val_acc)")
        axes.legend(title="poison rate", loc="lower center", fontsize=7, title_fontsize=8, frameon=False)
    note = (
        "dots: settings, lines: frontier, strokes: its attack success with the floor (val_asr); hollow: the attack is "
        "weak, so no evidence; crosses with a red edge: no defense"
    )
    figure.text(0.5, 0, note, ha="center", va="top", fontsize=9)
    figure.tight_layout()
    return save_figure(figure, path)


def draw_breaking(frame: pd.DataFrame, title: str, path: Path) -> Path:
    """Draw what the trigger adds against poison rate: a panel for each scenario that has several rates, with settings,
    no defense, and attack success and floor beside.

    Args:
        frame: rows of ``trials.parquet``.
        title: of the figure.
        path: of the PNG.
    """
    table = success_by_rate(frame)
    table = table[table.groupby("scenario")["poison_rate"].transform("nunique") > 1]
    figure, panels = _panels(table, title)
    for axes, (_, rows) in panels:
        settings = [own for _, own in rows[rows["config_id"].notna()].groupby("config_id")]
        for own, colour, marker in (
            (rows[rows["config_id"].isna()], RED, "X"),
            *((own, BLUE, "o") for own in settings),
        ):
            spread = own["val_asr_excess_sd"].fillna(0)
            axes.errorbar(own["poison_rate"], own["val_asr_excess"], spread, color=colour, marker=marker, capsize=2)
            axes.plot(own["poison_rate"], own["val_asr"], color=colour, ls="--", lw=0.8)
        floor = rows.groupby("poison_rate")["asr_floor"].median()
        axes.plot(floor.index, floor, color=GREY, ls=":")
        axes.axhline(SUCCEEDS_AT, color=GREY, lw=0.8)
        axes.set_xscale("log")
        axes.set_xticks(_apart(sorted(rows["poison_rate"].unique())))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", labelsize=7, rotation=45)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("poison rate")
        axes.set_ylabel("attack success above the floor (val_asr_excess)", fontsize=8)
    note = (
        "red: no defense; blue: settings of the defense; dashed: attack success with the floor (val_asr); dotted: ASR "
        "floor; line at 0.5; bars: standard deviation"
    )
    figure.text(0.5, 0, note, ha="center", va="top", fontsize=9)
    figure.tight_layout()
    return save_figure(figure, path)


def _apart(rates: list[float]) -> list[float]:
    """The rates, of the ascending ``rates``, whose labels do not overlap on a logarithmic axis."""
    kept: list[float] = []
    least = np.log(rates[-1] / rates[0]) / TICKS
    for rate in rates:
        if not kept or np.log(rate / kept[-1]) >= least:
            kept.append(rate)
    return kept


def _panels(table: pd.DataFrame, title: str) -> tuple[Figure, list[tuple[Axes, tuple[str, pd.DataFrame]]]]:
    """A figure with a panel for each scenario: each panel's axes, with the scenario and its rows."""
    groups = [(str(name), rows) for name, rows in table.groupby("scenario")]
    columns = min(len(groups), COLUMNS)
    lines = -(-len(groups) // columns)
    figure, grid = plt.subplots(lines, columns, figsize=(4.0 * columns, 3.2 * lines), squeeze=False, sharey=True)
    for axes in grid.flat:
        axes.set_visible(False)
    panels = list(zip(grid.flat, groups, strict=False))
    for axes, (name, _) in panels:
        axes.set_visible(True)
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.25)
    figure.suptitle(f"{title} ({_over(table.loc[table['config_id'].notna(), 'seeds'])})", fontsize=12)
    return figure, panels


def _over(seeds: pd.Series) -> str:
    """The number of seeds that figures are means over, as text for a title."""
    if seeds.empty:
        return "nothing finished"
    if seeds.min() < seeds.max():
        return f"means over {seeds.min()} to {seeds.max()} seeds"
    return "one seed" if seeds.max() == 1 else f"means over {seeds.max()} seeds"


def draw_attackers(table: pd.DataFrame, metric: str, title: str, path: Path) -> Path:
    """Draw attack success against poison rate: a point per attacker, coloured by how well the defense found the poison.

    Args:
        table: from :func:`sweeper.analysis.attackers.attackers`.
        metric: the attack success that the attackers maximize.
        title: of the figure.
        path: of the PNG.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    sound, weak = table[table["sound"]], table[~table["sound"]]
    axes.scatter(
        weak["poison_rate"], weak[metric], facecolors="none", edgecolors=GREY, s=30, label="a constraint is broken"
    )
    auroc = sound["detection_auroc"].astype(float)
    lowest = min(0.5, auroc.min()) if auroc.notna().any() else 0.5
    colours = colormaps["viridis"].with_extremes(bad=GREY)  # not every defense gives scores
    shown = axes.scatter(
        sound["poison_rate"], sound[metric], c=auroc, cmap=colours, vmin=lowest, vmax=1, s=46, plotnonfinite=True
    ) if len(sound) else None  # fmt: skip
    if shown is not None and np.isfinite(auroc).any():
        figure.colorbar(shown, ax=axes, label="detection AUROC of the defense")
    axes.errorbar(
        table["poison_rate"], table[metric], table[f"{metric}_sd"].astype(float).fillna(0), fmt="none", ecolor=GREY,
        lw=0.8, zorder=0,
    )  # fmt: skip
    axes.scatter(table["poison_rate"], table["asr_floor"], color=BLUE, marker="_", s=40, label="ASR floor")
    leads = table[table["leads"]]
    axes.scatter(
        leads["poison_rate"], leads[metric], facecolors="none", edgecolors=RED, s=110, label="leads (non-dominated)"
    )
    axes.set_xlabel("poison rate")
    axes.set_ylabel(f"attack success against the defense ({metric})")
    axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.25)
    figure.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=3, frameon=False, fontsize=9)
    bars = "; bars: standard deviation" if table[f"{metric}_sd"].notna().any() else ""
    axes.set_title(f"{title} ({_over(table['seeds'])}{bars})", fontsize=11)
    figure.tight_layout()
    return save_figure(figure, path)
