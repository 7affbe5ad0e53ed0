"""Bounded unlearning: gradient ascent on samples that are to be forgotten, up to a ceiling of their loss."""

from torch import Tensor


def bounded_ascent(losses: Tensor, ceiling: float) -> Tensor:
    """Loss whose descent is ascent on ``losses`` up to a ceiling: ``-mean(min(l, ceiling))``.

    A sample whose loss has reached the ceiling has no gradient any more. Without a bound the ascent would end in NaN,
    since cross-entropy has no maximum; the bound is an interpretation of how ABL and DLP keep the ascent in check.

    Args:
        losses: float (N,), loss of each sample; an empty tensor gives 0.
        ceiling: above 0.

    Returns:
        float scalar.
    """
    return -losses.clamp_max(ceiling).mean() if len(losses) else losses.sum()
