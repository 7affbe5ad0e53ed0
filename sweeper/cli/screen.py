"""Output of all commands: consoles, exit codes and error messages."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from search_spaces.loader import PresetError
from sweeper.run_folder.errors import SweepBroken, SweepInterrupted
from trainers.errors import ConfigError
from trainers.text import printable

ALL_FAILED = BROKEN = 1
BAD_INPUT, NOTHING_QUALIFIES = 2, 3
"""Exit codes."""

# A file or a pipe has no width, nor has output that is closed (null); it gets a large one, so that tables are not cut.
# Names and errors may come from other people's data: they must not be read as markup.
console = Console(width=None if sys.stdout is not None and sys.stdout.isatty() else 200, markup=False)
errors = Console(stderr=True, soft_wrap=True, markup=False)

LONGEST = 2000
"""Most characters of an error message: the input that it quotes may be of any length."""


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn an error that the user can fix into one sentence and exit code 2."""
    try:
        yield
    except (ConfigError, PresetError) as error:
        complain(str(error))
        raise typer.Exit(BAD_INPUT) from error
    except SweepBroken as error:
        complain(f"{error} Everything written before is intact; sweeper resume continues from it.")
        raise typer.Exit(BROKEN) from error
    except SweepInterrupted as error:
        complain(str(error))
        raise typer.Exit(0 if error.finished else ALL_FAILED) from error


def say(text: str) -> None:
    """Print a line without breaking it, so that paths and commands can be copied."""
    console.print(printable(text), highlight=False, soft_wrap=True)


def say_where_programs_are() -> None:
    """Print how to extend PATH, if the shell would not find ``sweeper``."""
    programs = Path(sys.executable).parent
    if shutil.which("sweeper") is None and (programs / "sweeper").exists():
        folder = Path.cwd()
        shown = f"$PWD/{programs.relative_to(folder)}" if programs.is_relative_to(folder) else programs
        say(f"To let the shell find sweeper: export PATH={shown}:$PATH")


def complain(text: str) -> None:
    """Print a line to standard error."""
    errors.print(printable(text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."), highlight=False)
