"""The picture of a replay: hypervolume below the interest against trainings, for the policies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.replay_jobs import Score

mpl.use("Agg")
import matplotlib.pyplot as plt

SHOWN = {
    "off": ("off: every training", "#6e6e6e", "-"),
    "bounds, preset order": ("bounds, preset order", "#e08214", "--"),
    "bounds": ("bounds", "#e08214", "-"),
    "learned, learned order": ("learned, nobody finished off", "#2166ac", "--"),
    "learned": ("learned", "#2166ac", "-"),
}
"""Policies with their labels, colours and lines."""


def draw(panels: Mapping[str, Mapping[str, Sequence[Score]]], grid: Sequence[int], path: Path) -> None:
    """Draw a panel for each case, and write the picture.

    Args:
        panels: for each title, the scores of each policy.
        grid: numbers of trainings of the scores' curves.
        path: of the PNG.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 4.0), sharey=True, squeeze=False)
    for axis, (title, policies) in zip(axes[0], panels.items(), strict=True):
        for name, (label, colour, line) in SHOWN.items():
            if name not in policies:
                continue
            curves = np.array([score.curve for score in policies[name]])
            # A curve is drawn as long as sweeps run; most of them have ended where the mean number of trainings is.
            ends = float(np.mean([score.trainings for score in policies[name]]))
            shown = np.array(grid) <= ends
            at, middle = np.array(grid)[shown], curves.mean(axis=0)[shown]
            axis.plot(at, middle, color=colour, linestyle=line, linewidth=2, label=label)
            axis.plot(at[-1], middle[-1], "o", color=colour, markersize=5)
            if line == "-":
                low, high = np.quantile(curves, [0.1, 0.9], axis=0)
                axis.fill_between(at, low[shown], high[shown], color=colour, alpha=0.12, linewidth=0)
        axis.axhline(0.95, color="black", linewidth=0.7, linestyle=":")
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("trainings, controls included")
        axis.set_xlim(0, max(grid))
        axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.25)
    axes[0][0].set_ylabel("hypervolume below the interest,\nshare of the full sweep's")
    axes[0][-1].legend(loc="lower right", fontsize=9, framealpha=0.9)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
