"""What all commands share: where they print, and how they refuse."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from search_spaces.loader import PresetError
from sweeper.errors import SweepBroken
from trainers.errors import ConfigError

ALL_FAILED = BROKEN = 1
BAD_INPUT, NOTHING_QUALIFIES = 2, 3
"""Exit codes."""

# A file or a pipe has no width; tables and lines are not to be cut for it.
console = Console(width=None if sys.stdout.isatty() else 200)
errors = Console(stderr=True, soft_wrap=True)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what the user can mend into one sentence and exit code 2."""
    try:
        yield
    except (ConfigError, PresetError) as error:
        complain(str(error))
        raise typer.Exit(BAD_INPUT) from error
    except SweepBroken as error:
        complain(f"{error} What was written before is whole; sweeper resume goes on from it.")
        raise typer.Exit(BROKEN) from error


def say(text: str) -> None:
    """A line, whole however narrow the screen is: paths and commands are to be copied."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """A line to standard error."""
    errors.print(text, markup=False, highlight=False)
