"""DLP: active defense with a decoupled learning process (arXiv 2406.13098, Cybersecurity 2023)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trainers.data.batches import batch_count
from trainers.data.image_set import ImageSet
from trainers.defenses.base import CHUNK, LossMeter, Report, Stage, TrainingTask
from trainers.defenses.footprint import DataSize, Footprint
from trainers.defenses.parts.entropy import prediction_entropy
from trainers.defenses.parts.isolating_defense import Isolating
from trainers.defenses.parts.isolation import RULES, isolated_count
from trainers.defenses.parts.mixing import beta_draw, label_targets, mixup, soft_cross_entropy
from trainers.defenses.parts.semi_supervised import guess_labels, keep_share, ramp, unlabelled_loss
from trainers.defenses.parts.split_scope import SCOPE_DOC, SCOPES
from trainers.models import ModelConfig
from trainers.optim import OptimizerParams
from trainers.params import param


@dataclass(frozen=True)
class DlpParams(OptimizerParams):
    """Parameters, which are an interpretation; those of the optimiser are for supervised learning and fine-tuning."""

    supervised_epochs: int = param(10, ge=1, doc="stage 1: passes over all samples")
    filter: str = param(
        "entropy",
        choices=("entropy", "strip"),
        doc="score of the filter: entropy of each image, or its mean over superimposed images (strip)",
    )
    strip_overlays: int = param(
        8, ge=1, doc="number of images superimposed on each image, one at a time (filter: strip)"
    )
    isolation: str = param(
        "rate", choices=RULES, doc="rule of the filter: rate (the lowest share) or gmm (a Gaussian mixture)"
    )
    isolation_rate: float = param(
        0.1, gt=0, lt=1, doc="share of the samples that is filtered, those of lowest entropy (isolation: rate)"
    )
    split_scope: str = param("set", choices=SCOPES, doc=SCOPE_DOC)
    unlearning_epochs: int = param(5, ge=0, doc="stage 2: passes at most; unlearning ends at unlearning_ceiling")
    unlearning_lr: float = param(1e-3, gt=0, doc="learning rate of unlearning")
    unlearning_weight: float = param(1.0, ge=0, doc="weight of the gradient ascent in unlearning")
    unlearning_ceiling: float = param(5.0, gt=0, doc="loss of the filtered samples at which unlearning ends")
    finetune_epochs: int = param(100, ge=0, doc="stage 3: passes of semi-supervised fine-tuning")
    refilter_period: int = param(10, ge=1, doc="epochs of stage 3 between runs of the filter")
    unlabelled_weight: float = param(15.0, ge=0, doc="full weight of the filtered samples' loss in stage 3")
    ramp_epochs: int = param(10, ge=0, doc="epochs in which unlabelled_weight rises to its full value")
    guesses: int = param(2, ge=1, doc="number of augmentations that a label guess is averaged over")
    temperature: float = param(0.5, gt=0, doc="temperature that sharpens label guesses; lower is sharper")
    mix_beta: float = param(0.75, gt=0, doc="b of the distribution Beta(b, b) of mixup")


class Dlp(Isolating):
    """Learns all samples, unlearns those it is too certain of, and fine-tunes without the labels of these.

    The three stages are known (supervised learning until the backdoor is over-learned, active unlearning of what an
    entropy filter marks, active semi-supervised fine-tuning with the filter run again); losses, epochs and tables are
    not. The rest is an interpretation: the bounded ascent; MixMatch for the third stage (with the constants of its
    paper, except the unlabelled weight, which that paper tunes to each data set); how both are scheduled; and the loss
    as the score when the filter runs again. The entropy is not used then: a network is no longer certain of samples
    that it unlearned, so poisoned samples got their labels back (on generated shapes, BadNets: detection AUROC 0.99
    after the first filter, 0.30 at the end). With the loss, the filter takes the samples whose label the network
    contradicts.
    """

    name: ClassVar[str] = "dlp"
    Params = DlpParams
    params: DlpParams

    def __init__(self, params: DlpParams, task: TrainingTask):
        super().__init__(params, task)
        self.network = self.new_network("network")
        self.descent = self.new_descent("network", self.network, params)
        self.targets = label_targets(self.labels, task.data.num_classes, params.label_smoothing)

    @classmethod
    def check(cls, params: DlpParams, data: ImageSet, model: ModelConfig) -> None:
        """Check that the isolation rate leaves samples on both sides."""
        super().check(params, data, model)
        if params.isolation == "rate":
            isolated_count(params.isolation_rate, len(data))

    @classmethod
    def footprint(cls, params: DlpParams, model: ModelConfig, data: DataSize, pass_images: int) -> Footprint:
        """One network, whose batches have filtered samples beside them, in fine-tuning in several views."""
        views = params.guesses if params.finetune_epochs else min(params.unlearning_epochs, 1)
        rate = params.isolation_rate if params.isolation == "rate" else None
        network = cls.trained_on_pairs(params, model, data, rate, views, pass_images)
        return Footprint((network,))

    @classmethod
    def stages(cls, params: DlpParams) -> list[Stage]:
        """Supervised learning, active unlearning, active semi-supervised fine-tuning."""
        p = params
        filtering = ("filter", "strip_overlays", "isolation", "isolation_rate", "split_scope")
        unlearning = ("unlearning_epochs", "unlearning_lr", "unlearning_weight", "unlearning_ceiling")
        finetuning = ("finetune_epochs", "refilter_period", "unlabelled_weight", "ramp_epochs", "guesses",
                      "temperature", "mix_beta")  # fmt: skip
        return [
            Stage(
                "supervised",
                p.supervised_epochs,
                ("supervised_epochs", *filtering, *OptimizerParams.keys()),
                cls._learn,
            ),
            Stage("unlearning", p.unlearning_epochs, unlearning, cls._unlearn),
            Stage("finetuning", p.finetune_epochs, finetuning, cls._finetune),
        ]

    def _learn(self, epoch: int) -> Report:
        p = self.params
        self.descent.follow(p.rates(epoch, p.supervised_epochs, batch_count(len(self.images), p.batch_size)))
        smoothing = p.label_smoothing
        meter = self.descend(self.descent, self.everything(), p.batch_size, Tensor.mean, label_smoothing=smoothing)
        if epoch + 1 == p.supervised_epochs:
            self._mark(self._entropies())
        return self.report(meter, self.descent.result())

    def _mark(self, scores: Tensor) -> None:
        self.mark(scores, self.params.isolation, self.params.isolation_rate, self.params.split_scope)

    def _entropies(self) -> Tensor:
        """Prediction entropy of every sample, or its mean over superimposed images: float (N,).

        Superimposed images are sums, clipped at white, as STRIP's authors make them (arXiv 1902.06531): a mean would
        halve the contrast of a patch too, and the network would miss it.
        """
        if self.params.filter == "entropy":
            return prediction_entropy(self.logits_of(self.network, self.images))
        total = torch.zeros(len(self.images), device=self.device)
        for _ in range(self.params.strip_overlays):
            other = torch.randperm(len(self.images), device=self.device, generator=self.generator)
            entropies, others = [], iter(other.split(CHUNK))
            for own in self.images.split(CHUNK):
                both = (own.short() + self.images[next(others)].short()).clamp_max(255).to(torch.uint8)
                entropies.append(prediction_entropy(self.logits_of(self.network, both)))
            total += torch.cat(entropies)
        return total / self.params.strip_overlays

    def _unlearn(self, epoch: int) -> Report:
        p = self.params
        meter = LossMeter(self.device)
        isolated = self.isolated()
        reached = not len(isolated) or float(self.losses(self.network)[isolated].mean()) >= p.unlearning_ceiling
        if not reached:
            self.descent.set_lr(p.unlearning_lr)
            meter = self.forget(self.descent, p.batch_size, p.unlearning_weight, p.unlearning_ceiling)
        return self.unlearned(meter, self.descent)

    def _finetune(self, epoch: int) -> Report:
        """An epoch of MixMatch: kept samples with their labels, filtered ones with guessed labels."""
        p = self.params
        if epoch and epoch % p.refilter_period == 0:
            self._mark(-self.losses(self.network))
        batches = batch_count(int(self.tensors["credible"].sum()), p.batch_size)
        self.descent.follow(p.rates(epoch, p.finetune_epochs, batches))
        weight = p.unlabelled_weight * ramp(epoch, p.ramp_epochs)
        self.descent.train()
        meter = LossMeter(self.device)
        for batch, others in self.ahead_in_pairs(self.pairs(p.batch_size)):
            views, guesses = self._guessed(others)
            images = torch.cat([self.view(batch), views])
            targets = torch.cat([self.targets[batch], guesses])
            partner = torch.randperm(len(images), device=self.device, generator=self.generator)
            images, targets = mixup(images, targets, partner, keep_share(beta_draw(p.mix_beta, self.generator)))
            loss = self.step_in_passes(self.descent, self._losses(images, targets, len(batch), weight))
            meter.add(loss, len(images))
        return self.report(meter, self.descent.result())

    def _losses(self, images: Tensor, targets: Tensor, labelled: int, weight: float) -> Iterator[Tensor]:
        """Parts of the loss of a batch, one for each pass; the first images are ``labelled``, the others guessed."""
        passes, guessed = self.task.compute.passes(len(images)), len(images) - labelled
        own = zip(images[:labelled].tensor_split(passes), targets[:labelled].tensor_split(passes), strict=True)
        rest = (images[labelled:], targets[labelled:])
        others = zip(*(whole.tensor_split(passes)[::-1] for whole in rest), strict=True)
        for (kept, wanted), (filtered, guesses) in zip(own, others, strict=True):
            logits = self.run_network(self.network, torch.cat([kept, filtered])).logits
            loss = logits[:0].sum()  # a pass may lack one kind
            if len(kept):
                loss = loss + len(kept) / labelled * soft_cross_entropy(logits[: len(kept)], wanted)
            share = len(filtered) / max(guessed, 1)
            yield loss + share * weight * unlabelled_loss(logits[len(kept) :], guesses)

    @torch.no_grad()
    def _guessed(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """All G augmentations of M filtered samples, and the guess for each sample: G M images and targets."""
        p = self.params
        views = [self.view(batch) for _ in range(p.guesses)]
        if not len(batch):
            return views[0], self.targets[:0]
        self.network.eval()  # filtered samples alone would shift batch-norm's statistics
        parts = [images.tensor_split(self.task.compute.passes(len(images))) for images in views]
        logits = [torch.cat([self.run_network(self.network, part).logits for part in images]) for images in parts]
        guess = guess_labels(logits, p.temperature)
        self.descent.train()
        return torch.cat(views), guess.repeat(p.guesses, 1)
