"""Base class and blocks of the networks: parts are named by role, and features come with the logits."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional


class ModelOutput(NamedTuple):
    """Result of a forward pass.

    Args:
        logits: float (N, classes).
        features: float (N, K, h, w), the last stage's feature maps, before pooling.
    """

    logits: Tensor
    features: Tensor


class Network(nn.Module, ABC):
    """A classifier whose parts have roles, whatever its family calls its layers: defenses address them by these."""

    @abstractmethod
    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalised ``images``: float (N, C, H, W)."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The parts by role, from input to output: ``stem``, ``stage1``, ``stage2``, ..., ``head``.

        Each parameter is in exactly one of them.
        """


class StagedNetwork(Network):
    """Stem, stages, an optional closing layer, global average pooling and a linear head.

    Convolutions start from Kaiming's normal distribution (arXiv 1502.01852), fan-out, for ReLU, as in the code of V&B,
    ABL and BCU; batch-norm from weight 1 and bias 0. The head keeps torch's default, as in BCU and for V&B's Victim;
    other code differs (V&B's Beneficiary: Kaiming's, fan-in, bias 0; ABL: torch's weights, bias 0).

    Args:
        stem: turns images into the first feature maps.
        stages: groups of blocks at one resolution each, in order.
        head: linear layer on the pooled features.
        tail: applied to the last stage's maps before pooling (the closing batch-norm of pre-activation networks).
    """

    def __init__(self, stem: nn.Module, stages: list[nn.Module], head: nn.Linear, tail: nn.Module | None = None):
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.tail = tail if tail is not None else nn.Identity()
        self.head = head
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalised ``images``: float (N, C, H, W)."""
        maps = self.stem(images)
        for stage in self.stages:
            maps = stage(maps)
        maps = self.tail(maps)
        return ModelOutput(self.head(maps.mean((2, 3))), maps)

    def parts(self) -> dict[str, nn.Module]:
        """The parts by role; the closing layer of a pre-activation network belongs to its last stage."""
        stages = {f"stage{i}": stage for i, stage in enumerate(self.stages, start=1)}
        if not isinstance(self.tail, nn.Identity):
            last = f"stage{len(self.stages)}"
            stages[last] = nn.ModuleList([stages[last], self.tail])
        return {"stem": self.stem, **stages, "head": self.head}


class Projection(nn.Conv2d):
    """1x1 convolution of a shortcut, with a stride.

    oneDNN 3.13 (torch 2.15) writes beyond its buffer, and ends the process, in the backward pass of a strided 1x1
    convolution of fewer than 8 channels, channels last, on processors with AVX2 and without AVX-512. So that narrow
    networks train there too, the pixels that the stride leaves out are left out beforehand; the result is the same.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """``maps``: float (N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        if self.in_channels >= 8:
            return super().forward(maps)
        rows, columns = self.stride
        return functional.conv2d(maps[:, :, ::rows, ::columns], self.weight)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch-norm and a shortcut (He et al., arXiv 1512.03385, figure 2)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            projection = Projection(in_channels, out_channels, stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, maps: Tensor) -> Tensor:
        """``maps``: float (N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        inner = functional.relu(self.norm1(self.conv1(maps)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(maps))


class PreActBlock(nn.Module):
    """Residual block with batch-norm and ReLU before each convolution (He et al., arXiv 1603.05027, figure 1b)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.projection: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.projection = Projection(in_channels, out_channels, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """``maps``: float (N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)."""
        active = functional.relu(self.norm1(maps))
        shortcut = self.projection(active) if self.projection is not None else maps
        inner = self.conv1(active)
        out: Tensor = self.conv2(functional.relu(self.norm2(inner))) + shortcut
        return out


def conv_stem(in_channels: int, width: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch-norm, ReLU: the stem for images too small for ImageNet's."""
    conv = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


def block_group(block: type[nn.Module], in_channels: int, out_channels: int, depth: int, stride: int) -> nn.Sequential:
    """``depth`` blocks at one resolution; the first one changes channels and resolution."""
    first = block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(block(out_channels, out_channels, 1) for _ in range(depth - 1)))
