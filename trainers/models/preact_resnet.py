"""PreAct-ResNet-18 for 32x32 images."""

from torch import nn

from trainers.models.base import Network, PreActBlock, StagedNetwork, block_group


def preact_resnet18(in_channels: int, num_classes: int, width: int = 64) -> Network:
    """PreAct-ResNet-18 (He et al., arXiv 1603.05027) with a 3x3 stem of stride 1, and batch-norm before the head."""
    channels = [width, width, 2 * width, 4 * width, 8 * width]
    stages: list[nn.Module] = [
        block_group(PreActBlock, channels[i], channels[i + 1], 2, 1 if i == 0 else 2) for i in range(4)
    ]
    stem = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
    tail = nn.Sequential(nn.BatchNorm2d(channels[-1]), nn.ReLU())
    return StagedNetwork(stem, stages, nn.Linear(channels[-1], num_classes), tail)
