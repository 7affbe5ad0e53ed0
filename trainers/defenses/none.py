"""No defense: ordinary training. The control that shows whether an attack works at all."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from trainers.defenses.base import Defense, LossMeter, Report, Stage, TrainingTask
from trainers.optim import SgdParams
from trainers.params import param


@dataclass(frozen=True)
class NoneParams(SgdParams):
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
        self.optimizer = params.optimizer(self.network, task.compute.fused)
        self.optimizers["network"] = self.optimizer

    @classmethod
    def stages(cls, params: NoneParams) -> list[Stage]:
        """One stage, which reads every parameter."""
        return [Stage("training", params.epochs, params.keys(), cls.train)]

    def train(self, epoch: int) -> Report:
        """Train one epoch, by its number from 0."""
        self.params.set_lr(self.optimizer, epoch, self.params.epochs)
        self.network.train()
        meter = LossMeter(self.device)
        everything = torch.arange(len(self.images), device=self.device)
        for batch in self.batches(everything, self.params.batch_size):
            logits = self.run_network(self.network, self.view(batch)).logits
            loss = functional.cross_entropy(logits.float(), self.labels[batch])
            self.step(self.optimizer, loss)
            meter.add(loss, len(batch))
        return Report(meter.mean(), meter.images, self.network)
