"""The Victim's entropy as a detector: score, smoothing, normalisation and split (V&B, arXiv 2404.11265)."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def prediction_entropy(logits: Tensor) -> Tensor:
    """Mean over classes of ``-p log p``: ``h_i = -(1/C) sum_c p_ic log p_ic``, natural logarithm.

    Log-softmax keeps ``p = 0`` at its limit 0, where ``log(p)`` would give NaN.

    Args:
        logits: float (N, C).

    Returns:
        float (N,), in [0, log(C) / C].
    """
    log_p = functional.log_softmax(logits.float(), dim=1)
    return -(log_p.exp() * log_p).mean(1)


def moments_of(steps: int, count: int) -> list[int]:
    """Numbers of steps, in order, after which a training of ``steps`` is scored: ``count`` moments, evenly spaced.

    The last one is the end. Where there are fewer steps than moments, every step is one.
    """
    return sorted({steps * number // count for number in range(1, count + 1)} - {0})


def smooth(current: Tensor, previous: Tensor | None, rate: float) -> Tensor:
    """Exponential smoothing over evaluations: ``rate * current + (1 - rate) * previous``; the first is unchanged.

    Args:
        current, previous: float (N,).
        rate: in (0, 1]; 0.75 in the authors' code.
    """
    return current if previous is None else rate * current + (1 - rate) * previous


def normalise(scores: Tensor) -> Tensor:
    """Scores normalised to [0, 1] by minimum and maximum of the set: float (N,). If all are equal, all become 0."""
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low).clamp_min(torch.finfo(scores.dtype).tiny)


def threshold_at(round_number: int, start: float, decay: float, final: float) -> float:
    """Threshold of a warm-up round: ``max(start - decay * round, final)``; 0.6, then 0.2 in the authors' CIFAR-10 runs.

    Args:
        round_number: from 1.
        start, decay, final: 1, 0.4 and 0.2 in the authors' code.
    """
    return max(start - decay * round_number, final)


def split_by_threshold(normalised: Tensor, threshold: float) -> Tensor:
    """Credible samples, those with a normalised entropy above ``threshold``: bool (N,)."""
    return normalised > threshold


def split_by_mixture(scores: Tensor, seed: int) -> Tensor:
    """Credible samples: a two-component Gaussian mixture gives its high-entropy component more than 0.5.

    An interpretation: secondary summaries of the paper mention this split, and the authors' code does not have it. If
    all scores are equal, all samples are suspicious, as after ``normalise``.

    Args:
        scores: float (N,).
        seed: seeds the mixture's initialisation.

    Returns:
        bool (N,).
    """
    # scikit-learn takes two seconds to import, which every command would pay.
    from sklearn.mixture import GaussianMixture

    values = scores.detach().double().cpu().numpy().reshape(-1, 1)
    if len(np.unique(values)) < 2:
        return torch.zeros_like(scores, dtype=torch.bool)
    values = (values - values.min()) / (values.max() - values.min())
    mixture = GaussianMixture(2, random_state=seed % 2**32).fit(values)
    means = mixture.means_.ravel()
    # A broad upper component has tails on both sides; a score below the lower component's mean is not credible.
    credible = (mixture.predict_proba(values)[:, int(means.argmax())] > 0.5) & (values.ravel() > means.min())
    return torch.from_numpy(credible).to(scores.device)
