"""Wide residual networks for 32x32 images."""

from torch import nn

from trainers.models.base import Network, PreActBlock, StagedNetwork, block_group


def wide_resnet(in_channels: int, num_classes: int, depth: int = 16, width: int = 1) -> Network:
    """WideResNet-``depth``-``width`` (Zagoruyko and Komodakis, arXiv 1605.07146), without dropout; depth is 6 n + 4."""
    blocks = (depth - 4) // 6
    channels = [16, 16 * width, 32 * width, 64 * width]
    stages: list[nn.Module] = [
        block_group(PreActBlock, channels[i], channels[i + 1], blocks, 1 if i == 0 else 2) for i in range(3)
    ]
    stem = nn.Conv2d(in_channels, channels[0], 3, 1, 1, bias=False)
    tail = nn.Sequential(nn.BatchNorm2d(channels[-1]), nn.ReLU())
    return StagedNetwork(stem, stages, nn.Linear(channels[-1], num_classes), tail)
