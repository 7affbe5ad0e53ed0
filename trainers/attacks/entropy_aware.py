"""Entropy-aware: the attacker trains a Victim, and poisons so that this Victim cannot detect it.

V&B (arXiv 2404.11265) treats samples as poisoned if their prediction entropy under a briefly trained Victim is low.
This attack, which is this project's own, chooses the samples to poison and the opacity of each one's trigger in
training, so that the entropies of poisoned and of clean samples overlap. Its goal is a detection AUROC of 0.5 while an
undefended model still learns the backdoor. Cover rate and label noise are given; a search may vary them.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from trainers.attacks.artifact_cache import ArtifactCache
from trainers.attacks.blend import Blend, PatternParams
from trainers.attacks.labels import LabelMap
from trainers.data.augmentation import Augmentation
from trainers.data.image_set import ImageSet
from trainers.data.stored import Images, Mapped, subset
from trainers.defenses.base import TrainingTask
from trainers.defenses.parts.entropy import prediction_entropy
from trainers.defenses.vab import Vab, VabParams
from trainers.errors import ConfigError, RateError
from trainers.models import ModelConfig, check_network
from trainers.params import param
from trainers.placement import gathered
from trainers.seeding import derive_seed, seeded

LEVELS = 8
"""Number of opacities to choose from, evenly spaced from the lowest to the highest."""
POOL = 4
"""Number of candidates that are compared for each sample to be poisoned."""


@dataclass(frozen=True)
class EntropyAwareParams(PatternParams):
    """The attacker's choices; all of them can be searched."""

    alpha: float = param(0.2, gt=0, le=1, doc="opacity of the pattern at test time")
    low_alpha: float = param(0.05, gt=0, le=1, doc="lowest opacity of the pattern in training")
    high_alpha: float = param(0.2, gt=0, le=1, doc="highest opacity of the pattern in training")
    cover_rate: float = param(0.05, gt=0, lt=1, doc="cover samples (trigger, true label), as a share of the whole set")
    label_noise: float = param(0.0, ge=0, lt=1, doc="share of the poisoned samples that get a random wrong label")
    rounds: int = param(2, ge=1, doc="how often a Victim is trained and the samples and opacities are chosen again")
    surrogate: str = param("tiny", check=check_network, doc="network of the attacker's Victim")
    surrogate_steps: int = param(80, ge=1, doc="optimiser steps of the warm-up of the attacker's Victim")
    surrogate_lr: float = param(2e-3, gt=0, doc="learning rate of the attacker's Victim")

    def __post_init__(self) -> None:
        """Check the order of the opacities."""
        super().__post_init__()
        if self.low_alpha > self.high_alpha:
            raise ConfigError(f"low_alpha must be at most high_alpha, {self.high_alpha:g}, but got {self.low_alpha:g}.")


