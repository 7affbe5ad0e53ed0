"""Tables and lines that commands print."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from sweeper.analysis.breaking_points import SUCCEEDS_AT, breaking_points
from sweeper.analysis.comparison import compared, holders, standings
from sweeper.analysis.confirmed import confirmed
from sweeper.analysis.frontier import in_order, points
from sweeper.analysis.left_out import left_out
from sweeper.analysis.lost_classes import unmeasured_sentence
from sweeper.analysis.overview import Overview, overview
from sweeper.analysis.selection import Selection
from sweeper.analysis.verdicts import how_it_stands
from sweeper.deploy.bounds import Bounds, go_on
from sweeper.report.certificate import guarantee_lines
from sweeper.report.summary import NOTE, caveats, lost_sentence, many_attackers, notes
from sweeper.report.tables import (
    BREAKING_HEADINGS,
    HOLDER_HEADINGS,
    STANDING_HEADINGS,
    attacker_rows,
    breaking_rows,
    grid_rows,
    holder_rows,
    standing_rows,
)
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.live import RunningTraining, read_live
from sweeper.run_folder.record import FAILED, PRUNED, Training
from sweeper.run_folder.status import Status, reading_notes
from sweeper.run_folder.tables import as_rows
from sweeper.words import command, format_cell, parameter, spread
from trainers.errors import ConfigError
from trainers.storage.state_store import attempts, host_of

MOST_ATTACKERS = 20
MOST_ENVIRONMENTS = 5


def print_frontier(console: Console, frame: pd.DataFrame, table: pd.DataFrame, volumes: dict[str, float]) -> None:
    """Print the settings on the frontier, with their test figures and searched parameters."""
    front = table[table["on_frontier"]]
    names = _varied(frame)
    params = frame.drop_duplicates("config_id").set_index("config_id")
    if many_attackers(table):
        _print_many(console, front)
    for environment in [] if many_attackers(table) else in_order(table["environment"].unique()):
        group = front[front["environment"] == environment]
        label = f" at {environment}" if environment else ""
        if group.empty:
            console.print(f"Frontier{label}: no setting qualifies.", highlight=False)  # the caveats say why
            continue
        headings = (*HEAD, "control", "test_acc", "test excess", "test_asr", "floor", "held")
        others = ("control_asr", "test_acc", "test_asr_excess", "test_asr", "test_asr_floor", "frontier_share")
        rows = [[*_head(row), *(format_cell(row[name]) for name in others)] for row in as_rows(group)]
        _print_table(console, f"Frontier{label} (hypervolume {volumes[environment]:.3f})", headings, rows)
        for row in as_rows(group):
            words = [
                f"{name.removeprefix('param.defense.')}={parameter(params.loc[row['config_id'], name])}"
                for name in names.get(row["defense"], [])
            ]
            head = f"  {row['config_id']} ({row['trials']})" + (f" {row['defense']}" if len(names) > 1 else "")
            console.print(f"{head}: {' '.join(words) or 'no parameter varied'}", highlight=False, soft_wrap=True)
    _print_confirmed(console, confirmed(frame))
    for caveat in caveats(table, frame):
        console.print(caveat)
    if front["val_min_class_acc"].notna().any():
        console.print("balanced: mean of the accuracies on each class. worst class: the lowest of them.")
    if len(table) and table["seeds"].min() > 1:
        console.print(
            "n: number of seeds. ±: standard deviation over seeds. held: share of bootstrap samples (over seeds) in "
            "which the setting is on the frontier."
        )


def _print_many(console: Console, front: pd.DataFrame) -> None:
    """Print a line for each setting on the frontier of each environment."""
    headings = ("attacker", *HEAD, "control")
    rows = [[row["environment"], *_head(row), format_cell(row["control_asr"])] for row in as_rows(front)]
    _print_table(console, "Frontier by attacker", headings, rows)


def _print_confirmed(console: Console, table: pd.DataFrame) -> None:
    """Print a line for each confirmed setting, if there are any."""
    if len(table):
        title = "Trained again with fresh seeds (described: select --confidence does not count them)"
        _print_table(console, title, HEAD, [_head(row, spread) for row in as_rows(table)])


HEAD = ("config_id", "n", "val_acc", "balanced", "worst class", "excess", "val_asr", "floor")
"""Headings of :func:`_head`."""


def _plain(row: Mapping[str, Any], name: str) -> str:
    """A mean without its standard deviation, which would make a table too wide."""
    return format_cell(row[name])


def _head(row: Mapping[str, Any], of_class: Callable[[Mapping[str, Any], str], str] = _plain) -> list[str]:
    """The first cells of a setting's row: its id, number of seeds, accuracies, what the trigger adds, attack success
    and floor.

    Args:
        row: of the frontier's table.
        of_class: writes a figure on accuracies by class.
    """
    of_classes = [of_class(row, name) for name in ("val_balanced_acc", "val_min_class_acc")]
    attack = [spread(row, "val_asr_excess"), spread(row, "val_asr"), format_cell(row["asr_floor"])]
    return [row["config_id"], str(row["seeds"]), spread(row, "val_acc"), *of_classes, *attack]


def _varied(frame: pd.DataFrame) -> dict[str, list[str]]:
    """For each defense, the columns of its parameters that differ between its trials."""
    columns = [name for name in frame.columns if name.startswith("param.defense.")]
    trials = frame[frame["role"] == "trial"].groupby("defense")
    return {str(name): [c for c in columns if own[c].nunique(dropna=False) > 1] for name, own in trials}


def print_comparison(console: Console, frame: pd.DataFrame, table: pd.DataFrame) -> None:
    """Print each defense's part of the joint frontier, and its figures against each attack.

    Args:
        console: to print on.
        frame: rows of ``trials.parquet``.
        table: from :func:`sweeper.analysis.frontier.points`.
    """
    if not compared(table):
        return
    for environment, held in holders(table).groupby("environment"):
        label = f" at {environment!s}" if environment else ""
        _print_table(console, f"Joint frontier by defense{label}", HOLDER_HEADINGS, holder_rows(held))
    table = standings(frame)
    headings, rows = grid_rows(table)
    if rows:
        _print_table(console, "Excess (attack success, floor) of each defense against each attack", headings, rows)
    _print_table(console, "Each defense against each attack", STANDING_HEADINGS, standing_rows(table))
    console.print(NOTE)


def _print_table(console: Console, title: str, headings: Sequence[str], rows: list[list[str]]) -> None:
    """Print rows of text under a title and headings."""
    view = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        view.add_column(heading, no_wrap=True)
    for row in rows:
        view.add_row(*row)
    console.print(view)


def print_breaking(console: Console, frame: pd.DataFrame) -> None:
    """Print the smallest poison rate at which each attack succeeds, for settings that were run at several rates."""
    rows = breaking_rows(breaking_points(frame))
    if rows:
        title = (
            f"Breaking point: the smallest poison rate with val_asr_excess {SUCCEEDS_AT:g} or more, and figures there"
        )
        _print_table(console, title, BREAKING_HEADINGS, rows)


def print_attackers(console: Console, table: pd.DataFrame, confirmed: pd.DataFrame) -> None:
    """Print the attackers of an attacker's sweep, leading ones first, and those run again with fresh seeds."""
    _print_attackers(console, "Attackers, leading ones first", table.head(MOST_ATTACKERS))
    for note in notes(table):
        console.print(note)
    if len(confirmed):
        _print_attackers(console, "Confirmed with fresh seeds", confirmed)
    if len(table) > MOST_ATTACKERS:
        console.print(f"{len(table) - MOST_ATTACKERS} more attackers are in trials.parquet and in the report.")


