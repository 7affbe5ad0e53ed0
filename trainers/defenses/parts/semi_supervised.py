"""MixMatch (Berthelot et al., arXiv 1905.02249): label guesses, sharpening, and the loss of unlabelled samples."""

import torch
from torch import Tensor
from torch.nn import functional


def guess_labels(logits: list[Tensor], temperature: float) -> Tensor:
    """Sharpened mean prediction over several augmentations (MixMatch, equations 6 and 7): float (M, C).

    Args:
        logits: float (M, C) for each augmentation of the same images.
        temperature: 0.5 in the paper.
    """
    mean = torch.stack([chunk.float().softmax(1) for chunk in logits]).mean(0)
    return sharpen(mean, temperature)


def sharpen(shares: Tensor, temperature: float) -> Tensor:
    """``p_c^(1/T) / sum_k p_k^(1/T)`` (MixMatch, equation 7): float (M, C), computed in logarithms.

    Args:
        shares: float (M, C), rows sum to 1.
        temperature: above 0; 1 leaves them as they are.
    """
    return (shares.clamp_min(torch.finfo(shares.dtype).tiny).log() / temperature).softmax(1)


def keep_share(draw: Tensor) -> Tensor:
    """``max(l, 1 - l)``: a mixed sample stays closer to its own image than to its partner (MixMatch, equation 9)."""
    return torch.maximum(draw, 1 - draw)


def unlabelled_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Squared distance of predicted and guessed shares, averaged over samples and classes (MixMatch, equation 4).

    Args:
        logits: float (M, C).
        targets: float (M, C).

    Returns:
        float scalar; 0 where there is no sample.
    """
    shares = logits.float().softmax(1)
    return functional.mse_loss(shares, targets) if len(shares) else shares.sum()


def ramp(epoch: int, epochs: int) -> float:
    """Factor that rises linearly from ``1 / epochs`` at epoch 0 to 1 at the last of ``epochs``; 1 if there is none."""
    return min((epoch + 1) / epochs, 1.0) if epochs else 1.0
