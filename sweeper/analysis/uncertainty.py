"""How far figures can be trusted: aggregates over scenarios, a bootstrap over seeds, and upper bounds."""

from collections.abc import Callable, Sequence
from math import ceil, floor, sqrt
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

Over = Literal["worst", "mean", "cvar"]
"""How a figure of an attack is aggregated over scenarios: the worst, the mean, or the mean of the worst half."""

CVAR_SHARE = 0.5
"""Conditional value at risk here is the mean of the worst half of the scenarios, rounded up."""

LEAST_SEEDS = 3
"""Fewest seeds for a confidence bound: with fewer, a standard deviation means little."""

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


def student_upper(values: Sequence[float], confidence: float) -> float:
    """One-sided upper confidence bound of a mean by Student's t: mean + t(confidence, n - 1) s / sqrt(n).

    Args:
        values: at least two, one per seed.
        confidence: in (0, 1).
    """
    count = len(values)
    quantile = float(special.stdtrit(count - 1, confidence))
    return float(np.mean(values)) + quantile * float(np.std(values, ddof=1)) / sqrt(count)


def clopper_pearson_upper(hits: int, trials: int, confidence: float) -> float:
    """One-sided upper confidence bound of a share (Clopper and Pearson 1934): the share at which ``hits`` or fewer of
    ``trials`` have a probability of 1 - ``confidence``.
    """
    return 1.0 if hits >= trials else float(special.betaincinv(hits + 1, trials - hits, confidence))


def clopper_pearson_lower(hits: int, trials: int, confidence: float) -> float:
    """One-sided lower confidence bound of a share, likewise: the share at which ``hits`` or more of ``trials`` have a
    probability of 1 - ``confidence``.
    """
    return 1 - clopper_pearson_upper(trials - hits, trials, confidence)


def min_class_acc_lower(accuracies: Array, counts: Sequence[Sequence[tuple[int, int]]], confidence: float) -> float:
    """Lower bound of a setting's accuracy on its worst class: the smaller of Student's t over seeds, and of Clopper and
    Pearson's over the images of each class in the worst seed.

    Each seed's figure is that of its worst scenario. With enough images a class has a bound near its accuracy; one with
    few images has a low bound, however well they are classified, and one without an image has the bound 0.

    Args:
        accuracies: on the worst class, by seed and scenario, float (S, C), nothing missing.
        counts: for each seed, of all its scenarios: images of a class classified rightly, and images of it.
        confidence: in (0, 1).
    """
    by_seed = accuracies.min(axis=1)
    of_classes = [clopper_pearson_lower(right, n, confidence) for right, n in counts[int(by_seed.argmin())]]
    return max(min(1 - student_upper((1 - by_seed).tolist(), confidence), *of_classes), 0.0)


def may_fail(seeds: int, confidence: float) -> float:
    """Largest share of trainings that may be worse than all of ``seeds`` trainings, at a confidence.

    With this share, ``seeds`` trainings include no worse one with a probability of 1 - ``confidence``. It holds for any
    distribution.
    """
    return float(1 - (1 - confidence) ** (1 / seeds))


def asr_upper(asr: Array, images: Array, over: Over, confidence: float) -> float:
    """Upper bound of a setting's attack success: the larger of Student's t over seeds, and Clopper-Pearson over the
    images of the worst seed.

    The first covers other trainings, the second other images. Each seed's figure is aggregated over scenarios first;
    the mean of these worst cases (or worst parts) is at least the worst case of the means, so the bound covers that
    too. Student's t assumes a normal distribution over seeds; :func:`may_fail` does not.

    Args:
        asr: by seed and scenario, float (S, C), nothing missing.
        images: triggered images behind each figure, int (S, C).
        over: how attack success is aggregated over scenarios.
        confidence: in (0, 1).
    """
    by_seed = over_scenarios(asr, over)
    worst = int(by_seed.argmax())
    scenarios = np.argsort(-asr[worst], kind="stable")[: how_many(over, asr.shape[1])]
    # All scenarios trigger the same images, so several are no more evidence than the one with the fewest images.
    shown = int(images[worst, scenarios].min())
    hits = ceil(by_seed[worst] * shown - 1e-9)
    bound = max(student_upper(by_seed.tolist(), confidence), clopper_pearson_upper(hits, shown, confidence))
    return min(bound, 1.0)  # Student's t may exceed 1


def excess_upper(added: Array, asr: Array, images: Array, over: Over, confidence: float) -> float:
    """Upper bound of what the trigger adds: the larger of Student's t over seeds, likewise, and of a bound over the
    images.

    The second is made for each scenario and seed, aggregated over scenarios, and that of the seed with the highest
    counts. It is the upper bound of attack success less the lower bound of the floor (both Clopper-Pearson), each at
    half the error, 1 - (1 - ``confidence``) / 2, so that both hold at once. It is too wide rather than too narrow,
    since both shares are measured on the same images. A difference is known less well the nearer its shares are to a
    half, so the bound may be highest where the excess is not. Where attack success is below the floor, and the excess
    0, the floor counts as attack success.

    Args:
        added: the excess by seed and scenario, float (S, C), nothing missing.
        asr: attack success, likewise.
        images: triggered images behind each figure, int (S, C).
        over: how the excess is aggregated over scenarios.
        confidence: in (0, 1).
    """
    each = 1 - (1 - confidence) / 2

    def of_images(excess: float, success: float, shown: int) -> float:
        highest = clopper_pearson_upper(ceil(success * shown - 1e-9), shown, each)
        return highest - clopper_pearson_lower(floor((success - excess) * shown + 1e-9), shown, each)

    by_images = over_scenarios(np.vectorize(of_images, otypes=[float])(added, asr, images), over)
    by_seeds = student_upper(over_scenarios(added, over).tolist(), confidence)
    return min(max(by_seeds, float(by_images.max())), 1.0)
