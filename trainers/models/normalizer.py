"""The statistics with which a network's images are normalised."""

import torch

from trainers.data.batches import Normalizer
from trainers.data.stored import Images
from trainers.models.config import ModelConfig


def normalizer_of(model: ModelConfig, images: Images, device: torch.device) -> Normalizer:
    """Those that the network was given, or else those of its training images.

    Args:
        model: the network.
        images: to train on, uint8 (N, C, H, W).
        device: of the statistics.
    """
    if model.mean is None or model.std is None:
        return Normalizer.fit(images, device)
    return Normalizer(torch.tensor(model.mean, device=device), torch.tensor(model.std, device=device))
