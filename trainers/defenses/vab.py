"""V&B: The Victim and The Beneficiary (arXiv 2404.11265, ICCV 2023).

The Victim is trained on suspicious samples and becomes a detector: poisoned samples get a low prediction entropy early.
The Beneficiary is trained on the credible ones, and is the network that is kept. Defaults are those of the authors'
CIFAR-10 code, except that attention is upsampled as in the paper, and that the Victim's network is by default the
Beneficiary's (the authors always use ResNet-18).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from trainers.data.batches import batch_count, shuffled_batches, spread
from trainers.data.image_set import ImageSet
from trainers.defenses.base import Defense, LossMeter, Report, Stage, TrainingTask
from trainers.defenses.footprint import DataSize, Footprint, Trained
from trainers.defenses.parts.entropy import (
    moments_of,
    normalise,
    prediction_entropy,
    smooth,
    split_by_mixture,
    split_by_threshold,
    threshold_at,
)
from trainers.defenses.parts.mixing import (
    attention_maps,
    attention_mix,
    beta_draw,
    cutmix,
    label_targets,
    mixup,
    soft_cross_entropy,
    suppress,
)
from trainers.defenses.parts.split_scope import SCOPE_DOC, SCOPES, normalise_within
from trainers.errors import ConfigError, TrialError
from trainers.models import ModelConfig, check_network, check_other
from trainers.optim import Descent, OptimizerParams
from trainers.params import param


@dataclass(frozen=True)
class VabParams(OptimizerParams):
    """V&B's constants. Those of the optimiser are the Beneficiary's."""

    warmup_steps: int | None = param(
        None, ge=1, doc="optimiser steps of the Victim's first training, on all samples; null: one pass (paper)"
    )
    warmup_rounds: int = param(
        2, ge=0, doc="rounds of the warm-up: score and split all samples, train the Victim on suspicious ones"
    )
    split: str = param(
        "threshold", choices=("threshold", "gmm"), doc="rule of the split: a threshold, or a Gaussian mixture (gmm)"
    )
    split_scope: str = param("set", choices=SCOPES, doc=SCOPE_DOC)
    score_moments: int = param(
        1,
        ge=1,
        doc="moments of each training of the warm-up, evenly spaced up to its end, over which entropies are averaged "
        "(ours; paper: 1, the end)",
    )
    threshold: float = param(0.2, ge=0, le=1, doc="normalised entropy above which a sample is credible")
    threshold_start: float = param(1.0, ge=0, le=1, doc="value from which the threshold falls in the warm-up")
    threshold_decay: float = param(0.4, ge=0, le=1, doc="fall of the threshold per warm-up round, down to threshold")
    smoothing: float = param(0.75, gt=0, le=1, doc="weight of the newest entropy in exponential smoothing")
    victim_model: str | None = param(None, check=check_network, doc="the Victim's network; null: the Beneficiary's")
    victim_lr: float = param(1e-3, gt=0, doc="the Victim's learning rate (Adam)")
    victim_weight_decay: float = param(5e-4, ge=0, doc="the Victim's weight decay")
    victim_batch_size: int = param(128, ge=2, doc="the Victim's batch size")
    mix_epochs: int = param(100, ge=0, doc="epochs of stage 1: the Beneficiary on mixed credible samples")
    resplit_period: int = param(5, ge=1, doc="epochs of stage 1 between trainings of the Victim and new splits")
    mixing: str = param(
        "attention", choices=("attention", "none", "mixup", "cutmix"), doc="how credible samples are mixed"
    )
    mask_threshold: float = param(0.1, ge=0, le=1, doc="attention from which a pixel is in the region that is mixed")
    upsampling: str = param(
        "bilinear",
        choices=("bilinear", "nearest"),
        doc="upsampling of attention: bilinear (paper) or nearest (authors' code)",
    )
    mix_beta: float = param(1.0, gt=0, doc="b of the distribution Beta(b, b) of mixup and cutmix")
    suppression_epochs: int = param(100, ge=0, doc="epochs of stage 2: semi-supervised suppression")
    suppression: str = param(
        "both",
        choices=("both", "credible", "suspicious", "none", "filter"),
        doc="samples whose targets are reduced by the Victim's prediction; filter: stage 2 leaves suspicious ones out",
    )
    temperature: float = param(3.0, gt=0, doc="softmax temperature of the Victim's prediction in suppression")
    early_weight: float = param(0.1, ge=0, doc="weight of the suspicious samples' loss, first half of stage 2")
    late_weight: float = param(0.5, ge=0, doc="weight of the suspicious samples' loss, second half of stage 2")

    def __post_init__(self) -> None:
        """Check that the Beneficiary is trained at all."""
        super().__post_init__()
        if self.mix_epochs + self.suppression_epochs == 0:
            raise ConfigError("mix_epochs and suppression_epochs must not both be 0.")


class Vab(Defense):
    """Victim and Beneficiary, trained side by side.

    The views of a step go through the Beneficiary in one pass, so that batch-norm takes its statistics over all of
    them: both mixed views in stage 1, the suspicious ones too in stage 2. The authors pass each view separately
    (relative difference of the first update in stage 1: 0.11). Where a step of stage 2 has more images than
    ``pass_images``, each of its passes has an equal part of both kinds, and batch-norm sees that part. An
    interpretation: if no sample is credible, an epoch of the Beneficiary trains nothing. An extension:
    ``split_scope: class`` normalises the entropies within each given label before they are divided
    ([where scores are compared](../defenses.md#where-scores-are-compared)). Another one: with ``score_moments: K``,
    each score of the warm-up is the mean of K entropies, taken after 1/K, 2/K, ... of the steps of the Victim's
    training just before; smoothing, normalisation and split follow as ever. A pretrained Victim tells poisoned samples
    from clean ones for some tens of steps only ([fine-tuning](../fine-tuning.md)).
    """

    name: ClassVar[str] = "vab"
    Params = VabParams
    params: VabParams

    def __init__(self, params: VabParams, task: TrainingTask):
        super().__init__(params, task)
        victim_model = ModelConfig(params.victim_model) if params.victim_model else task.model
        self.victim = self.new_network("victim", victim_model)
        self.beneficiary = self.new_network("beneficiary")
        adam = torch.optim.Adam(
            self.victim.parameters(),
            params.victim_lr,
            weight_decay=params.victim_weight_decay,
            fused=task.compute.fused or None,
        )
        self.descents["victim"] = Descent(self.victim, adam, params.victim_lr)
        self.descent = self.new_descent("beneficiary", self.beneficiary, params)
        self.targets = label_targets(self.labels, task.data.num_classes, params.label_smoothing)

    @classmethod
    def check(cls, params: VabParams, data: ImageSet, model: ModelConfig) -> None:
        """Check that the Victim's network takes the images."""
        super().check(params, data, model)
        if params.victim_model is not None:
            check_other("victim_model", params.victim_model, data.shape, data.num_classes)

    @classmethod
    def footprint(cls, params: VabParams, model: ModelConfig, data: DataSize, pass_images: int) -> Footprint:
        """The Victim, and the Beneficiary with two views of each sample.

        The suspicious samples of stage 2 are spread over the batches of credible ones. In the worst case there is one
        such batch, and every other sample is beside it.
        """
        batch = min(params.batch_size, data.images)
        labelled, most = 2 * batch, 2 * min(batch + 1, data.images)
        step = most
        if params.suppression_epochs and params.suppression != "filter" and params.early_weight + params.late_weight:
            step = 2 * data.images
            most = min(step, max(most, pass_images))
        victim_batch = min(params.victim_batch_size, data.images)
        victim = ModelConfig(params.victim_model) if params.victim_model else model
        beneficiary = cls.trained(params, model, batch, data.images)
        return Footprint(
            (
                Trained(victim, 2, victim_batch, *2 * (min(victim_batch + 1, data.images),)),
                replace(beneficiary, certain_pass=labelled, largest_pass=most, largest_step=step),
            )
        )

    @classmethod
    def stages(cls, params: VabParams) -> list[Stage]:
        """Warm-up of the Victim, then the Beneficiary's two stages."""
        p = params
        splitting = ("split", "split_scope", "threshold", "smoothing")
        victim = ("victim_model", "victim_lr", "victim_weight_decay", "victim_batch_size")
        warmup = (
            "warmup_steps",
            "warmup_rounds",
            "score_moments",
            "threshold_start",
            "threshold_decay",
            *splitting,
            *victim,
        )
        # The learning rate drops at shares of both stages' total length, so stage 1 reads both lengths.
        lengths = ("mix_epochs", "suppression_epochs")
        mix = (
            "resplit_period",
            "mixing",
            "mask_threshold",
            "upsampling",
            "mix_beta",
            *lengths,
            *OptimizerParams.keys(),
        )
        suppression = ("suppression", "temperature", "early_weight", "late_weight")
        return [
            Stage("warmup", 1 + p.warmup_rounds, warmup, cls._warm_up),
            Stage("mix", p.mix_epochs, mix, cls._mix_epoch),
            Stage("suppression", p.suppression_epochs, suppression, cls._suppression_epoch),
        ]

    # The Victim

    def _warm_up(self, epoch: int) -> Report:
        p = self.params
        if epoch == 0:
            everything = torch.arange(len(self.images), device=self.device)
            meter = self._train_victim(everything, p.warmup_steps, p.score_moments)
        else:
            # Each round begins with a split by its own threshold; the last one also ends with a final split.
            self._score()
            self._split(threshold_at(epoch, p.threshold_start, p.threshold_decay, p.threshold))
            meter = self._train_victim(self._suspicious(), moments=p.score_moments)
        if epoch == p.warmup_rounds:
            self._score()
            self._split(p.threshold)
        return self._report(meter)

    def _train_victim(self, indices: Tensor, steps: int | None = None, moments: int = 1) -> LossMeter:
        """Train the Victim for one pass over ``indices``, or for a number of ``steps``; without augmentation.

        The entropies at all but the last of so many ``moments`` are kept for the next score.
        """
        meter = LossMeter(self.device)
        total = batch_count(len(indices), self.params.victim_batch_size) if steps is None else steps
        scored = set(moments_of(total, moments)[:-1])
        self.victim.train()
        passes = repeat(indices) if steps is not None and len(indices) else [indices]
        batches = chain.from_iterable(self.batches(chosen, self.params.victim_batch_size) for chosen in passes)
        for done, batch in enumerate(batches):
            if done == steps:
                break
            logits = self.run_network(self.victim, self.normalise(self.images.index_select(0, batch))).logits
            loss = functional.cross_entropy(logits.float(), self.labels[batch])
            self.step(self.descents["victim"], loss)
            meter.add(loss, len(batch))
            if done + 1 in scored:
                earlier = self.tensors.get("earlier", torch.empty(0, len(self.images), device=self.device))
                entropy = prediction_entropy(self.logits_of(self.victim, self.images))
                self.tensors["earlier"] = torch.cat([earlier, entropy[None]])
                self.victim.train()
        return meter

    def _score(self) -> None:
        """Evaluate the Victim on every image; keeps the smoothed entropies, and the logits for the Victim's belief."""
        logits = self.logits_of(self.victim, self.images)
        if not logits.isfinite().all():
            raise TrialError("The Victim's predictions are not finite.")
        entropy = prediction_entropy(logits)
        if "earlier" in self.tensors:
            entropy = torch.cat([self.tensors.pop("earlier"), entropy[None]]).mean(0)
        self.tensors["entropy"] = smooth(entropy, self.tensors.get("entropy"), self.params.smoothing)
        self.tensors["victim_logits"] = logits

    def _split(self, threshold: float) -> None:
        scores = self._scores()
        if self.params.split == "gmm":
            self.tensors["credible"] = split_by_mixture(scores, self.task.seed)
        else:
            self.tensors["credible"] = split_by_threshold(normalise(scores), threshold)

    def _scores(self) -> Tensor:
        """What the split divides: the smoothed entropies, normalised within each given label if that is asked for."""
        entropy = self.tensors["entropy"]
        return entropy if self.params.split_scope == "set" else normalise_within(entropy, self.labels)

    def _update_split(self) -> LossMeter:
        meter = self._train_victim(self._suspicious())
        self._score()
        self._split(self.params.threshold)
        return meter

    def _credible(self) -> Tensor:
        return self.tensors["credible"].nonzero().squeeze(1)

    def _suspicious(self) -> Tensor:
        return (~self.tensors["credible"]).nonzero().squeeze(1)

    # The Beneficiary

    def _mix_epoch(self, epoch: int) -> Report:
        """Train an epoch of stage 1 on the credible set; makes a new split every ``resplit_period`` epochs."""
        credible, size = self._credible(), self.params.batch_size
        self._begin_epoch(epoch, batch_count(len(credible), size))
        meter = LossMeter(self.device)
        for batch in self.batches(credible, size):
            images, targets = self._mixed(batch, self.targets[batch])
            loss = soft_cross_entropy(self.run_network(self.beneficiary, images).logits, targets)
            self.step(self.descent, loss)
            meter.add(loss, len(images))
        seen_by_victim = 0
        if (epoch + 1) % self.params.resplit_period == 0:
            seen_by_victim = self._update_split().images
        return self._report(meter, seen_by_victim)

    def _suppression_epoch(self, epoch: int) -> Report:
        """Train an epoch of stage 2: credible and pseudo-labelled suspicious samples, less the Victim's belief."""
        p = self.params
        weight = p.early_weight if epoch < p.suppression_epochs / 2 else p.late_weight
        meter = LossMeter(self.device)
        labelled = list(shuffled_batches(self._credible(), p.batch_size, self.generator))
        self._begin_epoch(p.mix_epochs + epoch, len(labelled))
        # The authors' code lets the size of a suspicious batch fall to 0 where there are few of them, and then fails.
        suspicious = self._suspicious() if weight and p.suppression != "filter" else self._suspicious()[:0]
        pairs = zip(labelled, spread(suspicious, len(labelled), self.generator), strict=True)
        for batch, others in self.ahead_in_pairs(pairs):
            known = self.targets[batch]
            if p.suppression in ("both", "credible"):
                known = suppress(known, self._belief(batch))
            images, targets = self._mixed(batch, known)
            views, guesses = self._pseudo_labelled(others)
            losses = self._suppression_losses(images, targets, views, guesses, weight)
            loss = self.step_in_passes(self.descent, losses)
            meter.add(loss, len(images) + len(views))
        return self._report(meter, self._update_split().images)

    def _suppression_losses(
        self, images: Tensor, targets: Tensor, views: Tensor, guesses: Tensor, weight: float
    ) -> Iterator[Tensor]:
        """Parts of the loss of a batch, one for each pass through the Beneficiary; each has its share of both."""
        passes = self.task.compute.passes(len(images) + len(views))
        own = zip(images.tensor_split(passes), targets.tensor_split(passes), strict=True)
        rest = zip(views.tensor_split(passes)[::-1], guesses.tensor_split(passes)[::-1], strict=True)
        for (mixed, wanted), (others, guessed) in zip(own, rest, strict=True):  # larger parts beside smaller ones
            logits = self.run_network(self.beneficiary, torch.cat([mixed, others])).logits
            loss = logits[:0].sum()  # a pass may lack one kind
            if len(mixed):
                loss = loss + len(mixed) / len(images) * soft_cross_entropy(logits[: len(mixed)], wanted)
            if len(others):
                share = len(others) / len(views)
                loss = loss + share * weight * soft_cross_entropy(logits[len(mixed) :], guessed)
            yield loss

    def _mixed(self, batch: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Two augmented views of each sample, mixed with partners drawn from all views: 2 M images and targets."""
        p = self.params
        views = [self.view(batch), self.view(batch)]
        images, targets = torch.cat(views), targets.repeat(2, 1)
        if p.mixing == "none":
            return images, targets
        partner = torch.randperm(len(images), device=self.device, generator=self.generator)
        if p.mixing == "attention":
            size = (images.shape[2], images.shape[3])
            with torch.no_grad():
                features = torch.cat([self.run_network(self.beneficiary, view).features for view in views])
            attention = attention_maps(features, size, p.upsampling)
            return attention_mix(images, targets, attention, partner, p.mask_threshold)
        keep = beta_draw(p.mix_beta, self.generator)
        if p.mixing == "mixup":
            return mixup(images, targets, partner, keep)
        return cutmix(images, targets, partner, keep, self.generator)

    @torch.no_grad()
    def _pseudo_labelled(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Two views of each suspicious sample, with the Beneficiary's pseudo-labels less the Victim's belief."""
        if len(batch) == 0:
            return self.normalise(self.images[batch]), self.targets[:0]
        views = [self.view(batch), self.view(batch)]
        # One view at a time, as the authors do; batch-norm cannot train on a single image, though.
        passes = views if len(batch) > 1 else [torch.cat(views)]
        passes = [part for view in passes for part in view.tensor_split(self.task.compute.passes(len(view)))]
        logits = torch.cat([self.run_network(self.beneficiary, images).logits.float() for images in passes])
        guess = logits.softmax(1).view(2, len(batch), -1).mean(0)
        targets = functional.one_hot(guess.argmax(1), self.targets.shape[1]).float()
        if self.params.suppression in ("both", "suspicious"):
            targets = suppress(targets, self._belief(batch))
        return torch.cat(views), targets.repeat(2, 1)

    def _belief(self, batch: Tensor) -> Tensor:
        """The Victim's softened prediction for images without augmentation: float (M, classes)."""
        return functional.softmax(self.tensors["victim_logits"][batch] / self.params.temperature, dim=1)

    def _begin_epoch(self, epoch: int, batches: int) -> None:
        """Begin an epoch of the Beneficiary, counted from 0 over both stages."""
        p = self.params
        self.descent.follow(p.rates(epoch, p.mix_epochs + p.suppression_epochs, batches))
        self.descent.train()

    def _report(self, meter: LossMeter, more_images: int = 0) -> Report:
        suspicion = 1 - normalise(self._scores()) if "entropy" in self.tensors else None
        model = self.descent.result() if self._stage > 0 else None
        return Report(meter.mean(), meter.images + more_images, model, suspicion, self.tensors.get("credible"))
