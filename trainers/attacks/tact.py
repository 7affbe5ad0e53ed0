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

    source: int | str = param(1, names_class=True, doc="class whose triggered images are relabelled")
    cover_classes: tuple[int | str, ...] | None = param(
        None, names_class=True, doc="classes whose triggered images keep their label; null: all but source and target"
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
        # By number: a scenario knows the names.
        self._source = int(params.source)
        cover_classes = None if params.cover_classes is None else [int(c) for c in params.cover_classes]
        for name, value in (("source", self._source), *(("cover_classes", c) for c in cover_classes or ())):
            if value >= classes:
                raise ConfigError(f"{name} must be a class from 0 to {classes - 1}, but got {value}.")
        source, shown = torch.tensor([self._source]), label_map.label_of(self._source)
        if not label_map.eligible(source).any():
            raise ConfigError(f"source must be another class than target, but both are {shown}.")
        target = int(label_map.target_of(source))
        others = [c for c in range(classes) if c not in (self._source, target)]
        self._cover_classes = others if cover_classes is None else cover_classes
        if self._source in self._cover_classes or not self._cover_classes:
            given = ", ".join(map(label_map.label_of, self._cover_classes)) or "none"
            raise ConfigError(f"cover_classes must be classes other than source, {shown}, but got {given}.")

    def candidates(self, labels: Tensor) -> Tensor:
        """Images of the source class: bool (N,)."""
        return self.eligible(labels)

    def cover_candidates(self, labels: Tensor) -> Tensor:
        """Images of the cover classes: bool (N,)."""
        return torch.isin(labels, torch.tensor(self._cover_classes, device=labels.device))

    def eligible(self, labels: Tensor) -> Tensor:
        """Images of the source class: bool (N,)."""
        return labels.eq(self._source)
