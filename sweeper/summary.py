"""Closes a sweep: tables and pictures of the frontier, in the run folder and on the screen."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from sweeper.attack_plots import can_map, draw_breaking, draw_map
from sweeper.breaking import has_rates
from sweeper.frontier import hypervolumes, points
from sweeper.plots import MOST_PANELS, draw_frontier
from sweeper.records import CONFIRMATION
from sweeper.results import as_rows, finished, write_table
from sweeper.run_folder import RunFolder
from sweeper.selection import confirmed
from sweeper.words import cell, parameter, spread
from trainers.errors import ConfigError

FEW_IMAGES = 100
HIGH_FLOOR = 0.3
BREAKING = "breaking.png"
"""Attack success against poison rate, where several were tried."""


def write_frontier(frame: pd.DataFrame, title: str, into: Path) -> tuple[pd.DataFrame, dict[str, float], list[Path]]:
    """Write ``frontier.parquet`` and ``frontier.png`` into a folder.

    Returns:
        The table, the hypervolume of each environment, and the files.
    """
    table = points(frame)
    volumes = hypervolumes(table)
    write_table(into / "frontier.parquet", as_rows(table), tuple(table.columns))
    if many_attackers(table) and can_map(frame):
        picture = draw_map(frame, title, into / "frontier.png")
    else:
        again = points(frame, role=CONFIRMATION)
        picture = draw_frontier(table, title, volumes, into / "frontier.png", again)
    files = [into / "frontier.parquet", picture]
    if has_rates(frame):
        files.append(draw_breaking(frame, title, into / BREAKING))
    return table, volumes, files


def many_attackers(table: pd.DataFrame) -> bool:
    """Whether there are more environments than a person would look at one by one."""
    return table["environment"].nunique() > MOST_PANELS


def read_sweeps(folders: Sequence[Path]) -> pd.DataFrame:
    """The rows of one sweep, or of several with the folder's name before each trial's and setting's.

    Raises:
        ConfigError: a folder holds no sweep, or is given twice.
    """
    frames = []
    for path, sweep in zip(folders, _told_apart(folders), strict=True):
        frame = RunFolder.open(path).read_trials()
        if len(folders) > 1:
            # One setting in two sweeps, on other data or another network perhaps, is two points.
            ids = {name: sweep + "/" + frame[name] for name in ("trial_id", "config_id")}
            frame = frame.assign(sweep=sweep, **ids)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _told_apart(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart: their names, unless two have the same."""
    paths = [path.resolve() for path in folders]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    twice = next(path for path in paths if paths.count(path) > 1)
    raise ConfigError(f"{twice} is given twice.")


