"""PT: partial training and isolation (arXiv 2405.16488)."""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from trainers.data.batches import batch_count
from trainers.data.image_set import ImageSet
from trainers.defenses.base import Report, Stage, TrainingTask
from trainers.defenses.footprint import DataSize, Footprint
from trainers.defenses.parts.entropy import prediction_entropy
from trainers.defenses.parts.isolating_defense import Isolating
from trainers.defenses.parts.isolation import RULES, isolated_count
from trainers.defenses.parts.split_scope import SCOPE_DOC, SCOPES
from trainers.models import ModelConfig, build_model
from trainers.optim import OptimizerParams, frozen_parts
from trainers.optim.parts import FROZEN_DOC, freeze
from trainers.params import param


@dataclass(frozen=True)
class PtParams(OptimizerParams):
    """Parameters, which are an interpretation; those of the optimiser are for the clean model."""

    frozen: str = param(
        "body", doc=f"parts of the network whose weights partial training does not change: {FROZEN_DOC}"
    )
    partial_epochs: int = param(10, ge=1, doc="passes of the partial training")
    partial_lr: float = param(0.05, gt=0, doc="learning rate of the partial training")
    score: str = param("loss", choices=("loss", "entropy"), doc="score that samples are ranked by")
    score_epochs: int = param(3, ge=1, doc="number of last partial epochs over which the score is averaged")
    isolation: str = param(
        "rate", choices=RULES, doc="rule of isolation: rate (the lowest share) or gmm (a Gaussian mixture)"
    )
    isolation_rate: float = param(
        0.1, gt=0, lt=1, doc="share of the samples that is isolated, those of lowest score (isolation: rate)"
    )
    split_scope: str = param("set", choices=SCOPES, doc=SCOPE_DOC)
    clean_start: str = param(
        "fresh", choices=("fresh", "partial"), doc="initial weights of the clean model: new, or of partial training"
    )
    clean_epochs: int = param(100, ge=1, doc="epochs of the clean model on the samples that were not isolated")
    finetune_epochs: int = param(
        10, ge=0, doc="epochs of fine-tuning: gradient ascent on isolated samples, descent on the others"
    )
    finetune_lr: float = param(1e-3, gt=0, doc="learning rate of fine-tuning")
    unlearning_weight: float = param(0.1, ge=0, doc="weight of the gradient ascent in fine-tuning")
    unlearning_ceiling: float = param(5.0, gt=0, doc="loss of a sample at which gradient ascent on it ends")


class Pt(Isolating):
    """Trains a partly frozen network, isolates the samples it learns, and trains a clean model on the rest.

    Only the abstract was read: *a training method that freezes part of the model so that the trained model isolates
    suspicious samples; a clean model is then fine-tuned on that basis*. All the rest is an interpretation: which part
    is frozen, that poisoned samples are those of low loss (the limited capacity suffices for a trigger, not for the
    task), and that the clean model is fine-tuned by unlearning what was isolated. Batch-norm layers of frozen parts
    keep their weights, and still update their running statistics.
    """

    name: ClassVar[str] = "pt"
    Params = PtParams
    params: PtParams

    def __init__(self, params: PtParams, task: TrainingTask):
        super().__init__(params, task)
        self.isolator = self.new_network("isolator")
        freeze(self.isolator, frozen_parts("frozen", params.frozen, self.isolator))
        self.new_descent("isolator", self.isolator, params, lr=params.partial_lr, by_parts=False, averaged=False)
        self.network = self.new_network("network")
        self.descent = self.new_descent("network", self.network, params)

    @classmethod
    def check(cls, params: PtParams, data: ImageSet, model: ModelConfig) -> None:
        """Check that the isolation rate leaves samples on both sides, and that the network has the frozen parts."""
        super().check(params, data, model)
        if params.isolation == "rate":
            isolated_count(params.isolation_rate, len(data))
        frozen_parts("frozen", params.frozen, build_model(model.architecture, data.shape, data.num_classes, seed=0))

    @classmethod
    def footprint(cls, params: PtParams, model: ModelConfig, data: DataSize, pass_images: int) -> Footprint:
        """The isolator, and the clean model, whose batches have isolated samples beside them in fine-tuning."""
        clean = cls.trained(params, model, params.batch_size, data.images)
        isolator = replace(clean, frozen=params.frozen, averaged=False)
        if params.finetune_epochs:
            rate = params.isolation_rate if params.isolation == "rate" else None
            clean = cls.trained_on_pairs(params, model, data, rate, 1, pass_images)
        return Footprint((isolator, clean))

    @classmethod
    def stages(cls, params: PtParams) -> list[Stage]:
        """Partial training, the clean model, its fine-tuning."""
        p = params
        isolation = ("score", "score_epochs", "isolation", "isolation_rate", "split_scope")
        descent = ("optimizer", "momentum", "weight_decay", "batch_size", "lr_warmup_steps", "clip_norm")
        partial = ("frozen", "partial_epochs", "partial_lr", *descent, *isolation)
        finetuning = ("finetune_epochs", "finetune_lr", "unlearning_weight", "unlearning_ceiling")
        return [
            Stage("partial", p.partial_epochs, partial, cls._partial),
            Stage("clean", p.clean_epochs, ("clean_start", "clean_epochs", *OptimizerParams.keys()), cls._clean),
            Stage("finetuning", p.finetune_epochs, finetuning, cls._finetune),
        ]

    def _partial(self, epoch: int) -> Report:
        p = self.params
        meter = self.descend(self.descents["isolator"], self.everything(), p.batch_size, Tensor.mean)
        counted = min(p.score_epochs, p.partial_epochs)
        if epoch >= p.partial_epochs - counted:
            score = self._score() / counted
            self.tensors["sum"] = self.tensors["sum"] + score if "sum" in self.tensors else score
        if epoch + 1 == p.partial_epochs:
            self.mark(self.tensors.pop("sum"), p.isolation, p.isolation_rate, p.split_scope)
        return self.report(meter, None)

    def _score(self) -> Tensor:
        if self.params.score == "loss":
            return self.losses(self.isolator)
        return prediction_entropy(self.logits_of(self.isolator, self.images))

    def _clean(self, epoch: int) -> Report:
        p, kept = self.params, self.kept()
        if epoch == 0 and p.clean_start == "partial":
            self.network.load_state_dict(self.isolator.state_dict())
            self.descent.restart_average()
        self.descent.follow(p.rates(epoch, p.clean_epochs, batch_count(len(kept), p.batch_size)))
        meter = self.descend(self.descent, kept, p.batch_size, Tensor.mean, label_smoothing=p.label_smoothing)
        return self.report(meter, self.descent.result())

    def _finetune(self, epoch: int) -> Report:
        p = self.params
        self.descent.set_lr(p.finetune_lr)
        meter = self.forget(self.descent, p.batch_size, p.unlearning_weight, p.unlearning_ceiling)
        return self.unlearned(meter, self.descent)
