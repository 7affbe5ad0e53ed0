"""Learning rates as functions of epoch and step, so that a state need not hold a schedule."""

import math


def cosine(lr: float, epoch: float, epochs: int) -> float:
    """Learning rate of ``epoch`` on half a cosine, from ``lr`` at epoch 0 to 0 after ``epochs``."""
    return lr * (1 + math.cos(math.pi * epoch / epochs)) / 2


def warmup(step: int, steps: int) -> float:
    """Factor of the rate at ``step``, from 0: it rises linearly from ``1 / steps`` to 1 at the last of ``steps``."""
    return min((step + 1) / steps, 1.0) if steps else 1.0
