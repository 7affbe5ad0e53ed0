"""What a map over poison rates, and an attacker's sweep, show on the screen."""

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from sweeper.attackers import shown
from sweeper.breaking import SUCCEEDS_AT, breaking_points, words

MOST_ATTACKERS = 20


def print_breaking(console: Console, frame: pd.DataFrame) -> None:
    """Show the smallest poison rate at which each attack succeeds, against each setting that met several."""
    rows = breaking_points(frame)
    if not rows:
        return
    view = _table(f"Breaking point: the smallest poison rate with val_asr {SUCCEEDS_AT:g} or more")
    for column in ("scenario", "config_id", "defense", "defended", "undefended", "rates tried", "n"):
        view.add_column(column, no_wrap=True)
    for row in rows:
        rates = [words(row["defended"], row), words(row["undefended"], row)]
        tried = f"{row['lowest']:g} to {row['highest']:g}"
        view.add_row(row["scenario"], row["config_id"], row["defense"], *rates, tried, str(row["seeds"]))
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
    if len(table) > MOST_ATTACKERS:
        console.print(f"{len(table) - MOST_ATTACKERS} more attackers are in trials.parquet and in the report.")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
