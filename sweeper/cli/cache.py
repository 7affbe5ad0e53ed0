"""The command ``cache``: the decoded images that all trainings of a host share."""

import math
from datetime import datetime
from typing import Annotated

import typer

from sweeper.cli.screen import console, one_sentence, say

app = typer.Typer()


@app.command(name="cache")
def cache_(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all files that no process has open.")] = False,
    limit: Annotated[
        float | None,
        typer.Option(
            metavar="GIB", min=0, help="Most that all files may take from now on; those unused for longest are removed."
        ),
    ] = None,
) -> None:
    """List the files of decoded images on this host, or remove them; they are made again when they are needed."""
    from rich.table import Table

    from trainers.data.cache_folder import CacheFolder
    from trainers.data.memory import GIB, sized
    from trainers.errors import ConfigError

    folder = CacheFolder.of_this_host()
    with one_sentence():
        if limit is not None:
            if not math.isfinite(limit * GIB):
                raise ConfigError(f"--limit must be a number of GiB, but got {limit:g}.")
            folder.set_limit(round(limit * GIB))
        if clear:
            gone, open_, failed = folder.clear()
            say(f"Removed {_files(len(gone))} of {sized(sum(kept.nbytes for kept in gone))}.")
            if open_:
                say(f"{_files(len(open_))} in use: not removed.")
            for path, reason in failed.items():
                say(f"{path} could not be removed: {reason}.")
    files = folder.kept()
    if files:
        table = Table("images", "size", "last used")
        for kept in reversed(files):
            table.add_row(kept.shown(), sized(kept.nbytes), f"{datetime.fromtimestamp(kept.used):%Y-%m-%d %H:%M}")
        console.print(table)
    say(f"{folder.path}: {_files(len(files))}, {sized(sum(kept.nbytes for kept in files))} of {sized(folder.limit)}.")


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"