def _print_attackers(console: Console, title: str, table: pd.DataFrame) -> None:
    headings, rows = attacker_rows(table)
    _print_table(console, title, [heading.replace("detection_", "") for heading in headings], rows)


def selection_lines(chosen: Selection, bounds: Bounds, searched: str) -> list[str]:
    """Lines of text about the chosen setting: its figures, and their limits.

    Args:
        chosen: from :func:`sweeper.analysis.selection.select`.
        bounds: what it had to keep.
        searched: the values that the search chose, as text; empty: none.
    """
    point, certified = chosen.point, chosen.guarantee is not None
    known = point["val_min_class_acc"] is not None
    worst_class = f"worst class {spread(point, 'val_min_class_acc')}, " if known else ""
    others = "" if certified else f"; {chosen.others} other{'s' if chosen.others != 1 else ''} qualified"
    lines = [] if chosen.guarantee is None else guarantee_lines(chosen.guarantee)
    lines.append(
        f"{'In the search: ' if certified else ''}{point['defense']} {point['config_id']} ({point['trials']}): "
        f"val_acc {spread(point, 'val_acc')}, {worst_class}{_attack_figures(chosen, bounds)}{others}."
    )
    if chosen.lost is not None:
        hint = "" if bounds.min_class_acc else " --min-class-acc bounds the mean over seeds, not every training."
        lines.append(lost_sentence(point, chosen.lost) + hint)
    if chosen.unmeasured:
        lines.append(unmeasured_sentence(chosen.unmeasured))
    if searched:
        lines.append(f"Found by the search: {searched}")
    if chosen.hardest_of:
        lines.append(
            f"Hardest of {'; '.join(chosen.hardest_of)}: {point['environment']}. This setting was measured there, but "
            "not necessarily at the others."
        )
    if chosen.no_evidence:
        failing = "; ".join(chosen.no_evidence)
        lines.append(f"No evidence about {failing}: no attack works there without a defense.")
    if point["seeds"] == 1:
        which = "The search's" if certified else "These"
        lines.append(f"{which} figures rest on one seed: how much they vary is unknown.")
    return lines


