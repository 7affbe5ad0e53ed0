"""Formats figures for people to read."""

from collections.abc import Mapping
from typing import Any

import pandas as pd


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
