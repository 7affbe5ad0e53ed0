"""The frontier of sweeps as a table and pictures, and the caveats that its readers need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sweeper.analysis.breaking_points import has_rates
from sweeper.analysis.frontier import hypervolumes, in_order, points
from sweeper.analysis.lost_classes import MOST_CLASSES, Lost, lost_classes
from sweeper.report.attack_plots import can_map, draw_breaking, draw_map
from sweeper.report.plots import MOST_PANELS, draw_frontier
from sweeper.report.roc import write_roc
from sweeper.run_folder.class_columns import shown_values
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import CONFIRMATION
from sweeper.run_folder.tables import as_rows, finished, write_table
from trainers.errors import ConfigError

FEW_IMAGES = 100
MOST_SENTENCES = 3
"""Settings that are named one by one."""
HIGH_FLOOR = 0.3
BREAKING = "breaking.png"
"""The picture of attack success against poison rate, drawn if several rates were tried."""


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


@dataclass(frozen=True)
class JointFrontier:
    """The frontier of one sweep, or of several together, as it was written.

    Args:
        frame: rows of ``trials.parquet`` of all of them.
        table: points of the frontier.
        volumes: hypervolume of each environment.
        files: what was written.
    """

    frame: pd.DataFrame
    table: pd.DataFrame
    volumes: dict[str, float]
    files: list[Path]


def write_joint_frontier(folders: Sequence[Path], into: Path) -> JointFrontier:
    """Write the frontier of one sweep, or of several together, and the ROC curves if one sweep compares defenses.

    Args:
        folders: run folders.
        into: a folder, made if it is not there.

    Raises:
        ConfigError: a run folder holds no sweep or is given twice, or ``into`` cannot be written.
    """
    frame = read_sweeps(folders)
    title = ", ".join(path.resolve().name for path in folders)
    try:
        into.mkdir(parents=True, exist_ok=True)
        table, volumes, files = write_frontier(frame, title, into)
        roc = write_roc(RunFolder(folders[0]), frame, title, into) if len(folders) == 1 else None
    except OSError as error:
        raise ConfigError(f"{into} cannot be written: {error.strerror}.") from error
    return JointFrontier(frame, table, volumes, files if roc is None else [*files, roc])


def many_attackers(table: pd.DataFrame) -> bool:
    """Whether there are too many environments to show one by one."""
    return table["environment"].nunique() > MOST_PANELS


def read_sweeps(folders: Sequence[Path]) -> pd.DataFrame:
    """Read the rows of one sweep, or of several, with the folder's name in front of each trial's and setting's id.

    Raises:
        ConfigError: a folder holds no sweep, or is given twice.
    """
    frames = []
    for path, sweep in zip(folders, _told_apart(folders), strict=True):
        frame = RunFolder.open(path).read_trials()
        if len(folders) > 1:
            # A setting in two sweeps is two points: data or network may differ.
            ids = {name: sweep + "/" + frame[name] for name in ("trial_id", "config_id")}
            frame = frame.assign(sweep=sweep, **ids)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _told_apart(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: the last parts of its path, as many as are needed to tell all folders apart."""
    paths = [path.resolve() for path in folders]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    twice = next(path for path in paths if paths.count(path) > 1)
    raise ConfigError(f"{twice} is given twice.")