def print_frontier(console: Console, frame: pd.DataFrame, table: pd.DataFrame, volumes: dict[str, float]) -> None:
    """Show the settings on the frontier, with test figures and what was searched beside them."""
    front = table[table["on_frontier"]]
    names = _varied(frame)
    params = frame.drop_duplicates("config_id").set_index("config_id")
    if many_attackers(table):
        _print_many(console, front)
    for environment in [] if many_attackers(table) else sorted(table["environment"].unique()):
        group = front[front["environment"] == environment]
        label = f" at {environment}" if environment else ""
        if group.empty:
            console.print(f"Frontier{label}: no setting stands on it.", highlight=False)  # the caveats say why
            continue
        title = f"Frontier{label} (hypervolume {volumes[environment]:.3f})"
        shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("config_id", "n", "val_acc", "val_asr", "floor", "test_acc", "test_asr", "floor", "held"):
            shown.add_column(column, no_wrap=True)
        for row in as_rows(group):
            figures = [spread(row, "val_acc"), spread(row, "val_asr")]
            figures += [cell(row[name]) for name in ("asr_floor", "test_acc", "test_asr", "test_asr_floor")]
            shown.add_row(row["config_id"], str(row["seeds"]), *figures, cell(row["frontier_share"]))
        console.print(shown)
        for row in as_rows(group):
            words = [
                f"{name.removeprefix('param.defense.')}={parameter(params.loc[row['config_id'], name])}"
                for name in names.get(row["defense"], [])
            ]
            head = f"  {row['config_id']} ({row['trials']})" + (f" {row['defense']}" if len(names) > 1 else "")
            console.print(f"{head}: {' '.join(words) or 'its only setting'}", highlight=False, soft_wrap=True)
    leaders = confirmed(frame)
    if len(leaders):
        shown = Table(title="Confirmed with fresh seeds", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("config_id", "n", "val_acc", "val_asr", "at most (confidence 0.9)", "floor"):
            shown.add_column(column, no_wrap=True)
        for row in as_rows(leaders):
            figures = [spread(row, "val_acc"), spread(row, "val_asr"), cell(row["asr_upper"]), cell(row["asr_floor"])]
            shown.add_row(row["config_id"], str(row["seeds"]), *figures)
        console.print(shown)
    for caveat in caveats(table, frame):
        console.print(caveat)
    if len(table) and table["seeds"].min() > 1:
        console.print(
            "n: seeds. ±: standard deviation over them. held: share of bootstrap samples of the seeds whose frontier "
            "holds the setting."
        )


def _print_many(console: Console, front: pd.DataFrame) -> None:
    """A line for each setting on the frontier of each environment."""
    shown = Table(title="Frontier by attacker", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("attacker", "config_id", "n", "val_acc", "val_asr", "floor", "control"):
        shown.add_column(column, no_wrap=True)
    for row in as_rows(front):
        figures = [spread(row, "val_acc"), spread(row, "val_asr"), cell(row["asr_floor"]), cell(row["control_asr"])]
        shown.add_row(row["environment"], row["config_id"], str(row["seeds"]), *figures)
    console.print(shown)


def caveats(table: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """What a reader of the frontier must know of its evidence.

    Args:
        table: its points.
        frame: rows of ``trials.parquet``.
    """
    found = []
    alone = table["environment"].nunique() <= 1
    weak: dict[str, set[str]] = {}
    for row in as_rows(table[["weak", "environment"]]):
        for name in filter(None, row["weak"].split(", ")):
            weak.setdefault(name, set()).add(row["environment"].removeprefix(name).removeprefix(", "))
    if weak:
        names = [name if alone or places == {""} else f"{name} at {_together(places)}" for name, places in weak.items()]
        found.append(
            f"Weak attack in {'; '.join(sorted(names))}: without a defense its success stays below 0.8 (or was not "
            "measured), so it is no evidence for any setting, and such settings stand on no frontier."
        )
    if len(table) and table["seeds"].min() == 1:
        again = "" if finished(frame, CONFIRMATION).empty else "; of the confirmed settings it is"
        found.append(f"Every figure of the search rests on one seed: how much it varies is not known{again}.")
    attacked = finished(frame).query("poison_rate > 0")
    images = attacked["n_eval"].astype(float).min()
    if images < FEW_IMAGES:
        found.append(
            f"Attack success is measured on as few as {images:g} images, each of which is {1 / images:.3f} of it; more "
            "test images would tell more."
        )
    floors = attacked["asr_floor"].astype(float).groupby(attacked["scenario"]).median()
    for scenario, floor in floors[floors > HIGH_FLOOR].items():
        found.append(
            f"In {scenario} half of the trainings take {floor:.0%} or more of the images for the target class without "
            "any trigger (the floor): attack success near that says nothing."
        )
    return found


def _together(environments: set[str]) -> str:
    """``poison_rate=0.01, 0.05`` for two environments that differ in one thing."""
    parts = sorted(environments)
    keys = {part.partition("=")[0] for part in parts}
    if len(keys) == 1 and all(part.count("=") == 1 for part in parts):
        values = pd.Series([part.partition("=")[2] for part in parts])
        numbers = pd.to_numeric(values, errors="coerce")
        return f"{keys.pop()}={', '.join(values[numbers.argsort(kind='stable')])}"
    return " / ".join(parts)


def _varied(frame: pd.DataFrame) -> dict[str, list[str]]:
    """For each defense, the columns of its parameters that differ between its trials."""
    columns = [name for name in frame.columns if name.startswith("param.defense.")]
    trials = frame[frame["role"] == "trial"].groupby("defense")
    return {str(name): [c for c in columns if own[c].nunique(dropna=False) > 1] for name, own in trials}
