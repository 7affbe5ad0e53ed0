"""Spread of figures: aggregates over scenarios, and a bootstrap over seeds."""

from collections.abc import Callable
from math import ceil
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Over = Literal["worst", "mean", "cvar"]
"""How a figure of an attack is aggregated over scenarios: the worst, the mean, or the mean of the worst half."""

CVAR_SHARE = 0.5
"""Conditional value at risk here is the mean of the worst half of the scenarios, rounded up."""

Array = npt.NDArray[Any]


def how_many(over: Over, scenarios: int) -> int:
    """The number of scenarios that count, the worst first."""
    return {"worst": min(1, scenarios), "cvar": ceil(CVAR_SHARE * scenarios), "mean": scenarios}[over]


def over_scenarios(figure: Array, over: Over) -> Array:
    """Aggregate over the last axis: float (..., C) to (...). Scenarios without the figure (NaN) do not count."""
    ordered = -np.sort(-figure, axis=-1)  # NaN comes last
    known = (~np.isnan(figure)).sum(axis=-1)
    limit = np.array([how_many(over, n) for n in range(figure.shape[-1] + 1)])[known]
    counts = np.arange(figure.shape[-1]) < limit[..., None]
    total = np.where(counts, ordered, 0.0).sum(axis=-1)
    return np.where(limit > 0, total / np.maximum(limit, 1), np.nan)


def bootstrap(
    acc: Array,
    added: Array,
    usable: Array,
    over: Over,
    resamples: int,
    interval: tuple[float, float],
    frontier: Callable[[Array, Array], Array],
) -> Array:
    """Bootstrap over seeds, drawn with replacement, the same ones for all settings.

    An interval from few seeds, such as three, is too narrow: it shows the spread, and proves nothing.

    Args:
        acc: accuracy of K settings with S seeds in C scenarios, float (K, S, C); NaN where missing.
        added: what the trigger adds, likewise.
        usable: bool (K,), settings that may be on the frontier.
        over: how the second figure is aggregated over scenarios.
        resamples: how often to draw.
        interval: quantiles of the low and the high end.
        frontier: gets both figures, float (M,) each; returns which are on the frontier, bool (M,).

    Returns:
        Float (K, 5): low and high end of accuracy, low and high end of what the trigger adds, and the share of the
        samples whose frontier holds the setting.
    """
    settings, seeds, _ = acc.shape
    random = np.random.default_rng(0)
    draws = random.integers(seeds, size=(resamples, seeds))
    # Few seeds give few different draws; each is evaluated once.
    drawn, times = np.unique([np.bincount(draw, minlength=seeds) for draw in draws], axis=0, return_counts=True)
    accs, excesses = np.empty((len(drawn), settings)), np.empty((len(drawn), settings))
    held = np.zeros(settings)
    for number, (weights, count) in enumerate(zip(drawn, times, strict=True)):
        accs[number] = over_scenarios(_weighted(acc, weights), "mean")
        excesses[number] = over_scenarios(_weighted(added, weights), over)
        there = np.flatnonzero(usable & ~np.isnan(accs[number]) & ~np.isnan(excesses[number]))
        held[there[frontier(accs[number, there], excesses[number, there])]] += count
    ends = [_quantile(values, times, q) for values in (accs, excesses) for q in interval]
    return np.column_stack([*ends, np.where(usable, held / resamples, np.nan)])


def _weighted(cube: Array, weights: Array) -> Array:
    """Mean over seeds (axis 1) with these weights; NaN where no seed that was drawn has the figure."""
    known = ~np.isnan(cube)
    total = np.einsum("ksc,s->kc", np.where(known, cube, 0.0), weights)
    count = np.einsum("ksc,s->kc", known.astype(float), weights)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _quantile(values: Array, times: Array, q: float) -> Array:
    """Quantile over the first axis, where a row counts as ``times`` samples; NaN where any row is NaN."""
    order = values.argsort(axis=0)
    share = times[order].cumsum(axis=0) / times.sum()
    first = (share >= q - 1e-12).argmax(axis=0)
    quantiles = np.take_along_axis(values, np.take_along_axis(order, first[None], axis=0), axis=0)[0]
    return np.where(np.isnan(values).any(axis=0), np.nan, quantiles)
