"""Cost of an attack to the attacker: how much data is changed, and how visibly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.attacks import PoisonedSet
from trainers.data.image_set import ImageSet
from trainers.data.stored import differing

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window (Wang et al., 2004); images that are smaller have no SSIM."""


@dataclass(frozen=True)
class AttackCost:
    """How much of a training set an attack changes, and how visibly.

    Args:
        changed_share: samples whose pixels or label differ from the clean set's, as a share of the whole set.
        psnr: peak signal-to-noise ratio in dB, mean over the images whose pixels differ; null if none does.
        ssim: structural similarity, at most 1, mean over the same images; null also for images smaller than 11x11.
    """

    changed_share: float
    psnr: float | None
    ssim: float | None

    @classmethod
    def measure(cls, clean: ImageSet, made: PoisonedSet, device: torch.device | str = "cpu") -> "AttackCost":
        """Cost of the poisoned set ``made``, compared with the ``clean`` set that it was made from."""
        pixels = differing(made.data.images, clean.images)
        changed = pixels | (made.data.labels != clean.labels)
        share = int(changed.sum()) / len(clean)
        if not pixels.any():
            return cls(share, None, None)
        psnr, ssim = _similarity(clean.images[pixels], made.data.images[pixels], device)
        return cls(share, psnr, ssim)


def _similarity(before: Tensor, after: Tensor, device: torch.device | str) -> tuple[float, float | None]:
    """Mean PSNR and SSIM over pairs of images, uint8 (M, C, H, W), that differ."""
    # Importing torchmetrics takes a second, which only commands that poison data should wait for.
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    psnr, ssim, large = 0.0, 0.0, min(before.shape[2:]) >= SSIM_WINDOW
    for clean, dirty in zip(before.split(500), after.split(500), strict=True):
        pair = dirty.to(device).float(), clean.to(device).float()
        # One value per image: one over all pixels together would hide an attack that is visible on few images.
        each = peak_signal_noise_ratio(*pair, data_range=255.0, reduction="none", dim=(1, 2, 3))
        psnr += float(each.double().sum())
        if large:
            similar = structural_similarity_index_measure(*pair, data_range=255.0, reduction="sum")
            assert isinstance(similar, Tensor)  # it returns a pair only if the full image is asked for
            ssim += float(similar)
    return psnr / len(before), ssim / len(before) if large else None
