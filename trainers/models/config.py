"""Which network is trained, and what it begins with."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainers.errors import ConfigError
from trainers.models.families import MODELS
from trainers.models.library import TIMM, TORCHVISION, check_name
from trainers.models.weights import HUB, SUFFIX
from trainers.params import Parameters, changed, param
from trainers.text import did_you_mean, printable


def check_network(name: str) -> None:
    """See that there is such a network.

    Args:
        name: of one of this program's own, ``timm:NAME`` or ``torchvision:NAME``.

    Raises:
        ConfigError: there is not.
    """
    if name.startswith((TIMM, TORCHVISION)):
        check_name(name)
    elif name not in MODELS:
        known = ", ".join(MODELS)
        close = did_you_mean(name, MODELS)
        raise ConfigError(f"must be one of {known}, {TIMM}NAME or {TORCHVISION}NAME, but got {name!r}.{close}")


@dataclass(frozen=True)
class ModelConfig(Parameters):
    """Which network is trained, and what it begins with."""

    name: str = param(
        "tiny",
        check=check_network,
        doc=f"network: one of {', '.join(MODELS)}; timm:NAME of any image network of timm; or torchvision:resnet18, "
        "resnet34 or resnet50",
    )
    width: int | None = param(None, ge=1, doc="channels of the first stage; for wide_resnet the widening factor")
    depth: int | None = param(None, ge=10, doc="number of layers, 6 n + 4; wide_resnet only")
    weights: str | None = param(
        None,
        doc="what it begins with, but for its head: path of a safetensors file, or hub; null: random numbers",
    )
    weights_digest: str | None = param(None, doc="of the file of weights; filled in where a sweep begins")
    mean: tuple[float, ...] | None = param(
        None,
        ge=0,
        le=1,
        doc="of each channel, pixel values / 255; null: that of the weights, or else of the training images",
    )
    std: tuple[float, ...] | None = param(None, gt=0, le=1, doc="likewise, the standard deviation")

    def __post_init__(self) -> None:
        """Check combinations of fields, and make a path absolute: workers run in other folders."""
        super().__post_init__()
        if self.depth is not None and self.name != "wide_resnet":
            raise ConfigError(f"model.depth is for wide_resnet only, but the model is {self.name}.")
        if self.depth is not None and (self.depth - 4) % 6:
            raise ConfigError(f"model.depth must be 6 n + 4 (10, 16, 22, 28, ...), but got {self.depth}.")
        if self.width is not None and self.name not in MODELS:
            raise ConfigError(f"model.width is for {', '.join(MODELS)} only, but the model is {self.name}.")
        if (self.mean is None) != (self.std is None) or (self.mean and len(self.mean) != len(self.std or ())):
            raise ConfigError("model.mean and model.std go together, with a number for each channel.")
        if self.weights == HUB and self.name in MODELS:
            raise ConfigError(f"model.weights: {HUB} has networks of timm and torchvision only; give a file.")
        if self.weights is None and self.weights_digest is not None:
            raise ConfigError("model.weights_digest is that of model.weights, which is missing.")
        if self.weights not in (None, HUB):
            if Path(self.weights).suffix != SUFFIX:
                raise ConfigError(
                    f"model.weights must be a {SUFFIX} file, or {HUB}, but got {printable(self.weights)}."
                )
            object.__setattr__(self, "weights", str(Path(os.path.expanduser(self.weights)).absolute()))

    def changed(self) -> dict[str, Any]:
        """The fields that differ from their defaults. Weights go by what they are, not by where they lie."""
        known = changed(type(self), self.as_dict())
        return {key: value for key, value in known.items() if key != "weights" or self.weights_digest is None}

    @property
    def architecture(self) -> "ModelConfig":
        """The same network, beginning with random numbers."""
        return replace(self, weights=None, weights_digest=None)
