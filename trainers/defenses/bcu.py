"""BCU: Backdoor Cleansing with Unlabeled Data (arXiv 2211.12044, CVPR 2023)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from trainers.data.augmentation import augment
from trainers.data.batches import shuffled_batches
from trainers.data.stored import subset
from trainers.defenses.base import Defense, LossMeter, Report, Stage, TrainingTask, Trunk, Unlabelled
from trainers.defenses.footprint import DataSize, Footprint
from trainers.defenses.none import NoDefense, NoneParams
from trainers.defenses.parts.distillation import distillation_loss, layer_ratios, reinitialise, temperature_at
from trainers.errors import ConfigError
from trainers.models import ModelConfig, build_model
from trainers.optim import OptimizerParams, cosine
from trainers.params import param
from trainers.placement import ahead, placed
from trainers.seeding import derive_seed, seeded


@dataclass(frozen=True)
class BcuParams(OptimizerParams):
    """BCU's constants for CIFAR-10; those of the optimiser are for the undefended training before it."""

    training_epochs: int = param(200, ge=1, doc="epochs of the undefended training")
    unlabelled: str = param(
        "clean", doc="source of unlabelled images: clean or poisoned (held out), parquet:PATH or folder:PATH"
    )
    unlabelled_count: int | None = param(None, ge=2, doc="number of unlabelled images; null: all")
    base_ratio: float = param(0.01, ge=0, le=1, doc="share of weights re-initialised in the stem and the first stage")
    ratio_growth: float = param(3.0, gt=0, doc="factor of the re-initialised share from one stage to the next")
    head_ratio: float = param(0.1, ge=0, le=1, doc="share of weights re-initialised in the head")
    ratio_scale: float = param(1.0, ge=0, doc="factor of the re-initialised shares of all layers")
    distillation_epochs: int = param(100, ge=1, doc="passes over the unlabelled images")
    distillation_lr: float = param(0.01, gt=0, doc="learning rate at the start of distillation (cosine)")
    distillation_batch_size: int = param(256, ge=2, doc="unlabelled images per batch")
    final_temperature: float = param(4.0, ge=1, doc="distillation temperature in the last epoch; about 1 in the first")

    def __post_init__(self) -> None:
        """Make a path absolute, since trials run in other folders."""
        super().__post_init__()
        kind, colon, path = self.unlabelled.partition(":")
        if colon:
            object.__setattr__(self, "unlabelled", f"{kind}:{Path(path).expanduser().absolute()}")

    @property
    def training(self) -> NoneParams:
        """Parameters of the undefended training."""
        return NoneParams(epochs=self.training_epochs, **{key: getattr(self, key) for key in OptimizerParams.keys()})


class Bcu(Defense):
    """Trains without defense, then distils into a partly re-initialised copy on images without labels.

    The first stage is exactly a training of ``none``, so a control with the same parameters is its trunk. The teacher
    therefore has V&B's schedule by default; the published one is trained at a rate of 0.01, which drops after 100 and
    150 of 200 epochs. Interpretations: biases of the head are re-initialised like its weights; unlabelled images are
    augmented like training images; momentum and weight decay are those of the undefended training.
    """

    name: ClassVar[str] = "bcu"
    Params = BcuParams
    params: BcuParams

    def __init__(self, params: BcuParams, task: TrainingTask):
        super().__init__(params, task)
        if task.unlabelled is None:
            raise ConfigError("bcu needs unlabelled images.")
        # Drawn at random, since some sources list their images class by class.
        order = torch.randperm(len(task.unlabelled), generator=seeded(derive_seed(task.seed, self.name, "unlabelled")))
        chosen = order[: params.unlabelled_count].sort().values
        self.unlabelled_images = placed(subset(task.unlabelled, chosen), task.compute)
        self.training = NoDefense(params.training, task)
        self.training.generator = self.generator
        self.modules |= self.training.modules
        self.descents |= self.training.descents
        self.student = self.new_network("student")
        self.descent = self.new_descent("student", self.student, params, lr=params.distillation_lr, by_parts=False)

    @classmethod
    def unlabelled(cls, params: BcuParams) -> Unlabelled:
        """The unlabelled images for distillation."""
        return Unlabelled(params.unlabelled, params.unlabelled_count)

    @classmethod
    def trunk(cls, params: BcuParams, stages: int) -> Trunk:
        """The first stage is the whole of an undefended training."""
        return NoDefense.trunk(params.training, 1) if stages == 1 else super().trunk(params, stages)

    @classmethod
    def footprint(cls, params: BcuParams, model: ModelConfig, data: DataSize, pass_images: int) -> Footprint:
        """Teacher and student; the undefended training has the images once more."""
        teacher = cls.trained(params, model, params.batch_size, data.images)
        student = cls.trained(params, model, params.distillation_batch_size, data.unlabelled)
        return Footprint((teacher, replace(student, frozen="none")), copies=2)

    @classmethod
    def stages(cls, params: BcuParams) -> list[Stage]:
        """Undefended training, distillation."""
        p = params
        training = ("training_epochs", *OptimizerParams.keys())
        distillation = tuple(key for key in p.keys() if key not in training)
        return [
            Stage("training", p.training_epochs, training, cls._train),
            Stage("distillation", p.distillation_epochs, distillation, cls._distil),
        ]

    def _train(self, epoch: int) -> Report:
        return self.training.train(epoch)

    def _distil(self, epoch: int) -> Report:
        p = self.params
        if epoch == 0:
            self._renew()
        self.descent.set_lr(cosine(p.distillation_lr, epoch, p.distillation_epochs))
        temperature = temperature_at(epoch, p.distillation_epochs, p.final_temperature)
        teacher = self.training.descent.result().eval()
        self.descent.train()
        meter = LossMeter(self.device)
        chosen = torch.arange(len(self.unlabelled_images), device=self.device)
        batches = list(shuffled_batches(chosen, p.distillation_batch_size, self.generator))
        for batch in ahead(self.unlabelled_images, batches):
            drawn = self.unlabelled_images.index_select(0, batch)
            images = self.normalise(augment(drawn, self.task.augmentation, self.generator))
            with torch.no_grad():
                wanted = self.run_network(teacher, images).logits
            loss = distillation_loss(self.run_network(self.student, images).logits, wanted, temperature)
            self.step(self.descent, loss)
            meter.add(loss, len(batch))
        return Report(meter.mean(), meter.images, self.descent.result())

    def _renew(self) -> None:
        """Make the student a copy of the teacher with some weights re-initialised."""
        data = self.task.data
        seed = derive_seed(self.task.seed, self.name, "renewed")
        fresh = build_model(self.task.model, data.shape, data.num_classes, seed).to(self.device)
        p = self.params
        ratios = layer_ratios(list(fresh.parts()), p.base_ratio, p.ratio_growth, p.head_ratio, p.ratio_scale)
        self.student.load_state_dict(self.training.descent.result().state_dict())
        reinitialise(self.student, fresh, ratios, self.generator)
        self.descent.restart_average()
