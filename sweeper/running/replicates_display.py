"""The display of a running test: a follower of its ledger."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sweeper.run_folder.record import FINISHED, TrialRecord


class ReplicatesDisplay:
    """A line for each replicate that ended, and on a terminal a bar over the trainings that are needed at least.

    Args:
        console: where to write.
        metric: the figure that is bounded.
        names: of the settings, by ``config_id``.
        least: trainings that the test needs at least.
    """

    def __init__(self, console: Console, metric: str, names: dict[str, str], least: int):
        self._console = console
        self._metric = metric
        self._names = names
        self._open: dict[str, TrialRecord] = {}
        self._done = 0
        self._progress: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=console)
            self._task = self._progress.add_task("starting", total=least)

    def trial_changed(self, record: TrialRecord) -> None:
        """Show that a replicate started, or that a training of it broke off."""
        self._open[record.trial_id] = record
        self._refresh()

    def epoch_ended(self, record: TrialRecord) -> None:
        """Show that a replicate has trained one more epoch."""
        self._open[record.trial_id] = record
        self._refresh()

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """Print a line about an ended replicate; ``rows`` are its rows of ``trials.parquet``."""
        self._open.pop(record.trial_id, None)
        self._done += sum(row["status"] == FINISHED for row in rows)
        self._console.print(self._described(record, rows), markup=False, highlight=False, soft_wrap=True)
        self._refresh()

    def needs(self, least: int) -> None:
        """Show that the test needs this many more trainings at least."""
        if self._progress is not None:
            self._progress.update(self._task, total=self._done + least)

    def say(self, text: str) -> None:
        """Print a message that is not about the end of a replicate."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> "ReplicatesDisplay":
        """Start the bar."""
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the bar."""
        if self._progress is not None:
            self._progress.stop()

    def _described(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> str:
        name = self._names.get(record.config_id or "", record.config_id)
        status = "interrupted" if record.open else record.status
        figures = [
            f"{row['scenario']}: acc {_shown(row['test_acc'])} {self._metric} {_shown(row[self._metric])}"
            for row in rows
            if row["status"] == FINISHED
        ]
        seed = rows[0]["seed"] if rows else ""
        why = f"  ({record.error})" if record.error else ""
        return f"{record.trial_id} {status} {name}, seed {seed}  {'; '.join(figures)}{why}"

    def _refresh(self) -> None:
        if self._progress is not None:
            running = [
                f"{name} epoch {sum(map(len, record.epochs.values()))}"
                for name, record in self._open.items()
                if record.running
            ]
            self._progress.update(self._task, description=", ".join(running) or "waiting", completed=self._done)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
