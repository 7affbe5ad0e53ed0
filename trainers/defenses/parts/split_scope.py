"""Among which samples scores are compared: all of them, as in the papers, or those of the same given label.

The second is an extension. Where classes are of unequal size, a large class is learned first, and all of its samples
look as certain as poisoned ones: compared over the whole set, the whole class may be taken for suspicious. Compared
within each given label, every class keeps a part. It has a price: samples are taken for suspicious in every class, also
in those without any poison; and where the poison all sits in one label, a fixed share of each label (a rate) lets most
of it through. Entropies or losses normalised within each label leave the size of that share open.
"""

import torch
from torch import Tensor

from trainers.defenses.parts.entropy import normalise

SCOPES = ("set", "class")
"""Scores are compared over the whole set, or within each given label."""
SCOPE_DOC = (
    "where scores are compared: over the whole training set (set; paper), or within each given label (class; ours)"
)


def normalise_within(scores: Tensor, labels: Tensor) -> Tensor:
    """Min-max within each given label, to [0, 1]: float (N,).

    A label with a single sample, or whose scores are all equal, says nothing by itself: its samples keep their place
    between the lowest and the highest score of the whole set.

    Args:
        scores: float (N,), finite.
        labels: int64 (N,), as they were handed over.
    """
    low, high = (
        torch.full((int(labels.max()) + 1,), start, dtype=scores.dtype, device=scores.device).scatter_reduce(
            0, labels, scores, reduce
        )[labels]
        for start, reduce in ((torch.inf, "amin"), (-torch.inf, "amax"))
    )
    spread = high - low
    within = (scores - low) / spread.clamp_min(torch.finfo(scores.dtype).tiny)
    return torch.where(spread > 0, within, normalise(scores))


def rank_within(scores: Tensor, labels: Tensor) -> Tensor:
    """The rank of each score among the n of its given label, as ``(rank + 1/2) / n`` with ranks from 0: float (N,).

    The lowest share of these is about that share of each label, and of a label of which it is less than half a sample,
    none. Ties are ranked by order.

    Args:
        scores: float (N,), finite.
        labels: int64 (N,), as they were handed over.
    """
    by_score = scores.argsort(stable=True)
    order = by_score[labels[by_score].argsort(stable=True)]
    counts = torch.bincount(labels)
    first = counts.cumsum(0) - counts
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device) - first[labels[order]]
    return (ranks.to(scores.dtype) + 0.5) / counts[labels]
