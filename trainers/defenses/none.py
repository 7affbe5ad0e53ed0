"""No defense: ordinary training. The control that shows whether an attack works at all."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from trainers.data.batches import batch_count
from trainers.defenses.base import Defense, LossMeter, Report, Stage, TrainingTask
from trainers.defenses.parts.mixing import beta_draw, cutmix, label_targets, mixup, soft_cross_entropy
from trainers.optim import OptimizerParams
from trainers.params import param


@dataclass(frozen=True)
class NoneParams(OptimizerParams):
    """Ordinary training; the defaults are those of V&B's Beneficiary."""

    epochs: int = param(200, ge=1, doc="passes over the training set")
    mixup: float = param(
        0.0, ge=0, doc="a of the distribution Beta(a, a) of mixup's shares (arXiv 1710.09412); 0: no mixup"
    )
    cutmix: float = param(
        0.0,
        ge=0,
        doc="a of the distribution Beta(a, a) of CutMix's shares (arXiv 1905.04899); 0: no CutMix; with mixup, each "
        "batch takes one of the two at random",
    )


class NoDefense(Defense):
    """Trains with cross-entropy on every sample and its given label.

    With mixup or CutMix, a batch is mixed with itself in another order, by one share, as in their authors' code.
    """

    name: ClassVar[str] = "none"
    Params = NoneParams
    params: NoneParams

    def __init__(self, params: NoneParams, task: TrainingTask):
        super().__init__(params, task)
        self.network = self.new_network("network")
        self.descent = self.new_descent("network", self.network, params)

    @classmethod
    def stages(cls, params: NoneParams) -> list[Stage]:
        """One stage, which reads every parameter."""
        return [Stage("training", params.epochs, params.keys(), cls.train)]

    def train(self, epoch: int) -> Report:
        """Train one epoch, by its number from 0."""
        p = self.params
        self.descent.follow(p.rates(epoch, p.epochs, batch_count(len(self.images), p.batch_size)))
        self.descent.train()
        meter = LossMeter(self.device)
        everything = torch.arange(len(self.images), device=self.device)
        for batch in self.batches(everything, p.batch_size):
            loss = self._loss(batch)
            self.step(self.descent, loss)
            meter.add(loss, len(batch))
        return Report(meter.mean(), meter.images, self.descent.result())

    def _loss(self, batch: Tensor) -> Tensor:
        """Mean loss of one view of each sample of a batch."""
        p, labels = self.params, self.labels[batch]
        images = self.view(batch)
        if not p.mixup and not p.cutmix:
            logits = self.run_network(self.network, images).logits
            return functional.cross_entropy(logits.float(), labels, label_smoothing=p.label_smoothing)
        images, targets = self._mixed(images, label_targets(labels, self.task.data.num_classes, p.label_smoothing))
        return soft_cross_entropy(self.run_network(self.network, images).logits, targets)

    def _mixed(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Images and targets after mixup or CutMix, whichever is on; of both, one at random."""
        p = self.params
        partner = torch.randperm(len(images), device=self.device, generator=self.generator)
        mixed = []
        if p.mixup:
            mixed.append(mixup(images, targets, partner, beta_draw(p.mixup, self.generator)))
        if p.cutmix:
            mixed.append(cutmix(images, targets, partner, beta_draw(p.cutmix, self.generator), self.generator))
        if len(mixed) == 1:
            return mixed[0]
        # Both are made, since the host does not know the draw without waiting for the device.
        first = torch.rand((), device=self.device, generator=self.generator) < 0.5
        (images, targets), (pasted, shares) = mixed
        return torch.where(first, images, pasted), torch.where(first, targets, shares)