def _attack_figures(chosen: Selection, bounds: Bounds) -> str:
    """What an attack achieves against the chosen setting, as text: the excess, and attack success, floor and control
    beside it; with a bound on attack success also where that is highest.
    """
    point, limits = chosen.point, {limit.metric for limit in bounds.attack.limits}
    parts = [f"{bounds.over} val_asr_excess {spread(point, 'val_asr_excess')} ("]
    parts.append(f"val_asr {spread(point, 'val_asr')}, floor {point['asr_floor']:.3f}, ")
    parts.append(f"control {point['control_asr']:.3f})")
    if "val_asr" in limits:
        parts.append(f", {bounds.over} val_asr {point['val_asr_worst']:.3f}")
    return "".join(parts)


def print_status(console: Console, folder: RunFolder, status: Status) -> None:
    """Print the status of a sweep."""

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    who = f" ({status.holder})" if status.holder else ""
    line(f"{status.name}: {status.word}{who}")
    stopped = status.counts[PRUNED] - status.raced_out
    parts = [f"{count} {word}" for count, word in ((status.raced_out, "left their races"), (stopped, "stopped early"),
                                                   (status.counts[FAILED], "failed")) if count]  # fmt: skip
    line(f"{status.done} of {status.budget} trials done" + "".join(f", {part}" for part in parts)
         + f"; {status.controls} control{'s' * (status.controls != 1)}")  # fmt: skip
    found = _found(folder)
    saved = f", {status.not_needed} more were not needed" if status.not_needed else ""
    hours = f"; {found.hours_saved:.2g} h saved" if found is not None and found.hours_saved else ""
    line(f"{status.trainings} trainings finished{saved}{hours}")
    for text in [] if found is None else _best_lines(found):
        line(text)
    for text in _doing(folder, status):
        line(f"  {text}")
    for reason in status.failed:
        line(f"FAILED {reason}")
    sizes = folder.trunk_sizes()
    if sizes:
        line(f"Trunks: {len(sizes)} kept, {sum(sizes) / 2**20:.1f} MiB")
    if status.seconds_left is not None and status.done < status.budget:
        line(f"About {max(status.seconds_left / 60, 1):.0f} min left.")
    if status.certificate is not None:
        line(how_it_stands(status.certificate))
        if not status.certificate.decided and status.holder is None:
            line(go_on(folder.path, status.certificate))
    if status.word == "interrupted":
        line(f"To continue: {command('resume', folder.path)}")
    line(f"Attacked classes: {status.classes}.")
    line(f"Results: {folder.path}")


def _found(folder: RunFolder) -> Overview | None:
    """A sweep in a few figures; null where its table cannot be read."""
    try:
        frame = folder.read_trials()
        return overview(frame, folder.spec(), points(frame))
    except ConfigError:
        return None


def _best_lines(found: Overview) -> list[str]:
    """The best accuracy below each bound on the excess, a line for each environment, unless there are many."""
    lines = []
    for environment, by_level in found.best.items() if len(found.best) <= MOST_ENVIRONMENTS else ():
        if any(best is not None for best in by_level.values()):
            at = f" at {environment}" if environment else ""
            known = [f"<= {level:g}: {format_cell(best and best.acc)}" for level, best in by_level.items()]
            lines.append(f"Best accuracy by val_asr_excess{at}: {', '.join(known)}")
    return lines


def _doing(folder: RunFolder, status: Status) -> list[str]:
    """What trainings that have not ended do: a line for each that runs, and one for those of a trial that wait."""
    lines, waiting = [], Counter[str]()
    live = {known.key: known for known in (read_live(folder) or [] if status.holder else [])}
    for training in status.left:
        own = live.get((training.record.trial_id, training.run))
        doing = _state_of(folder, training, status) + ("" if own is None else _place(own))
        if doing == "waits" and len(training.record.trainings) > 1:
            waiting[training.record.trial_id] += 1
        else:
            lines.append(f"{training.label} {doing}")
    return lines + [f"{name}: {count} training{'s wait' if count > 1 else ' waits'}" for name, count in waiting.items()]


def _place(own: RunningTraining) -> str:
    """Where a training runs, and how far it is."""
    if own.host is None:
        return ""
    return f" on {own.host}, epoch {own.epoch}" + (f" ({own.stage})" if own.stage else "")


def _state_of(folder: RunFolder, training: Training, status: Status) -> str:
    """Whether a training runs or waits, and in which attempt."""
    states = folder.states / training.name
    try:
        number = attempts(states)
        begun = status.holder and host_of(states, number) is not None
    except OSError:  # the store does not answer, or refuses access
        return "is open"
    return f"{'runs' if begun else 'waits'}{f', attempt {number}' if number > 1 else ''}"


def print_left_out(console: Console, frame: pd.DataFrame, folder: RunFolder) -> None:
    """Print what races left out of a sweep, given its rows of ``trials.parquet``."""
    text = left_out(frame, folder.spec())
    if text is not None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_reading_notes(console: Console, folder: RunFolder) -> None:
    """Print the warnings that belong to a sweep's figures."""
    for note in reading_notes(folder):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
