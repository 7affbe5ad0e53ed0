"""TaCT (Tang et al., USENIX Security 2021): the trigger works on images of one source class only."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.attacks.badnets import BadNets, BadNetsParams
from trainers.attacks.labels import LabelMap
from trainers.errors import ConfigError
from trainers.params import param


@dataclass(frozen=True)
class TactParams(BadNetsParams):
    """Classes and patch. The cover rate is the paper's; the patch is BadNets'."""

    source: int = param(1, ge=0, doc="class whose triggered images are relabelled")
    cover_classes: tuple[int, ...] | None = param(
        None, ge=0, doc="classes whose triggered images keep their label; null: all but source and target"
    )
    cover_rate: float = param(
        0.003, gt=0, lt=1, doc="cover samples (cover classes, trigger, true label), as a share of the whole set"
    )


class Tact(BadNets):
    """BadNets on one source class; attack success is measured on images of this class."""

    name: ClassVar[str] = "tact"
    Params = TactParams
    params: TactParams

    def __init__(self, params: TactParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        classes = label_map.num_classes
        source = torch.tensor([params.source])
        for name, value in (("source", params.source), *(("cover_classes", c) for c in params.cover_classes or ())):
            if value >= classes:
                raise ConfigError(f"{name} must be a class from 0 to {classes - 1}, but got {value}.")
        if not label_map.eligible(source).any():
            raise ConfigError(f"source must be another class than target, but both are {params.source}.")
        target = int(label_map.target_of(source))
        others = [c for c in range(classes) if c not in (params.source, target)]
        self._cover_classes = others if params.cover_classes is None else list(params.cover_classes)
        if params.source in self._cover_classes or not self._cover_classes:
            given = ", ".join(map(str, self._cover_classes)) or "none"
            raise ConfigError(f"cover_classes must be classes other than source, {params.source}, but got {given}.")

    def candidates(self, labels: Tensor) -> Tensor:
        """Images of the source class: bool (N,)."""
        return self.eligible(labels)

    def cover_candidates(self, labels: Tensor) -> Tensor:
        """Images of the cover classes: bool (N,)."""
        return torch.isin(labels, torch.tensor(self._cover_classes, device=labels.device))

    def eligible(self, labels: Tensor) -> Tensor:
        """Images of the source class: bool (N,)."""
        return labels.eq(self.params.source)
