"""A progress bar for images that are decoded."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainers.data.progress import listening


@contextmanager
def decoding_shown(console: Console) -> Iterator[None]:
    """Show how many images are decoded, while data is loaded; only on a terminal."""
    if not console.is_terminal:
        yield
        return
    columns = TextColumn("Decoding images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", visible=False)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        with listening(show):
            yield
