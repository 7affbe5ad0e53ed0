"""What a comparison of defenses shows on the screen."""

from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from sweeper.comparison import HEADINGS, HOLDER_HEADINGS, compared, holders, shown, shown_grid, shown_holders, standings

NOTE = (
    "Setting: one of each defense, the same against every attack: by mean accuracy and worst attack the nearest to "
    "accuracy 1 and attack success 0, of those confirmed with fresh seeds; where none was, of those that the search "
    "tried, which flatters it. n: seeds. control: attack success without a defense. AUROC: how well it tells poisoned "
    "samples; below 0.5 it takes clean ones for poisoned. images, s: what its training saw, and its seconds."
)


def print_comparison(console: Console, frame: pd.DataFrame, table: pd.DataFrame) -> None:
    """Show which defense holds which part of the joint frontier, and how each fares against each attack.

    Args:
        console: to print on.
        frame: rows of ``trials.parquet``.
        table: from :func:`sweeper.frontier.points`.
    """
    if not compared(table):
        return
    for environment, held in holders(table).groupby("environment"):
        label = f" at {environment!s}" if environment else ""
        _print(console, f"Who holds the joint frontier{label}", HOLDER_HEADINGS, shown_holders(held))
    table = standings(frame)
    headings, rows = shown_grid(table)
    if rows:
        _print(console, "Attack success (and its floor) of each defense against each attack", headings, rows)
    _print(console, "Each defense against each attack", HEADINGS, shown(table))
    console.print(NOTE)


def _print(console: Console, title: str, headings: Sequence[str], rows: list[list[str]]) -> None:
    view = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        view.add_column(heading, no_wrap=True)
    for row in rows:
        view.add_row(*row)
    console.print(view)
