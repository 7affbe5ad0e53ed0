"""ABL: Anti-Backdoor Learning (arXiv 2110.11571, NeurIPS 2021)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from trainers.data.augmentation import augment, cutout
from trainers.data.batches import batch_count
from trainers.data.image_set import ImageSet
from trainers.defenses.base import Report, Stage, TrainingTask
from trainers.defenses.footprint import DataSize, Footprint
from trainers.defenses.parts.isolating_defense import Isolating
from trainers.defenses.parts.isolation import isolated_count
from trainers.defenses.parts.split_scope import SCOPE_DOC, SCOPES
from trainers.defenses.parts.unlearning import bounded_ascent
from trainers.models import ModelConfig
from trainers.optim import OptimizerParams
from trainers.params import param


@dataclass(frozen=True)
class AblParams(OptimizerParams):
    """ABL's constants, from the authors' CIFAR-10 code (bboylyg/ABL), with the paper's values where they differ.

    Those of the optimiser apply to isolation, at a constant learning rate, and to fine-tuning.
    """

    batch_size: int = param(128, ge=2, doc="samples per batch (versions of the authors' code have 64 and 128)")
    weight_decay: float = param(1e-4, ge=0, doc="weight decay (paper: 1e-4 to 5e-4)")
    milestones: tuple[float, ...] = param(
        (2 / 3,), gt=0, lt=1, doc="shares of the fine-tuning epochs after which the rate drops (after 40 of 60)"
    )
    isolation_epochs: int = param(10, ge=1, doc="epochs of isolation, with local gradient ascent (paper: 20 of 100)")
    ascent: str = param(
        "flooding",
        choices=("flooding", "batch", "sample"),
        doc="loss of isolation, where g is loss_floor: |l - g| + g of a batch's mean loss l (flooding), sign(l - g) l "
        "of the mean (batch; the paper's LGA), or sign(l - g) l of each sample's loss (sample; ours)",
    )
    loss_floor: float = param(0.5, ge=0, doc="loss g below which isolation turns to gradient ascent")
    isolation_rate: float = param(0.01, gt=0, lt=1, doc="share of the samples that is isolated, those of lowest loss")
    split_scope: str = param("set", choices=SCOPES, doc=SCOPE_DOC)
    finetune_epochs: int = param(60, ge=0, doc="epochs of fine-tuning on the samples that were not isolated")
    cutout: int = param(2, ge=0, doc="side in pixels of the square that fine-tuning blackens in each image; 0: none")
    unlearning_epochs: int = param(5, ge=0, doc="passes of gradient ascent on the isolated samples (paper: 20 of 100)")
    unlearning_lr: float = param(5e-4, gt=0, doc="learning rate of unlearning")
    unlearning_rest: bool = param(
        False,
        doc="true: an epoch of unlearning is a pass over the samples that were not isolated, with descent on them "
        "beside the ascent (ours, for sets with few isolated samples)",
    )
    unlearning_weight: float = param(1.0, ge=0, doc="weight of the gradient ascent in unlearning")
    unlearning_ceiling: float = param(5.0, gt=0, doc="loss of a sample at which gradient ascent on it ends (ours)")

    nesterov: ClassVar[bool] = True
    """As in the authors' code."""


def local_ascent(losses: Tensor, floor: float, how: str) -> Tensor:
    """ABL's loss of the isolation stage: it keeps batches at ``floor`` while poisoned samples fall below.

    Args:
        losses: float (M,), losses of the samples of a batch.
        floor: the paper's gamma.
        how: ``flooding``: ``|l - g| + g`` of the mean l; ``batch``: ``sign(l - g) l`` of it; ``sample``: the mean of
            ``sign(l - g) l`` over samples.

    Returns:
        float scalar.
    """
    if how == "flooding":
        return (losses.mean() - floor).abs() + floor
    chosen = losses if how == "sample" else losses.mean()
    return ((chosen - floor).sign().detach() * chosen).mean()


