"""ResNet-18 for 32x32 images, and for images of ImageNet's size."""

from torch import nn

from trainers.models.base import Network, ResidualBlock, StagedNetwork, block_group, conv_stem


def resnet18(in_channels: int, num_classes: int, width: int = 64) -> Network:
    """ResNet-18 (He et al., arXiv 1512.03385) with the CIFAR stem: a 3x3 convolution of stride 1, no max-pooling."""
    stages = _stages(width)
    return StagedNetwork(conv_stem(in_channels, width), stages, nn.Linear(8 * width, num_classes))


def imagenet_resnet18(in_channels: int, num_classes: int, width: int = 64) -> Network:
    """ResNet-18 (He et al., arXiv 1512.03385, table 1) with the ImageNet stem: a 7x7 convolution, then max-pooling.

    Both have a stride of 2: 224x224 images become 56x56 maps after the stem, and 7x7 maps after the last stage.
    """
    stages = _stages(width)
    conv = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
    stem = nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    return StagedNetwork(stem, stages, nn.Linear(8 * width, num_classes))


def _stages(width: int) -> list[nn.Module]:
    """Four stages of two blocks, of ``width`` to ``8 * width`` channels."""
    channels = [width, width, 2 * width, 4 * width, 8 * width]
    return [block_group(ResidualBlock, channels[i], channels[i + 1], 2, 1 if i == 0 else 2) for i in range(4)]
