"""Mixing two images and their labels: AttentionMix (V&B, arXiv 2404.11265), mixup and CutMix."""

import torch
from torch import Tensor
from torch.nn import functional


def attention_maps(features: Tensor, size: tuple[int, int], upsampling: str) -> Tensor:
    """Attention of a network: the channel sum of squared activations, upsampled, min-max normalised per image.

    Args:
        features: float (N, K, h, w), last-stage feature maps.
        size: height and width of the images.
        upsampling: ``bilinear`` (paper) or ``nearest`` (authors' code).

    Returns:
        float (N, *size), in [0, 1]. A map without contrast is 1 everywhere, so that the whole image is mixed; the
        authors' is 0 everywhere, and leaves the image unmixed.
    """
    energy = features.float().square().sum(1, keepdim=True)
    corners = False if upsampling == "bilinear" else None
    maps = functional.interpolate(energy, size, mode=upsampling, align_corners=corners).squeeze(1)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    # Upsampling leaves rounding noise on a map without contrast, so contrast is measured before it.
    contrast = energy.amax((2, 3)) > energy.amin((2, 3))
    return torch.where(contrast[:, :, None], (maps - low) / (high - low), 1.0)


def attention_mix(
    images: Tensor, targets: Tensor, attention: Tensor, partner: Tensor, mask_threshold: float
) -> tuple[Tensor, Tensor]:
    """Mix each image with its partner inside the region that the network attends to.

    With ``M = [A >= mask_threshold]``, ``W = sum(M A) / sum(A)``, ``W' = sum(M A') / sum(A')``, ``k = W / (W + W')``:
    ``x~ = (1 - M) x + M (k x + (1 - k) x')`` and ``y~ = (1 - W + k W) y + (W - k W) y'``.

    Args:
        images: float (N, C, H, W).
        targets: float (N, classes), one-hot or soft.
        attention: float (N, H, W), from :func:`attention_maps`.
        partner: int64 (N,), a permutation; ``'`` marks the partner's tensors.
        mask_threshold: 0.1 in the authors' code.

    Returns:
        Mixed images and targets, of the same shapes.
    """
    mask = (attention >= mask_threshold).to(attention.dtype)
    own = (mask * attention).sum((1, 2)) / attention.sum((1, 2))
    other = (mask * attention[partner]).sum((1, 2)) / attention[partner].sum((1, 2))
    keep = own / (own + other)
    weight = (mask * (1 - keep)[:, None, None])[:, None]
    moved = (own - keep * own)[:, None]
    mixed_images = images + weight * (images[partner] - images)
    return mixed_images, (1 - moved) * targets + moved * targets[partner]


def beta_draw(b: float, generator: torch.Generator) -> Tensor:
    """A draw from Beta(b, b) by ``generator``, which torch.distributions does not accept: double scalar."""
    gamma = torch._standard_gamma(torch.full((2,), b, device=generator.device), generator=generator)
    return (gamma[0] / gamma.sum()).double()


def mixup(images: Tensor, targets: Tensor, partner: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """``keep * own + (1 - keep) * partner`` for images and targets (arXiv 1710.09412, equation 1).

    ``keep`` is a double scalar, so that ``1 - keep`` is rounded once.
    """
    return keep * images + (1 - keep) * images[partner], keep * targets + (1 - keep) * targets[partner]


def cutmix(
    images: Tensor, targets: Tensor, partner: Tensor, keep: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Paste a box of the partner's pixels; the label follows the box's true area (arXiv 1905.04899, equations 1, 2).

    Args:
        images: float (N, C, H, W).
        targets: float (N, classes).
        partner: int64 (N,), a permutation.
        keep: double scalar, share of the image that stays, before the box is clipped at the border.
        generator: on the device of ``images``; draws one box for the whole batch.
    """
    height, width = images.shape[2:]
    side = (1 - keep).sqrt()
    centre = torch.rand(2, generator=generator, device=images.device).double()
    rows, columns = _covered(centre[0], side, height), _covered(centre[1], side, width)
    mixed = torch.where(rows[:, None] & columns, images[partner], images)
    kept = 1 - (rows.sum() * columns.sum()).double() / (height * width)
    return mixed, kept * targets + (1 - kept) * targets[partner]


def _covered(centre: Tensor, side: Tensor, length: int) -> Tensor:
    """Which of ``length`` pixels a box covers, given its centre and side as shares of the length: bool (length,)."""
    first, end = ((centre * length + sign * side * length / 2).round() for sign in (-1, 1))
    places = torch.arange(length, device=centre.device)
    return (places >= first) & (places < end)


def label_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Shares of the classes that a network is trained towards: float (N, C), each row sums to 1.

    Args:
        labels: int64 (N,), as they were handed over.
        classes: C.
        smoothing: share of each label that is spread evenly over all classes; 0: one-hot (arXiv 1512.00567, section 7).
    """
    one_hot = functional.one_hot(labels, classes).float()
    return one_hot * (1 - smoothing) + smoothing / classes


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """``-sum_c t_c log p_c``, averaged over the batch.

    Args:
        logits: float (N, C).
        targets: float (N, C); rows need not sum to 1 (suppressed labels do not).

    Returns:
        float scalar.
    """
    return -(targets * functional.log_softmax(logits.float(), dim=1)).sum(1).mean()


def suppress(targets: Tensor, belief: Tensor) -> Tensor:
    """``targets`` less the Victim's belief: ``clip(y - q, 0, 1)``, not renormalised (V&B, stage 2).

    Args:
        targets: float (N, C).
        belief: float (N, C), the Victim's ``softmax(logits / T)``.
    """
    return (targets - belief).clamp(0, 1)