class Abl(Isolating):
    """Isolates the samples that are learned first, trains on the rest, and unlearns the isolated ones.

    As in the authors' code, one network goes through all stages. Images are not augmented in isolation and unlearning.
    In fine-tuning they are augmented, with Cutout of one square of length 3, which that code makes 2 x 2 pixels. In the
    authors' unlearning the rate drops to 1e-4 only after the last epoch, so there is one rate here; their first epoch
    only tests, so they make one pass less. Interpretations: the ascent on a sample ends at a ceiling; images are
    normalised; momentum is carried over from stage to stage.
    """

    name: ClassVar[str] = "abl"
    Params = AblParams
    params: AblParams

    def __init__(self, params: AblParams, task: TrainingTask):
        super().__init__(params, task)
        self.network = self.new_network("network")
        self.descent = self.new_descent("network", self.network, params)

    @classmethod
    def check(cls, params: AblParams, data: ImageSet, model: ModelConfig) -> None:
        """Check that the isolation rate leaves samples on both sides."""
        super().check(params, data, model)
        isolated_count(params.isolation_rate, len(data))

    @classmethod
    def footprint(cls, params: AblParams, model: ModelConfig, data: DataSize, pass_images: int) -> Footprint:
        """One network; with ``unlearning_rest``, each batch has isolated samples beside it."""
        if not (params.unlearning_rest and params.unlearning_epochs):
            return super().footprint(params, model, data, pass_images)
        return Footprint((cls.trained_on_pairs(params, model, data, params.isolation_rate, 1, pass_images),))

    @classmethod
    def stages(cls, params: AblParams) -> list[Stage]:
        """Isolation, fine-tuning on the rest, unlearning."""
        p = params
        later = ("schedule", "milestones", "decay", "label_smoothing")
        descent = tuple(key for key in OptimizerParams.keys() if key not in later)
        isolation = ("isolation_epochs", "ascent", "loss_floor", "isolation_rate", "split_scope", *descent)
        finetuning = ("finetune_epochs", "cutout", *later)
        unlearning = (
            "unlearning_epochs",
            "unlearning_lr",
            "unlearning_rest",
            "unlearning_weight",
            "unlearning_ceiling",
        )
        return [
            Stage("isolation", p.isolation_epochs, isolation, cls._isolation_epoch),
            Stage("finetuning", p.finetune_epochs, finetuning, cls._finetuning_epoch),
            Stage("unlearning", p.unlearning_epochs, unlearning, cls._unlearning_epoch),
        ]

    def _isolation_epoch(self, epoch: int) -> Report:
        p = self.params
        self.descent.set_lr(p.lr)

        def ascended(losses: Tensor) -> Tensor:
            return local_ascent(losses, p.loss_floor, p.ascent)

        meter = self.descend(self.descent, self.everything(), p.batch_size, ascended, self.plain)
        if epoch + 1 == p.isolation_epochs:
            self.mark(self.losses(self.network), "rate", p.isolation_rate, p.split_scope)
        return self.report(meter, self.descent.result())

    def _finetuning_epoch(self, epoch: int) -> Report:
        p, kept = self.params, self.kept()
        self.descent.follow(p.rates(epoch, p.finetune_epochs, batch_count(len(kept), p.batch_size)))
        meter = self.descend(self.descent, kept, p.batch_size, Tensor.mean, self._with_cutout, p.label_smoothing)
        return self.report(meter, self.descent.result())

    def _with_cutout(self, indices: Tensor) -> Tensor:
        augmented = augment(self.images.index_select(0, indices), self.task.augmentation, self.generator)
        return self.normalise(cutout(augmented, self.params.cutout, self.generator))

    def _unlearning_epoch(self, epoch: int) -> Report:
        p = self.params
        self.descent.set_lr(p.unlearning_lr)
        if p.unlearning_rest:
            how = (p.batch_size, p.unlearning_weight, p.unlearning_ceiling)
            meter = self.forget(self.descent, *how, self.plain)
            return self.unlearned(meter, self.descent)

        def ascended(losses: Tensor) -> Tensor:
            return p.unlearning_weight * bounded_ascent(losses, p.unlearning_ceiling)

        meter = self.descend(self.descent, self.isolated(), p.batch_size, ascended, self.plain)
        return self.unlearned(meter, self.descent)
