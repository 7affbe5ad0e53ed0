"""Rules that find suspicious samples by their scores: the lowest share, or a mixture of two components."""

import torch
from torch import Tensor
from torch.nn import functional

from trainers.defenses.parts.entropy import split_by_mixture
from trainers.errors import ConfigError

RULES = ("rate", "gmm")
"""Rules that divide scores: the lowest share of them, or a two-component Gaussian mixture."""


def sample_losses(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each sample with its given label: float (N,)."""
    return functional.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=label_smoothing)


def isolated_count(rate: float, samples: int) -> int:
    """Number of ``samples`` that a ``rate`` isolates, rounded, with at least one sample on either side.

    Raises:
        ConfigError: the rate leaves no sample on one side.
    """
    count = round(rate * samples)
    if not 0 < count < samples:
        least, most = 0.5 / samples, 1 - 0.5 / samples
        raise ConfigError(
            f"An isolation_rate of {rate:g} isolates {count} of {samples} samples, which leaves none on one side; "
            f"allowed is above {least:.2g} and below {most:.4g}."
        )
    return count


def isolate(scores: Tensor, rule: str, rate: float, seed: int) -> Tensor:
    """Suspicious samples, those of low score: bool (N,).

    Args:
        scores: float (N,), losses or entropies; poisoned samples have low ones early in training.
        rule: ``rate`` isolates the lowest share, ties by order; ``gmm`` fits a mixture of two Gaussians.
        rate: the share; not read by ``gmm``.
        seed: seeds the mixture's initialisation.

    Raises:
        ConfigError: the rate leaves no sample on one side.
    """
    if rule == "gmm":
        return ~split_by_mixture(scores, seed)
    lowest = scores.argsort(stable=True)[: isolated_count(rate, len(scores))]
    suspicious = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    suspicious[lowest] = True
    return suspicious
