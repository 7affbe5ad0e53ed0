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


_TELLING = 1e-6
"""Share of the spread of the whole set up to which the spread of a label is rounding."""


def normalise_within(scores: Tensor, labels: Tensor) -> Tensor:
    """Min-max within each given label, to [0, 1]: float (N,).

    A label with a single sample, or whose scores are all equal but for rounding, says nothing by itself: its samples
    keep their place between the lowest and the highest score of the whole set.

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
    return torch.where(spread > _TELLING * (scores.max() - scores.min()), within, normalise(scores))


def rank_within(scores: Tensor, labels: Tensor) -> Tensor:
    """The place of each sample, from 0, in the order of ``(rank + 1/2) / n``, where ``rank`` (from 0) is that of its
    score among the n of its given label: float (N,).

    The lowest share of these is about that share of each label. In labels of the same size equal ranks give equal
    fractions, so these are ordered by score: where a share is less than a sample of each label, those labels give up
    one that have the lowest scores. Equal scores are ordered as they stand.

    Args:
        scores: float (N,), finite.
        labels: int64 (N,), as they were handed over.
    """
    by_score = scores.argsort(stable=True)
    order = by_score[labels[by_score].argsort(stable=True)]
    counts = torch.bincount(labels)
    first = counts.cumsum(0) - counts
    places = torch.arange(len(order), device=order.device)
    ranks = torch.empty_like(order)
    ranks[order] = places - first[labels[order]]
    fractions = (ranks.double() + 0.5) / counts[labels]
    within = torch.empty_like(scores)
    within[by_score[fractions[by_score].argsort(stable=True)]] = places.to(scores.dtype)
    return within