def caveats(table: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """Sentences about the limits of a frontier's evidence.

    Args:
        table: its points.
        frame: rows of ``trials.parquet``.
    """
    texts = []
    alone = table["environment"].nunique() <= 1
    weak: dict[str, set[str]] = {}
    for row in as_rows(table[["weak", "environment"]]):
        for name in filter(None, row["weak"].split(", ")):
            weak.setdefault(name, set()).add(row["environment"].removeprefix(name).removeprefix(", "))
    if weak:
        names = [name if alone or places == {""} else f"{name} at {_together(places)}" for name, places in weak.items()]
        texts.append(
            f"Weak attack in {'; '.join(sorted(names))}: without a defense its success stays below 0.8 (or was not "
            "measured), so it is no evidence for any setting; settings that met it are excluded from the frontier."
        )
    if len(table) and table["seeds"].min() == 1:
        again = "" if finished(frame, CONFIRMATION).empty else ", except for confirmed settings"
        texts.append(f"Every figure of the search rests on one seed: how much it varies is unknown{again}.")
    texts += _lost(table, frame)
    attacked = finished(frame).query("poison_rate > 0")
    images = attacked["n_eval"].astype(float).min()
    if images < FEW_IMAGES:
        texts.append(
            f"Attack success is measured on as few as {images:g} images, so each image changes it by {1 / images:.3f}; "
            "use more test images."
        )
    floors = attacked["asr_floor"].astype(float).groupby(attacked["scenario"]).median()
    for scenario, floor in floors[floors > HIGH_FLOOR].items():
        target = _only_target(attacked[attacked["scenario"] == scenario])
        texts.append(
            f"In {scenario} half of the models classify {floor:.0%} or more of the images as the target class{target} "
            "without any trigger (the floor): attack success near the floor means nothing, and a trigger can "
            "add only what is left."
        )
    return texts


def _only_target(rows: pd.DataFrame) -> str:
    """The target class of these rows, if they have one and the same."""
    targets = shown_values(rows[rows["target"].notna()], "target").unique()
    return f", {targets[0]}," if len(targets) == 1 else ""


def _lost(table: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """Sentences on settings that lost a class, one by one: those on the frontier first, then those that were confirmed;
    and how many others did.
    """
    lost = lost_classes(frame)
    front, again = set(table.loc[table["on_frontier"], "config_id"]), set(finished(frame, CONFIRMATION)["config_id"])
    named = table[table["config_id"].isin(lost)].drop_duplicates("config_id")
    rows = sorted(as_rows(named), key=lambda row: (row["config_id"] not in front, row["config_id"] not in again))
    texts = [
        f"{'On' if row['config_id'] in front else 'Not on'} the frontier: {lost_sentence(row, lost[row['config_id']])}"
        for row in rows[:MOST_SENTENCES]
    ]
    others = len(lost) - len(texts)
    if others:
        what, whom = ("setting has", "it") if others == 1 else ("settings have", "them")
        texts.append(
            f"{others} {'other ' if texts else ''}{what} lost a class: lost_classes in frontier.parquet names {whom}."
        )
    return texts


def lost_sentence(point: Mapping[str, Any], lost: Lost) -> str:
    """A sentence on the classes that a setting lost.

    Args:
        point: its row of the frontier's table.
        lost: the classes.
    """
    names = [
        name + (f" (in {count} of {lost.trainings} trainings)" if lost.trainings > 1 else "")
        for name, count in list(lost.classes.items())[:MOST_CLASSES]
    ]
    if len(lost.classes) > MOST_CLASSES:
        names.append(f"{len(lost.classes) - MOST_CLASSES} more")
    what = "the class" if len(lost.classes) == 1 else "the classes"
    return (
        f"{point['defense']} {point['config_id']} has lost {what} {', '.join(names)}: its accuracy there is below "
        "a tenth of that without a defense."
    )


def _together(environments: set[str]) -> str:
    """One label for several environments: ``poison_rate=0.01, 0.05`` where they differ in one thing."""
    parts = in_order(environments)
    keys = {part.partition("=")[0] for part in parts}
    if len(keys) == 1 and all(part.count("=") == 1 for part in parts):
        return f"{keys.pop()}={', '.join(part.partition('=')[2] for part in parts)}"
    return " / ".join(parts)


NEAR_THE_FLOOR = 0.1
"""If its trigger adds less than this, a leading attacker gets a warning."""
NOTE = (
    "Setting: the one that represents a defense against every attack. It is the nearest to accuracy 1 at an excess of "
    "0 (mean accuracy, worst attack) of the confirmed settings; if none was confirmed, of all that the search tried, "
    "and then it looks better than it is. n: number of seeds. excess: what the trigger adds (val_asr less its floor, "
    "or 0). control: attack success without a defense. AUROC: how well the defense detects poisoned samples; below 0.5 "
    "it takes clean ones for poisoned. images: images seen in training. s: seconds of training."
)


def notes(table: pd.DataFrame) -> list[str]:
    """Sentences about the limits of the leading attackers' evidence."""
    texts = [
        f"The leading attackers are the best of {len(table)} on the seeds of the search, so they look stronger than "
        "they are: sweeper confirm runs them again with fresh seeds."
    ]
    broken = table[table["leads"] & (table["val_asr_excess"] < NEAR_THE_FLOOR)]
    if len(broken):
        texts.append(
            f"{', '.join(broken['trial_id'])}: attack success is hardly above asr_floor, so the trigger has no effect: "
            "the model itself has collapsed."
        )
    return texts
