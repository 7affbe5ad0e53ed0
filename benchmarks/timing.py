"""Timing of work, and Markdown tables."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

Work = Callable[[], int]
"""Work that can be timed: returns the number of images that it processed."""


def rate(work: Work, device: torch.device) -> float:
    """Images per second of one call of ``work``; waits for the device before and after."""
    _drain(device)
    start = time.perf_counter()
    images = work()
    _drain(device)
    return images / (time.perf_counter() - start)


def _drain(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spread(values: Sequence[float]) -> str:
    """Median, lowest and highest value as text: ``1,234 (1,200 to 1,250)``."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that a terminal shows well too: the first column to the left, the others to the right."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    return "\n".join(line(cells) for cells in (header, rule, *rows))
