"""The picture of a replay: hypervolume below the interest against trainings, for the policies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.replay_jobs import Score

mpl.use("Agg")
import matplotlib.pyplot as plt

SHOWN = {
    "off": ("off: every training", "#6e6e6e", "-", 0.16),
    "bounds, preset order": ("bounds, scenarios in the preset's order", "#e08214", "--", 0.0),
    "bounds": ("bounds", "#e08214", "-", 0.0),
    "learned, one by one": ("learned, one setting after the other", "#2166ac", "--", 0.0),
    "learned": ("learned", "#2166ac", "-", 0.16),
}
"""Policies with their labels, colours, lines and the opacity of their bands."""
TICKS = (10, 20, 50, 100, 200, 500, 1000)


def draw(panels: Mapping[str, Mapping[str, Sequence[Score]]], grid: Sequence[int], path: Path) -> None:
    """Draw a panel for each case, and write the picture.

    Args:
        panels: for each title, the scores of each policy.
        grid: numbers of trainings of the scores' curves.
        path: of the PNG.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(5.4 * len(panels), 4.2), sharey=True, squeeze=False)
    for axis, (title, policies) in zip(axes[0], panels.items(), strict=True):
        for name, (label, colour, line, opacity) in SHOWN.items():
            if name not in policies:
                continue
            curves = np.array([score.curve for score in policies[name]])
            # A curve ends at the mean number of trainings of its sweeps.
            shown = np.array(grid) <= np.mean([score.trainings for score in policies[name]])
            at, middle = np.array(grid)[shown], curves.mean(axis=0)[shown]
            axis.plot(at, middle, color=colour, linestyle=line, linewidth=2, label=label, zorder=3)
            axis.plot(at[-1], middle[-1], "o", color=colour, markersize=6, zorder=4, clip_on=False)
            if opacity:
                low, high = np.quantile(curves, [0.1, 0.9], axis=0)
                axis.fill_between(at, low[shown], high[shown], color=colour, alpha=opacity, linewidth=0)
        axis.axhline(0.95, color="black", linewidth=0.8, linestyle=":")
        axis.annotate("95%", (1000, 0.95), (2, 0), textcoords="offset points", va="center", fontsize=8)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("trainings begun, controls included")
        axis.set_xscale("log")
        axis.set_xticks(TICKS, [str(tick) for tick in TICKS])
        axis.minorticks_off()
        axis.set_xlim(TICKS[0], TICKS[-1])
        axis.set_ylim(0.4, 1.01)
        axis.grid(alpha=0.25)
    axes[0][0].set_ylabel("hypervolume below the interest,\nas a share of the full sweep's")
    axes[0][-1].legend(loc="lower right", fontsize=9, framealpha=0.95)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
