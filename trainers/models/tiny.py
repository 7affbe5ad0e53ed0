"""A small residual network that trains on one CPU core in a minute."""

from torch import nn

from trainers.models.base import Network, ResidualBlock, StagedNetwork, block_group, conv_stem


def tiny(in_channels: int, num_classes: int, width: int = 16) -> Network:
    """Three residual blocks of ``width``, ``2 * width`` and ``4 * width`` channels behind a stem of stride 2.

    The stem's stride makes the network fast: 16x16 images become 8x8, 8x8, 4x4 and 4x4 maps.
    """
    channels = [width, 2 * width, 4 * width]
    stages: list[nn.Module] = [
        block_group(ResidualBlock, width, channels[0], 1, 1),
        block_group(ResidualBlock, channels[0], channels[1], 1, 2),
        block_group(ResidualBlock, channels[1], channels[2], 1, 1),
    ]
    return StagedNetwork(conv_stem(in_channels, width, stride=2), stages, nn.Linear(channels[2], num_classes))
