"""Bounds on the mean of losses in [0, 1], by betting: valid for any distribution, and whenever one stops to look.

A bettor who wagers against "the mean loss is at least m" multiplies wealth by 1 + bet (m - loss) with each loss. If the
statement is true, wealth is a nonnegative supermartingale that starts at 1, and ever reaches 1 / error with a
probability of at most the error (Ville's inequality). Losses need not have equal distributions: it suffices that each
has a mean of at least m, given the past.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 2024, arXiv
2010.09686). That one fixed bet at 0.9 of the largest does as well as adaptive ones with as few losses as trainings
allow was found by simulation.
"""

from collections.abc import Sequence
from math import ceil, log

import numpy as np
import numpy.typing as npt

BET = 0.9
"""The bet, as a share of the largest one that no loss can ruin, 1 / (1 - mean)."""

MIRROR_BETS = (0.9, 0.5, 0.2)
"""Bets for the opposite statement, as shares of the largest one, 1 / mean; wealth is the mean over them."""

_STEPS = 50
"""Halvings when a bound is searched: to 1e-15, and still below 1, where bets have no end."""

Losses = Sequence[float] | npt.NDArray[np.float64]


def growth(loss: float, mean: float) -> float:
    """The factor by which one loss multiplies wealth against "the mean loss is at least ``mean``".

    Args:
        loss: in [0, 1].
        mean: in (0, 1).
    """
    return 1 + BET / (1 - mean) * (mean - loss)


def wealth(losses: Losses, mean: float) -> float:
    """Wealth against "the mean loss is at least ``mean``" after these losses, in any order; 1 before any.

    Args:
        losses: each in [0, 1].
        mean: in (0, 1).
    """
    return float(np.prod(1 + BET / (1 - mean) * (mean - np.asarray(losses, float))))


def mirrored(wealth: Sequence[float], loss: float, mean: float) -> list[float]:
    """Wealth against the opposite, "the mean loss is at most ``mean``", after one more loss, by bet; 1 each before any.

    Args:
        wealth: of each of :data:`MIRROR_BETS`, before the loss. The evidence is the mean over them.
        loss: in [0, 1].
        mean: in (0, 1).
    """
    over = (loss - mean) / mean
    return [own * (1 + bet * over) for own, bet in zip(wealth, MIRROR_BETS, strict=True)]


def fewest(mean: float, error: float) -> int:
    """Losses needed to refute "the mean loss is at least ``mean``" if each of them is 0.

    Args:
        mean: in (0, 1).
        error: in (0, 1).
    """
    return max(ceil(log(1 / error) / log(growth(0.0, mean)) - 1e-9), 1)


def mean_upper(losses: Losses, error: float) -> float:
    """Upper bound of the mean loss: the least mean that wealth has refuted at any time so far.

    It is valid after every loss at once, so that one may look at any time, and stop (a confidence sequence).

    Args:
        losses: each in [0, 1], in the order in which they came; may be empty.
        error: probability, at most, with which the bound is ever below the mean; in (0, 1).
    """
    values = np.asarray(losses, float)
    low, high = 0.0, 1.0
    for _ in range(_STEPS if len(values) else 0):
        middle = (low + high) / 2
        refuted = np.cumsum(np.log1p(BET / (1 - middle) * (middle - values))).max() >= log(1 / error)
        low, high = (low, middle) if refuted else (middle, high)
    return high


def exceedance_upper(losses: Losses, bound: float, error: float) -> float:
    """Upper bound of the share of further losses that exceed ``bound``, valid after every loss at once.

    It is :func:`mean_upper` of whether each loss exceeds it: a claim on the next loss, where the other is one on their
    mean. Neither follows from the other.

    Args:
        losses: each in [0, 1], in the order in which they came; may be empty.
        bound: that a loss should not exceed.
        error: probability, at most, with which the bound is ever below the share; in (0, 1).
    """
    return mean_upper((np.asarray(losses, float) > bound).astype(float), error)
