"""Formats figures and commands for people to read."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

NAMED = 10
"""Of what is missing, how much is named."""


def spread(row: Mapping[str, Any], name: str) -> str:
    """A mean with its standard deviation over seeds, where there is one: ``0.912 ± 0.004``."""
    deviation = row.get(f"{name}_sd")
    return format_cell(row[name]) + ("" if deviation is None else f" ± {deviation:.3f}")


def parameter(value: Any) -> str:
    """A parameter's value as text: numbers have four significant digits, since a learning rate may be small."""
    return f"{value:.4g}" if isinstance(value, float) and not pd.isna(value) else format_cell(value)


def format_cell(value: Any) -> str:
    """A table's cell as text: numbers have three decimals, null is a dash."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def lacking(names: Sequence[str], path: Path) -> str:
    """What MLflow lacks of a sweep, and the command that sends it.

    Args:
        names: ids of trials, and the sweep's own run.
        path: the run folder.
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"MLflow lacks {', '.join(names[:NAMED])}{more}; to send what is missing: {command('track', path)}"


def command(name: str, path: Path, **options: float | str | None) -> str:
    """A command of this program as a shell reads it: ``sweeper confirm 'my runs/a' --max-excess 0.1``.

    Args:
        name: of the command.
        path: what it works on.
        options: by name, in the order in which they are written; a null is left out.
    """
    words = ["sweeper", name, str(path)]
    for key, value in options.items():
        if value is not None:
            words += [f"--{key.replace('_', '-')}", value if isinstance(value, str) else f"{value:.15g}"]
    return shlex.join(words)
