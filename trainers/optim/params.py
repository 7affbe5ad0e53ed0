"""Parameters of optimiser, schedule and fine-tuning that all defenses have."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from trainers.models import Network
from trainers.optim.parts import FROZEN_DOC, weight_groups
from trainers.optim.rates import cosine
from trainers.params import Parameters, param

LARGEST_SMOOTHING = 0.9
"""Beyond it the given label has about the share of any other, at ten classes."""


@dataclass(frozen=True)
class OptimizerParams(Parameters):
    """Optimiser, schedule, and options for fine-tuning a pretrained network.

    The defaults are V&B's for the Beneficiary (authors' CIFAR-10 code: SGD, x0.1 at epochs 50, 100, 150 of 200), with
    every option off. [Fine-tuning](../fine-tuning.md) says in which stages of a defense each option applies.
    """

    lr: float = param(0.1, gt=0, doc="learning rate at the start")
    momentum: float = param(0.9, ge=0, lt=1, doc="momentum (optimizer: sgd)")
    weight_decay: float = param(5e-4, ge=0, doc="weight decay")
    batch_size: int = param(128, ge=2, doc="samples per batch")
    schedule: str = param(
        "step",
        choices=("step", "cosine", "cosine_steps"),
        doc="how the learning rate falls: in steps at milestones, as a cosine from epoch to epoch, or as a cosine "
        "from batch to batch (cosine_steps)",
    )
    milestones: tuple[float, ...] = param(
        (0.25, 0.5, 0.75), gt=0, lt=1, doc="shares of the epochs after which the learning rate drops (schedule: step)"
    )
    decay: float = param(0.1, gt=0, le=1, doc="factor of the learning rate at each milestone (schedule: step)")
    optimizer: str = param("sgd", choices=("sgd", "adamw"), doc="the optimiser: SGD with momentum, or AdamW")
    lr_warmup_steps: int = param(
        0, ge=0, doc="first steps of an optimiser in which its learning rate rises linearly to the schedule's; 0: none"
    )
    backbone_lr_factor: float = param(
        1.0, gt=0, doc="factor of the learning rate of everything but the head of the network"
    )
    frozen_parts: str = param("none", doc=f"parts of the network that keep their weights: {FROZEN_DOC}")
    clip_norm: float | None = param(
        None, gt=0, doc="norm of all gradients together above which a step scales them down; null: never"
    )
    label_smoothing: float = param(
        0.0, ge=0, le=LARGEST_SMOOTHING, doc="share of each training label that is spread evenly over all classes"
    )
    ema_decay: float | None = param(
        None,
        ge=0,
        lt=1,
        doc="decay per step of a moving average of the weights, which is the network that is measured and kept; null: "
        "no average",
    )

    nesterov: ClassVar[bool] = False
    """Whether SGD's momentum is Nesterov's."""

    @property
    def moments(self) -> int:
        """Numbers that the optimiser keeps for each weight."""
        return 2 if self.optimizer == "adamw" else int(self.momentum > 0)

    def new_optimizer(
        self, network: Network, lr: float, backbone_lr_factor: float = 1.0, fused: bool = False
    ) -> torch.optim.Optimizer:
        """The optimiser of the weights of ``network`` that are not frozen; ``fused``: in one kernel."""
        groups = weight_groups(network, backbone_lr_factor)
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr, weight_decay=self.weight_decay, fused=fused or None)
        return torch.optim.SGD(
            groups,
            lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov and self.momentum > 0,
            fused=fused or None,
        )

    def rates(self, epoch: int, epochs: int, batches: int) -> Callable[[int], float]:
        """The learning rate of each step of an epoch, by its number from 0, before any warm-up.

        Args:
            epoch: counted from 0.
            epochs: all epochs of the schedule.
            batches: steps of this epoch.
        """
        if self.schedule == "cosine_steps":
            return lambda step: self.lr_at(epoch + step / batches, epochs)
        lr = self.lr_at(epoch, epochs)
        return lambda step: lr

    def lr_at(self, epoch: float, epochs: int) -> float:
        """The learning rate after ``epoch`` of ``epochs``, by the schedule."""
        if self.schedule != "step":
            return cosine(self.lr, epoch, epochs)
        passed = sum(epoch >= max(round(share * epochs), 1) for share in self.milestones)
        return self.lr * self.decay**passed
