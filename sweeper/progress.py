"""What a person sees while a sweep runs."""

from collections.abc import Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sweeper.records import FAILED, FINISHED, PRUNED, TrialRecord


class Display(Protocol):
    """Shows a sweep's progress."""

    def trial_started(self, record: TrialRecord) -> None:
        """A trial or control starts."""

    def epoch_ended(self, record: TrialRecord) -> None:
        """One more epoch of it is trained."""

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """It ended; ``rows`` are its figures."""

    def close(self) -> None:
        """The sweep is over."""


def describe(record: TrialRecord, rows: Sequence[dict[str, Any]]) -> str:
    """One line on an ended trial: settings that were searched, and figures."""
    head = f"{record.trial_id} {record.status}"
    if record.role == "control":
        head += f" control of {rows[0]['scenario']} at rate {rows[0]['poison_rate']:g}, seed {rows[0]['seed']}"
    settings = " ".join(f"{name}={_short(value)}" for name, value in record.searched.items())
    if record.status == FINISHED:
        figures = [f"{row['scenario']}: {_figures(row)}" for row in rows]
        settings += ("  " if settings else "") + "; ".join(figures)
    return f"{head}  {settings}" + (f"  ({record.error})" if record.error else "")


def _figures(row: dict[str, Any]) -> str:
    shown = {"acc": row["val_acc"], "asr": row["val_asr"], "floor": row["asr_floor"]}
    return " ".join(f"{name} {value:.3f}" for name, value in shown.items() if value is not None)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class LiveDisplay:
    """A progress bar over the trials, and a line for each that ended. Without a terminal, only the lines.

    Args:
        console: where to write.
        budget: trials of the sweep, controls not counted.
    """

    def __init__(self, console: Console, budget: int):
        self._console = console
        self._counts = dict.fromkeys((FINISHED, PRUNED, FAILED), 0)
        self._running: dict[str, int] = {}
        self._progress: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=console)
            self._task = self._progress.add_task("starting", total=budget)
            self._progress.start()

    def trial_started(self, record: TrialRecord) -> None:
        """A trial or control starts."""
        self._running[record.trial_id] = 0
        self._refresh()

    def epoch_ended(self, record: TrialRecord) -> None:
        """One more epoch of it is trained."""
        self._running[record.trial_id] = sum(len(epochs) for epochs in record.epochs.values())
        self._refresh()

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """It ended; ``rows`` are its figures."""
        self._running.pop(record.trial_id, None)
        self._console.print(describe(record, rows), markup=False, highlight=False)
        if record.role == "trial":
            self._counts[record.status] += 1
        self._refresh()

    def close(self) -> None:
        """The sweep is over."""
        if self._progress is not None:
            self._progress.stop()

    def _refresh(self) -> None:
        if self._progress is None:
            return
        running = ", ".join(f"{name} epoch {epoch}" for name, epoch in self._running.items()) or "waiting"
        failed = f", {self._counts[FAILED]} failed" if self._counts[FAILED] else ""
        self._progress.update(self._task, description=running + failed, completed=sum(self._counts.values()))
