"""No defense: ordinary training. The control that shows whether an attack works at all."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from trainers.data.batches import batch_count
from trainers.defenses.base import Defense, LossMeter, Report, Stage, TrainingTask
from trainers.optim import OptimizerParams
from trainers.params import param


@dataclass(frozen=True)
class NoneParams(OptimizerParams):
    """Ordinary training; the defaults are those of V&B's Beneficiary."""

    epochs: int = param(200, ge=1, doc="passes over the training set")


class NoDefense(Defense):
    """Trains with cross-entropy on every sample and its given label."""

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
            logits = self.run_network(self.network, self.view(batch)).logits
            loss = functional.cross_entropy(logits.float(), self.labels[batch], label_smoothing=p.label_smoothing)
            self.step(self.descent, loss)
            meter.add(loss, len(batch))
        return Report(meter.mean(), meter.images, self.descent.result())
