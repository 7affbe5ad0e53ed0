"""The display of a running sweep: a follower of its ledger."""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from sweeper.preset.class_numbers import CLASS_KEYS
from sweeper.preset.objectives import Constraint, Objective
from sweeper.run_folder.record import (
    CONFIRMATION,
    CONTROL,
    FAILED,
    FINISHED,
    PRUNED,
    REPLICATE,
    TRIAL,
    TrialRecord,
    control_success,
)
from sweeper.running.so_far import Levels, Spent
from sweeper.words import parameter
from trainers.data.class_names import class_label

MOST_NAMED = 4
"""Trainings that are named on the line of what runs."""


def describe(record: TrialRecord, rows: Sequence[dict[str, Any]], class_names: Sequence[str] = ()) -> str:
    """One line on an ended trial: settings that were searched, and figures.

    Args:
        record: of the trial.
        rows: of ``trials.parquet``.
        class_names: of the data; empty if they are not known.
    """
    head = f"{record.trial_id} {'interrupted' if record.open else record.status}"
    if record.role == CONTROL:
        head += f" control of {rows[0]['scenario']} at rate {rows[0]['poison_rate']:g}, "
        if rows[0]["target"] is not None:
            head += f"target {class_label(rows[0]['target'], class_names)}, "
        head += f"seed {rows[0]['seed']}" + (", a weak attack" if rows[0]["weak_attack"] else "")
    if record.role == CONFIRMATION and record.config is not None:
        seeds = ", ".join(map(str, record.config.repeats))
        head += f" {record.config.defense} {record.config_id} again, seed {seeds}"
    settings = " ".join(f"{name}={_shown(name, value, class_names)}" for name, value in record.searched.items())
    if record.status == FINISHED or record.raced_out:
        figures = [f"{row['scenario']}: {_figures(row)}" for row in rows if row["status"] == FINISHED]
        settings += ("  " if settings else "") + "; ".join(figures)
    return f"{head}  {settings}" + (f"  ({record.error})" if record.error else "")


def _shown(name: str, value: Any, class_names: Sequence[str]) -> str:
    """The value of a searched parameter, by its name in the study."""
    if name.rpartition(".")[2] in CLASS_KEYS and isinstance(value, int):
        return class_label(value, class_names)
    return parameter(value)


def _figures(row: dict[str, Any]) -> str:
    shown = {"acc": row["val_acc"], "asr": row["val_asr"], "floor": row["asr_floor"]}
    return " ".join(f"{name} {value:.3f}" for name, value in shown.items() if value is not None)