class EntropyAware(Blend):
    """Blend, with samples and opacities chosen by their entropies under the attacker's own Victim.

    A plan (poisoned samples, an opacity for each, cover samples) starts at random. Then ``rounds`` times: a Victim goes
    through V&B's warm-up on the set poisoned by the plan; the entropies of its clean samples are divided into as many
    quantiles as there are poisoned samples; and each quantile gets the candidate and the opacity whose entropy is
    nearest to it. The entropies of the poisoned samples then approximate the distribution of the clean ones'. Cover
    samples are drawn at random, with opacities drawn from those of the poisoned samples.
    """

    name: ClassVar[str] = "entropy_aware"
    Params = EntropyAwareParams
    params: EntropyAwareParams
    _plan: dict[str, Tensor]
    _planned_for: float

    def __init__(self, params: EntropyAwareParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        if params.label_noise > 0 and label_map.num_classes < 3:
            raise ConfigError(
                "label_noise needs three classes or more: a noisy label is neither the true one nor the target."
            )

    def prepare(self, clean: ImageSet, rate: float, artifacts: ArtifactCache) -> None:
        """Make the plan for this rate."""
        self._planned_for = rate
        pattern = self.pattern.flatten().tolist()  # a trigger file may have changed under the same name
        if self.pattern_opacity is not None:
            pattern += self.pattern_opacity.flatten().tolist()
        parts = [self.params.changed(), self.label_map.target, self.label_map.num_classes, rate, self.seed, pattern]
        self._plan = artifacts.made(
            "entropy-aware", [*parts, clean.fingerprint], lambda seed: self._planned(clean, rate, artifacts, seed)
        )

    def counts(self, labels: Tensor, rate: float) -> tuple[int, int]:
        """Number of poisoned and of cover samples; clean ones must remain, as the poisoned ones are matched to them."""
        poisoned, cover = super().counts(labels, rate)
        if poisoned + cover == len(labels):
            raise RateError(f"{poisoned} poisoned and {cover} cover samples leave none of {len(labels)} samples clean.")
        return poisoned, cover

    def choose(self, clean: ImageSet, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indices of the plan's poisoned and cover samples, int64 each; the plan is for one rate."""
        if rate != self._planned_for:
            raise ValueError(f"The plan is for a poison_rate of {self._planned_for:g}, but got {rate:g}.")
        return self._plan["poisoned"], self._plan["cover"]

    def poison_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Blend the pattern into ``images``, uint8 (M, C, H, W), at the plan's opacities."""
        opacity = self._plan["opacity"][chosen]
        return self.blended(images, opacity[:, None, None, None].to(images.device))

    def poison_labels(self, labels: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """The target label, or for a share of the samples a random label, neither the target nor the true one."""
        wanted = self.target_of(labels)
        classes = self.label_map.num_classes
        noisy = torch.randperm(len(labels), generator=generator)[: round(self.params.label_noise * len(labels))]
        draws = torch.rand(len(labels), classes, generator=generator)
        draws[torch.arange(len(labels)), labels] = -1.0
        draws[torch.arange(len(labels)), wanted] = -1.0
        wanted[noisy] = draws.argmax(1)[noisy]
        return wanted

    def _planned(self, clean: ImageSet, rate: float, artifacts: ArtifactCache, seed: int) -> dict[str, Tensor]:
        p, generator = self.params, seeded(seed)
        levels = torch.linspace(p.low_alpha, p.high_alpha, LEVELS)
        poisoned, cover = super().choose(clean, rate, generator)
        opacity = levels[torch.randint(LEVELS, (len(clean),), generator=generator)]
        self._plan = {"poisoned": poisoned, "cover": cover, "opacity": opacity}
        if len(poisoned) == 0:
            return self._plan
        for number in range(p.rounds):
            victim = self._victim(clean, rate, artifacts, derive_seed(seed, number))
            clean_mask = torch.ones(len(clean), dtype=torch.bool)
            clean_mask[poisoned], clean_mask[cover] = False, False
            wanted = self._entropies(victim, subset(clean.images, clean_mask))
            pool = self._pool(clean, len(poisoned), generator)
            plain = gathered(clean.images).subset(pool)
            offered = [Mapped(plain, partial(self.blended, opacity=float(a))) for a in levels]
            offers = torch.stack([self._entropies(victim, images) for images in offered], dim=1)
            picked, level = match(offers, wanted, len(poisoned))
            poisoned = pool[picked]
            opacity = opacity.clone()
            opacity[poisoned] = levels[level]
            # Cover samples get the opacities of poisoned ones.
            cover = self._cover(clean, poisoned, len(cover), generator)
            opacity[cover] = levels[level[torch.randint(len(level), (len(cover),), generator=generator)]]
            self._plan = {"poisoned": poisoned, "cover": cover, "opacity": opacity}
        return self._plan

    def _victim(self, clean: ImageSet, rate: float, artifacts: ArtifactCache, seed: int) -> Vab:
        """A Victim after V&B's warm-up on the set poisoned by the current plan."""
        p = self.params
        params = VabParams(warmup_steps=p.surrogate_steps, victim_lr=p.surrogate_lr, mix_epochs=1, suppression_epochs=0)
        data = self.poison(clean, rate).data
        model = ModelConfig(p.surrogate)
        defense = Vab(params, TrainingTask(data, model, Augmentation(crop=0, flip=False), artifacts.compute, seed))
        epochs = defense.epochs()
        for _ in range(params.warmup_rounds + 1):
            next(epochs)
        return defense

    @staticmethod
    def _entropies(victim: Vab, images: Images | Mapped) -> Tensor:
        """Entropy of the Victim's prediction for ``images``, uint8 (M, C, H, W): float (M,) on the CPU."""
        return prediction_entropy(victim.logits_of(victim.victim, images)).cpu()

    def _pool(self, clean: ImageSet, count: int, generator: torch.Generator) -> Tensor:
        """Candidates to choose ``count`` from: int64 (K,), K at least ``count``."""
        order = torch.randperm(len(clean), generator=generator)
        return order[self.candidates(clean.labels)[order]][: POOL * count]

    def _cover(self, clean: ImageSet, poisoned: Tensor, count: int, generator: torch.Generator) -> Tensor:
        order = torch.randperm(len(clean), generator=generator)
        left = self.cover_candidates(clean.labels)
        left[poisoned] = False
        return order[left[order]][:count]


def match(offers: Tensor, wanted: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Pick rows and columns of ``offers`` whose values are distributed as ``wanted``.

    Each of ``count`` quantiles of ``wanted``, the highest first, gets the nearest value of a row that is still free.

    Args:
        offers: float (K, L), the entropy of candidate k at level l.
        wanted: float (M,), the entropies to imitate.
        count: at most K.

    Returns:
        Rows and columns, int64 (count,) each.
    """
    shares = (torch.arange(count, dtype=wanted.dtype) + 0.5) / count
    goals = torch.quantile(wanted, shares).flip(0)
    free = torch.ones(len(offers), dtype=torch.bool)
    rows, columns = [], []
    for goal in goals:
        distance = (offers - goal).abs()
        distance[~free] = torch.inf
        best = int(distance.argmin())
        rows.append(best // offers.shape[1])
        columns.append(best % offers.shape[1])
        free[rows[-1]] = False
    return torch.tensor(rows, dtype=torch.int64), torch.tensor(columns, dtype=torch.int64)
