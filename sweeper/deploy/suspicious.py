"""Draws the images that a defense suspects, for review."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from sweeper.report.plots import save_figure
from trainers.data.image_set import ImageSet

PER_CLASS, MOST_CLASSES = 10, 20


def draw_suspicious(data: ImageSet, review: pd.DataFrame, path: Path) -> None:
    """Draw the most suspicious images of each class that has any, the classes with the most of them first.

    Args:
        data: the images.
        review: columns ``index``, ``label``, ``score`` and ``verdict``, the most suspicious first.
        path: of the PNG.
    """
    suspicious = review[review["verdict"] == "suspicious"]
    if suspicious.empty:
        return
    shares = suspicious["label"].value_counts()
    names = [str(name) for name in shares.index[:MOST_CLASSES]]
    figure, grid = plt.subplots(
        len(names), PER_CLASS, figsize=(PER_CLASS * 0.95 + 1.6, len(names) * 1.05 + 0.6), squeeze=False
    )
    for line, name in zip(grid, names, strict=True):
        rows = suspicious[suspicious["label"] == name].head(PER_CLASS).to_dict("records")
        for axes in line:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        for axes, row in zip(line, rows, strict=False):
            image = data.images[int(row["index"])].permute(1, 2, 0).numpy()
            axes.imshow(image.squeeze(), cmap="gray", interpolation="nearest", vmin=0, vmax=255)
            axes.set_xlabel(f"{row['score']:.3f}", fontsize=7, labelpad=1)
        line[0].set_ylabel(f"{name}\n{shares[name]}", rotation=0, ha="right", va="center", fontsize=9, parse_math=False)
    left_out = f" ({len(names)} of {len(shares)} classes)" if len(shares) > len(names) else ""
    figure.suptitle(
        f"The most suspicious images of each label, with their number and each image's score{left_out}", fontsize=10
    )
    figure.tight_layout()
    save_figure(figure, path)
