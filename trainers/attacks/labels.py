"""Which label a triggered image should get, and which images are triggered to measure that."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.data.class_names import class_label


@dataclass(frozen=True)
class LabelMap:
    """All-to-one (a ``target`` class) or all-to-all (``y -> (y + 1) mod C``, where ``target`` is null).

    Args:
        target: the target class, or null.
        num_classes: C.
        class_names: of the C classes, for errors; empty if they are not known.
    """

    target: int | None
    num_classes: int
    class_names: tuple[str, ...] = ()

    def target_of(self, labels: Tensor) -> Tensor:
        """The label that the attacker wants for images of true ``labels``: int64 (N,)."""
        if self.target is None:
            return (labels + 1) % self.num_classes
        return torch.full_like(labels, self.target)

    def label_of(self, number: int) -> str:
        """A class as errors show it: its number, and its name where it is known."""
        return class_label(number, self.class_names)

    def eligible(self, labels: Tensor) -> Tensor:
        """Whose triggered version says something about the attack: bool (N,). All whose label would change."""
        return self.target_of(labels) != labels
