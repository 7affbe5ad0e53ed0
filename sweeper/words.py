"""Figures as people read them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd


def spread(row: Mapping[str, Any], name: str) -> str:
    """A mean with its standard deviation over seeds, where there is one: ``0.912 ± 0.004``."""
    deviation = row.get(f"{name}_sd")
    return format_cell(row[name]) + ("" if deviation is None else f" ± {deviation:.3f}")


def parameter(value: Any) -> str:
    """A parameter's value, a number with four significant digits: it may be a small learning rate."""
    return f"{value:.4g}" if isinstance(value, float) and not pd.isna(value) else format_cell(value)


def format_cell(value: Any) -> str:
    """A figure or word as tables show it; a null is a dash."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
