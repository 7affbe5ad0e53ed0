"""Bounded unlearning: gradient ascent on samples that are to be forgotten, which ends where they are."""

from torch import Tensor


def bounded_ascent(losses: Tensor, ceiling: float) -> Tensor:
    """A loss whose descent is ascent on the given ones: ``-mean(min(l, ceiling))``.

    A sample whose loss has reached the ceiling has no gradient any more. Unbounded, the ascent would end in NaN, since
    cross-entropy has no highest value; the bound is an interpretation of what ABL and DLP call keeping it in check.

    Args:
        losses: float (N,), of each sample; empty ones give 0.
        ceiling: above 0.

    Returns:
        float scalar.
    """
    return -losses.clamp_max(ceiling).mean() if len(losses) else losses.sum()
