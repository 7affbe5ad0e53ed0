"""Networks by name."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainers.errors import ConfigError
from trainers.models.base import ModelOutput, Network
from trainers.models.preact_resnet import preact_resnet18
from trainers.models.resnet import imagenet_resnet18, resnet18
from trainers.models.tiny import tiny
from trainers.models.wide_resnet import wide_resnet
from trainers.params import Parameters, param

__all__ = ["MODELS", "ModelConfig", "ModelOutput", "Network", "build_model"]

MODELS: dict[str, Callable[..., Network]] = {
    "tiny": tiny,
    "resnet18": resnet18,
    "preact_resnet18": preact_resnet18,
    "wide_resnet": wide_resnet,
    "imagenet_resnet18": imagenet_resnet18,
}


@dataclass(frozen=True)
class ModelConfig(Parameters):
    """Which network is trained."""

    name: str = param("tiny", choices=tuple(MODELS), doc="network family")
    width: int | None = param(None, ge=1, doc="channels of the first stage; for wide_resnet the widening factor")
    depth: int | None = param(None, ge=10, doc="number of layers, 6 n + 4; wide_resnet only")

    def __post_init__(self) -> None:
        """Check combinations of fields."""
        super().__post_init__()
        if self.depth is not None and self.name != "wide_resnet":
            raise ConfigError(f"model.depth is for wide_resnet only, but the model is {self.name}.")
        if self.depth is not None and (self.depth - 4) % 6:
            raise ConfigError(f"model.depth must be 6 n + 4 (10, 16, 22, 28, ...), but got {self.depth}.")


def build_model(config: ModelConfig, in_channels: int, num_classes: int, seed: int) -> Network:
    """A freshly initialised network on the CPU; the same ``seed`` gives the same weights."""
    options = {key: value for key in ("width", "depth") if (value := getattr(config, key)) is not None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[config.name](in_channels, num_classes, **options)
