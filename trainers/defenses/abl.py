"""ABL: Anti-Backdoor Learning (arXiv 2110.11571, NeurIPS 2021)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trainers.data.image_set import ImageSet
from trainers.defenses.base import Report, Stage, TrainingTask
from trainers.defenses.parts.isolating_defense import Isolating
from trainers.defenses.parts.isolation import isolated_count
from trainers.models import ModelConfig
from trainers.optim import SgdParams
from trainers.params import param


@dataclass(frozen=True)
class AblParams(SgdParams):
    """ABL's constants; the SGD parameters are those of isolation and fine-tuning."""

    weight_decay: float = param(1e-4, ge=0, doc="weight decay (paper: 1e-4 to 5e-4)")
    batch_size: int = param(64, ge=2, doc="samples a batch")
    isolation_epochs: int = param(20, ge=1, doc="passes with local gradient ascent")
    ascent: str = param(
        "sample",
        choices=("sample", "batch", "flooding"),
        doc="sign(l - g) l of each sample, or of a batch's mean (authors' code), or its default |l - g| + g",
    )
    loss_floor: float = param(0.5, ge=0, doc="g: the loss below which it is ascended on")
    isolation_rate: float = param(0.01, gt=0, lt=1, doc="share of lowest loss that is isolated")
    finetune_epochs: int = param(60, ge=0, doc="passes over the rest")
    unlearning_epochs: int = param(20, ge=0, doc="passes of descent on the rest and ascent on the isolated samples")
    unlearning_lr: float = param(5e-4, gt=0, doc="learning rate of the latter (paper: 1e-4 to 5e-4)")
    unlearning_weight: float = param(1.0, ge=0, doc="weight of the ascent")
    unlearning_ceiling: float = param(5.0, gt=0, doc="loss at which the ascent on a sample ends")


def local_ascent(losses: Tensor, floor: float, how: str) -> Tensor:
    """ABL's loss of the isolation stage, under which clean samples hover at ``floor`` and poisoned ones fall below.

    Args:
        losses: float (M,), of the samples of a batch.
        floor: the paper's gamma.
        how: ``sample``: mean of ``sign(l - g) l``; ``batch``: the same of the mean; ``flooding``: ``|mean - g| + g``.

    Returns:
        float scalar.
    """
    if how == "flooding":
        return (losses.mean() - floor).abs() + floor
    chosen = losses if how == "sample" else losses.mean()
    return ((chosen - floor).sign().detach() * chosen).mean()


class Abl(Isolating):
    """Isolates the samples that are learned first, trains on the rest, and unlearns the isolated ones.

    Interpretations: one network goes through all stages; the ascent of the last one ends at a ceiling, and goes
    alongside the descent in every step; the schedule of the learning rate starts anew in each of the first two stages.
    """

    name: ClassVar[str] = "abl"
    Params = AblParams
    params: AblParams

    def __init__(self, params: AblParams, task: TrainingTask):
        super().__init__(params, task)
        self.network = self.new_network("network")
        self.optimizer = params.optimizer(self.network)
        self.optimizers["network"] = self.optimizer

    @classmethod
    def check(cls, params: AblParams, data: ImageSet, model: ModelConfig) -> None:
        """The isolation rate must leave samples on both sides."""
        isolated_count(params.isolation_rate, len(data))

    def stages(self) -> list[Stage]:
        """Isolation, fine-tuning on the rest, unlearning."""
        p = self.params
        isolation = ("isolation_epochs", "ascent", "loss_floor", "isolation_rate", *SgdParams.keys())
        unlearning = ("unlearning_epochs", "unlearning_lr", "unlearning_weight", "unlearning_ceiling")
        return [
            Stage("isolation", p.isolation_epochs, isolation, self._isolation_epoch),
            Stage("finetuning", p.finetune_epochs, ("finetune_epochs",), self._finetuning_epoch),
            Stage("unlearning", p.unlearning_epochs, unlearning, self._unlearning_epoch),
        ]

    def _isolation_epoch(self, epoch: int) -> Report:
        p = self.params
        p.set_lr(self.optimizer, epoch, p.isolation_epochs)
        meter = self.descend(
            self.network,
            self.optimizer,
            self.everything(),
            p.batch_size,
            lambda losses: local_ascent(losses, p.loss_floor, p.ascent),
        )
        if epoch + 1 == p.isolation_epochs:
            self.mark(self.losses(self.network), "rate", p.isolation_rate)
        return self.report(meter, self.network)

    def _finetuning_epoch(self, epoch: int) -> Report:
        p = self.params
        p.set_lr(self.optimizer, epoch, p.finetune_epochs)
        meter = self.descend(self.network, self.optimizer, self.kept(), p.batch_size, Tensor.mean)
        return self.report(meter, self.network)

    def _unlearning_epoch(self, epoch: int) -> Report:
        p = self.params
        for group in self.optimizer.param_groups:
            group["lr"] = p.unlearning_lr
        meter = self.forget(self.network, self.optimizer, p.batch_size, p.unlearning_weight, p.unlearning_ceiling)
        return self.report(meter, self.network)
