"""ResNet-18 for 32x32 images."""

from torch import nn

from trainers.models.base import Network, ResidualBlock, block_group, conv_stem


def resnet18(in_channels: int, num_classes: int, width: int = 64) -> Network:
    """ResNet-18 (He et al., arXiv 1512.03385) with the CIFAR stem: a 3x3 convolution of stride 1, no max-pooling."""
    channels = [width, width, 2 * width, 4 * width, 8 * width]
    stages: list[nn.Module] = [
        block_group(ResidualBlock, channels[i], channels[i + 1], 2, 1 if i == 0 else 2) for i in range(4)
    ]
    return Network(conv_stem(in_channels, width), stages, nn.Linear(channels[-1], num_classes))
