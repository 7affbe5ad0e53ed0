"""SGD for all defenses; the learning rate is a function of the epoch, so a state need not hold a schedule."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from trainers.params import Parameters, param


@dataclass(frozen=True)
class SgdParams(Parameters):
    """SGD; the defaults are V&B's for the Beneficiary (authors' CIFAR-10 code: x0.1 at epochs 50, 100, 150 of 200)."""

    lr: float = param(0.1, gt=0, doc="learning rate at the start")
    momentum: float = param(0.9, ge=0, lt=1, doc="momentum")
    weight_decay: float = param(5e-4, ge=0, doc="weight decay")
    batch_size: int = param(128, ge=2, doc="samples per batch")
    schedule: str = param(
        "step", choices=("step", "cosine"), doc="how the learning rate falls: in steps at milestones, or as a cosine"
    )
    milestones: tuple[float, ...] = param(
        (0.25, 0.5, 0.75), gt=0, lt=1, doc="shares of the epochs after which the learning rate drops (schedule: step)"
    )
    decay: float = param(0.1, gt=0, le=1, doc="factor of the learning rate at each milestone (schedule: step)")

    nesterov: ClassVar[bool] = False
    """Whether momentum is Nesterov's."""

    def optimizer(self, network: nn.Module, fused: bool = False) -> torch.optim.SGD:
        """SGD over the parameters of ``network``; ``fused``: in one kernel."""
        return torch.optim.SGD(
            network.parameters(),
            self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov and self.momentum > 0,
            fused=fused or None,
        )

    def set_lr(self, optimizer: torch.optim.Optimizer, epoch: int, epochs: int) -> None:
        """Set the learning rate of ``epoch``, counted from 0, of ``epochs``."""
        set_lr(optimizer, self.lr_at(epoch, epochs))

    def lr_at(self, epoch: int, epochs: int) -> float:
        """The learning rate of ``epoch``, counted from 0, of ``epochs``."""
        if self.schedule == "cosine":
            return cosine(self.lr, epoch, epochs)
        passed = sum(epoch >= max(round(share * epochs), 1) for share in self.milestones)
        return self.lr * self.decay**passed


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def cosine(lr: float, epoch: int, epochs: int) -> float:
    """Learning rate of ``epoch`` on half a cosine, from ``lr`` at epoch 0 to 0 after ``epochs``."""
    return lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
