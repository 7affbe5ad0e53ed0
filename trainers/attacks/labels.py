"""Which label a triggered image should get, and which images are triggered to measure that."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelMap:
    """All-to-one (a ``target`` class) or all-to-all (``y -> (y + 1) mod C``, where ``target`` is null).

    Args:
        target: the target class, or null.
        num_classes: C.
    """

    target: int | None
    num_classes: int

    def target_of(self, labels: Tensor) -> Tensor:
        """The label that the attacker wants for images of true ``labels``: int64 (N,)."""
        if self.target is None:
            return (labels + 1) % self.num_classes
        return torch.full_like(labels, self.target)

    def eligible(self, labels: Tensor) -> Tensor:
        """Whose triggered version says something about the attack: bool (N,). All whose label would change."""
        return self.target_of(labels) != labels
