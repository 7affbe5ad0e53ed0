"""Losses of made-up settings: laws under which a certificate is false, and populations of good and bad settings."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Losses = npt.NDArray[np.float64]
Shape = tuple[int, ...]
NullLaw = Callable[[np.random.Generator, float, Shape], Losses]
"""Draws losses whose mean is at least the bound, given those before them along the last axis."""

GOOD = 1 / 41
"""Mean loss of a setting that does not fail: its losses are Beta(1, 40)."""
TYPES = (0.0, 0.01, 0.05, 0.4)
"""Shares of failures of the settings of a search, which are equally many."""
SEARCH_SEEDS = 3


def failing(rng: np.random.Generator, share: float | Losses, shape: Shape) -> Losses:
    """Losses of a setting that fails, with loss 1, in a share of its replicates; the others are Beta(1, 40)."""
    return np.where(rng.random(shape) < share, 1.0, rng.beta(1, 40, shape))


def mean_of(share: float | Losses) -> float | Losses:
    """Mean loss of :func:`failing`."""
    return share + (1 - share) * GOOD


def share_of(mean: float) -> float:
    """The share of failures with which :func:`failing` has this mean."""
    return (mean - GOOD) / (1 - GOOD)


def bernoulli(rng: np.random.Generator, mean: float, shape: Shape) -> Losses:
    """Losses 0 and 1."""
    return (rng.random(shape) < mean).astype(float)


def uniform(rng: np.random.Generator, mean: float, shape: Shape) -> Losses:
    """Losses between 0 and twice the mean."""
    return rng.uniform(0, 2 * mean, shape)


def alternating(rng: np.random.Generator, mean: float, shape: Shape) -> Losses:
    """Bernoulli and uniform in turns."""
    return np.where(np.arange(shape[-1]) % 2 == 0, bernoulli(rng, mean, shape), uniform(rng, mean, shape))


def of_the_past(rng: np.random.Generator, mean: float, shape: Shape) -> Losses:
    """Bernoulli while the losses before have a lower mean; else 0 or 2.2 times the mean, with equal chances."""
    losses, draws, total = np.empty(shape), rng.random(shape), np.zeros(shape[:-1])
    for n in range(shape[-1]):
        low = total <= n * mean
        losses[..., n] = np.where(low, draws[..., n] < mean, 2.2 * mean * (draws[..., n] < 0.5))
        total += losses[..., n]
    return losses


NULLS: dict[str, NullLaw] = {
    "Bernoulli": bernoulli,
    "failures and Beta, mean a": lambda rng, mean, shape: failing(rng, share_of(mean), shape),
    "failures and Beta, mean 1.05 a": lambda rng, mean, shape: failing(rng, share_of(1.05 * mean), shape),
    "uniform": uniform,
    "alternating": alternating,
    "depends on the past": of_the_past,
}


def shares(population: str, rng: np.random.Generator, bound: float, sweeps: int, candidates: int) -> Losses:
    """The share of failures of each candidate of each sweep, the first candidate to be tested first.

    Args:
        population: ``all good``, ``first half bad`` (40% failures; 2 of 3), ``only last good`` (the others: 40%),
            ``trap`` (the first half has a mean of exactly the bound, the others 1% failures) or ``search`` (of
            :data:`TYPES`, as often as the mean loss of three seeds keeps the bound).
        rng: draws the last.
        bound: on the mean loss.
        sweeps: how many.
        candidates: of each.

    Returns:
        Shares (sweeps, candidates).
    """
    if population == "search":
        pool = rng.choice(TYPES, 20 * sweeps * candidates)
        kept = pool[failing(rng, pool[:, None], (len(pool), SEARCH_SEEDS)).mean(axis=1) <= bound]
        return kept[: sweeps * candidates].reshape(sweeps, candidates)
    half, number = (candidates + 1) // 2, np.arange(candidates)
    known = {
        "all good": np.zeros(candidates),
        "first half bad": np.where(number < half, 0.4, 0.0),
        "only last good": np.where(number < candidates - 1, 0.4, 0.0),
        "trap": np.where(number < half, share_of(bound), 0.01),
    }
    return np.tile(known[population], (sweeps, 1))
