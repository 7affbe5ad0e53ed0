"""What a map over poison rates, and an attacker's sweep, show on the screen."""

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from sweeper.attackers import shown
from sweeper.breaking import HEADINGS, SUCCEEDS_AT, breaking_points
from sweeper.breaking import shown as shown_breaking

MOST_ATTACKERS = 20
NEAR_THE_FLOOR = 0.1
"""Attack success above the floor below which an attacker who leads is warned of."""


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


def print_attackers(console: Console, table: pd.DataFrame, confirmed: pd.DataFrame) -> None:
    """Show an attacker's sweep, the leading attackers first, and those that were run again with fresh seeds."""
    _print_attackers(console, "Attackers, those that no other beats first", table.head(MOST_ATTACKERS))
    for note in notes(table):
        console.print(note)
    if len(confirmed):
        _print_attackers(console, "Confirmed with fresh seeds", confirmed)
    if len(table) > MOST_ATTACKERS:
        console.print(f"{len(table) - MOST_ATTACKERS} more attackers are in trials.parquet and in the report.")


def notes(table: pd.DataFrame) -> list[str]:
    """What a reader must know of the attackers that lead."""
    found = [
        f"Those that lead are the best of {len(table)} on the seeds that the search used, which flatters them: "
        "sweeper confirm runs them again with fresh seeds."
    ]
    broken = table[table["leads"] & (table["val_asr"] - table["asr_floor"] < NEAR_THE_FLOOR)]
    if len(broken):
        found.append(
            f"{', '.join(broken['trial_id'])}: success is hardly above asr_floor, so the trigger does nothing; the "
            "model is what has broken down."
        )
    return found


def _print_attackers(console: Console, title: str, table: pd.DataFrame) -> None:
    columns, rows = shown(table)
    view = _table(title)
    for column in columns:
        view.add_column(column.replace("detection_", ""), no_wrap=True)
    for row in rows:
        view.add_row(*row)
    console.print(view)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
