"""What a map over poison rates, and an attacker's sweep, show on the screen."""

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from sweeper.attackers import shown
from sweeper.breaking import HEADINGS, SUCCEEDS_AT, breaking_points
from sweeper.breaking import shown as shown_breaking

MOST_ATTACKERS = 20


def print_breaking(console: Console, frame: pd.DataFrame) -> None:
    """Show the smallest poison rate at which each attack succeeds, against each setting that met several."""
    rows = shown_breaking(breaking_points(frame))
    if not rows:
        return
    view = _table(f"Breaking point: the smallest poison rate with val_asr {SUCCEEDS_AT:g} or more, and figures there")
    for column in HEADINGS:
        view.add_column(column, no_wrap=True)
    for row in rows:
        view.add_row(*row)
    console.print(view)


def print_attackers(console: Console, table: pd.DataFrame) -> None:
    """Show an attacker's sweep, the leading attackers first."""
    columns, rows = shown(table.head(MOST_ATTACKERS))
    view = _table("Attackers, those that no other beats first")
    for column in columns:
        view.add_column(column.replace("detection_", ""), no_wrap=True)
    for row in rows:
        view.add_row(*row)
    console.print(view)
    console.print(best_of_many(len(table)))
    if len(table) > MOST_ATTACKERS:
        console.print(f"{len(table) - MOST_ATTACKERS} more attackers are in trials.parquet and in the report.")


def best_of_many(count: int) -> str:
    """What a reader must know of the attackers that lead."""
    return (
        f"Those that lead are the best of {count} on the seeds that the search used, which flatters them: run them "
        "again with fresh seeds before quoting a figure."
    )


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