class _ThreeLines(Progress):
    """A bar with two lines below it, each cut at the width of the terminal."""

    frontier = doing = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The three lines."""
        yield self.make_tasks_table(self.tasks)
        for text in (self.frontier, self.doing):
            yield Text(text, no_wrap=True, overflow="ellipsis")


class LiveDisplay:
    """A line for each trial that ended, and on a terminal three lines below them that stay: a bar over the trials, the
    frontier so far, and what runs where. Without a terminal, lines tell of the trainings of open trials too.

    Args:
        console: where to write.
        objectives: of the sweep; the best value so far of each is shown separately.
        constraints: what a trial must keep to count for the best values.
        budget: trials of the sweep, controls not counted.
        records: of an earlier part of the sweep.
        class_names: of the data.
    """

    def __init__(
        self,
        console: Console,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint],
        budget: int,
        records: Collection[TrialRecord] = (),
        class_names: Sequence[str] = (),
    ):
        self._console = console
        self._class_names = class_names
        self._objectives, self._constraints = objectives, constraints
        self._budget = budget
        self._counts = dict.fromkeys((FINISHED, PRUNED, FAILED), 0)
        self._counted: set[str] = set()
        self._not_needed = 0
        """Trainings that did not run, since their trials had left their races."""
        self._open: dict[str, TrialRecord] = {}
        self._finished: dict[str, int] = {}
        """By open trial: trainings that have finished, as last shown."""
        self._ended = 0
        """Trainings of trials that have ended, those included that did not run."""
        self._each = 1
        """Trainings of a trial."""
        self._best: dict[str, float] = {}
        self._levels = Levels(objectives)
        self._spent = Spent()
        self._progress: _ThreeLines | None = None
        controls = control_success(records)
        for record in records:
            rows = record.rows(controls)
            self._spent.add(record, rows)
            if record.role not in (CONTROL, REPLICATE) and not record.open:
                self._count(record, rows)
        self._ended_before = self._ended
        self._began: float | None = None
        """When the first training of a trial began; controls come before."""
        if console.is_terminal:
            columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._progress = _ThreeLines(*columns, console=console)
            self._task = self._progress.add_task("trials", total=budget)

    def trial_changed(self, record: TrialRecord) -> None:
        """Show that a training of a trial or control started or broke off."""
        self._open[record.trial_id] = record
        if record.role != CONTROL and self._began is None:
            self._began = time.monotonic()
        self._refresh()

    def epoch_ended(self, record: TrialRecord) -> None:
        """Show that a trial has trained one more epoch."""
        self._open[record.trial_id] = record
        self._refresh()

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """Print a line about an ended trial; ``rows`` are its rows of ``trials.parquet``."""
        self._open.pop(record.trial_id, None)
        self._finished.pop(record.trial_id, None)
        self._spent.add(record, rows)
        self._console.print(describe(record, rows, self._class_names), markup=False, highlight=False)
        if record.role != CONTROL and not record.open:
            self._count(record, rows)
            if self._progress is None:
                done = sum(self._counts.values())
                self._console.print(f"  {done} of {self._budget} done{self._summary()}", markup=False, highlight=False)
        self._refresh()

    def say(self, text: str) -> None:
        """Print a message that is not about the end of a trial."""
        self._console.print(text, markup=False, highlight=False)

    def __enter__(self) -> "LiveDisplay":
        """Start the bar."""
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the bar."""
        if self._progress is not None:
            self._progress.stop()

    def _count(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        if record.trial_id not in self._counted:
            self._counted.add(record.trial_id)
            self._counts[record.status] += 1
            self._each = max(self._each, len(record.trainings))
            self._ended += len(record.trainings) or self._each
            if record.status == PRUNED:  # it left its race, or was stopped early
                self._not_needed += sum(state.status != FINISHED for state in record.trainings.values())
        # Also when it is told again, since its control has ended only now.
        # Against an attack that fails without a defense, or is not known to work, every setting looks good.
        weak = any(row["weak_attack"] is not False for row in rows if row["poison_rate"])
        if (
            record.role != TRIAL
            or record.status != FINISHED
            or weak
            or any(c.violation(rows) > 0 for c in self._constraints)
        ):
            return
        self._levels.add(rows)
        for objective in self._objectives:
            value = objective.value(rows)
            if value is not None:
                better = max if objective.direction == "maximize" else min
                self._best[objective.metric] = better(value, self._best.get(objective.metric, value))

    def _summary(self) -> str:
        """Failures, trainings saved, the best figures so far, and the time left at the present pace."""
        parts = [f"{self._counts[FAILED]} failed"] if self._counts[FAILED] else []
        if self._not_needed:
            parts.append(f"{self._not_needed} trainings not needed")
        if self._best:
            parts.append(self._best_of_each())
        return "".join(f", {part}" for part in parts) + self._time_left()

    def _best_of_each(self) -> str:
        each = " of each" if len(self._objectives) > 1 else ""
        values = ", ".join(f"{name} {value:.3f}" for name, value in self._best.items())
        return f"best{each} so far: {values or '-'}"

    def _time_left(self) -> str:
        """The time left at the present pace, as the end of a sentence; empty if it is not known."""
        done, all_of_them = self._ended + sum(self._finished.values()), self._budget * self._each
        if self._began is None or not self._ended_before < done < all_of_them:
            return ""
        left = (time.monotonic() - self._began) / (done - self._ended_before) * (all_of_them - done)
        return f", about {left / 60:.0f} min left" if left >= 60 else ", less than a minute left"

    def _refresh(self) -> None:
        for name, record in self._open.items():
            finished = sum(state.status == FINISHED for state in record.trainings.values())
            if record.role != CONTROL and finished > self._finished.get(name, 0):
                self._each, self._finished[name] = max(self._each, len(record.trainings)), finished
                if self._progress is None and record.open:
                    text = f"  {name}: {finished} of {len(record.trainings)} trainings{self._time_left()}"
                    self._console.print(text, markup=False, highlight=False)
        if self._progress is None:
            return
        self._progress.frontier = self._levels.text or self._best_of_each().capitalize()
        self._progress.doing = self._doing()
        failed = f", {self._counts[FAILED]} failed" if self._counts[FAILED] else ""
        trainings = f"trials, {self._ended + sum(self._finished.values())} of {self._budget * self._each} trainings"
        description = trainings + failed + self._time_left()
        self._progress.update(self._task, description=description, completed=sum(self._counts.values()))

    def _doing(self) -> str:
        """What runs where, the races that are open, and what they have saved."""
        running = [
            (record.trial_id, state.host, record.final(run).get("epoch", 0))
            for record in self._open.values()
            for run, state in record.trainings.items()
            if run in record.running
        ]
        where = Counter(host for _, host, _ in running if host is not None)
        on = f" on {', '.join(f'{host} ({count})' for host, count in sorted(where.items()))}" if where else ""
        epochs = ", ".join(f"{name} epoch {epoch}" for name, _, epoch in running[:MOST_NAMED])
        more = f", {len(running) - MOST_NAMED} more" if len(running) > MOST_NAMED else ""
        parts = [f"{len(running)} running{on}", _many(len(self._open), "trial", "open")]
        if self._not_needed:
            parts.append(_many(self._not_needed, "training", "not needed"))
        if self._spent.hours_saved:
            parts.append(f"{self._spent.hours_saved:.2g} h saved")
        parts += [epochs + more] if running else []
        return "; ".join(parts)


def _many(count: int, noun: str, what: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)} {what}"
