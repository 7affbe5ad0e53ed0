"""ROC curves: how well each defense separates poisoned from clean samples, over all thresholds."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from sweeper.analysis.comparison import compared, representatives
from sweeper.report.plots import DEFENSE_COLOURS, GREY, save_figure
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.tables import as_rows, read_table
from trainers.errors import ConfigError

Curve = tuple[np.ndarray, np.ndarray]
"""False and true positive rates, float (K,) each."""


def curves(frame: pd.DataFrame, folder: RunFolder) -> dict[str, dict[str, list[Curve]]]:
    """ROC curves of the representatives by scenario and defense, one for each seed.

    Args:
        frame: rows of ``trials.parquet``.
        folder: with the per-sample scores. Defenses without scores and missing files are left out.
    """
    from sklearn.metrics import roc_curve

    by_scenario: dict[str, dict[str, list[Curve]]] = {}
    for row in as_rows(representatives(frame).sort_values(["scenario", "poison_rate", "seed"])):
        try:
            samples = read_table(folder.scores_of(row["trial_id"], row["scenario"], row["seed"]))
        except ConfigError:
            continue
        poisoned = samples["poisoned"].to_numpy(bool)
        if poisoned.any() and not poisoned.all():
            wrong, right, _ = roc_curve(poisoned, samples["suspicion"])
            where = f"{row['scenario']} at rate {row['poison_rate']:g}"
            by_scenario.setdefault(where, {}).setdefault(row["defense"], []).append((wrong, right))
    return by_scenario


def write_roc(folder: RunFolder, frame: pd.DataFrame, title: str, into: Path) -> Path | None:
    """Draw ``roc.png`` of a comparison of defenses; return null if there is no comparison or no defense gave scores.

    Args:
        folder: with the per-sample scores.
        frame: rows of ``trials.parquet``.
        title: of the figure.
        into: a folder.
    """
    by_scenario = curves(frame, folder) if compared(frame) else {}
    return draw_roc(by_scenario, title, into / folder.roc.name) if by_scenario else None


def draw_roc(by_scenario: Mapping[str, Mapping[str, list[Curve]]], title: str, path: Path) -> Path:
    """Draw ROC curves: a panel for each scenario, a line for each defense and seed.

    Args:
        by_scenario: from :func:`curves`.
        title: of the figure.
        path: of the PNG.
    """
    columns = min(len(by_scenario), 4)
    lines = -(-len(by_scenario) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(3.8 * columns, 3.8 * lines), squeeze=False, sharex=True, sharey=True
    )
    for axes, (where, defenses) in zip(grid.flat, by_scenario.items(), strict=False):
        axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1, label="chance")
        for name, colour in DEFENSE_COLOURS.items():
            lines_of = defenses.get(name, [])
            area = np.mean([np.trapezoid(right, wrong) for wrong, right in lines_of]) if lines_of else 0.0
            for number, (wrong, right) in enumerate(lines_of):
                label = f"{name} {area:.2f}" if number == 0 else None
                axes.plot(wrong, right, color=colour, lw=1.4, alpha=0.8, label=label)
        axes.set_xlim(-0.02, 1.02)  # the best lines would lie on the frame
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="best", fontsize=7, title="area under it", title_fontsize=7)
        axes.set_title(where, fontsize=10)
        axes.set_xlabel("clean samples marked")
        axes.set_ylabel("poisoned samples found")
        axes.set_aspect("equal")
        axes.grid(alpha=0.25)
    for axes in list(grid.flat)[len(by_scenario) :]:
        axes.set_visible(False)
    figure.suptitle(f"{title}: detection by each defense that judges samples (a line for each seed)", fontsize=12)
    figure.tight_layout()
    return save_figure(figure, path)
