"""Base class of attacks: the samples that are poisoned, their trigger and labels, and the trigger at test time."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from trainers.attacks.artifact_cache import ArtifactCache
from trainers.attacks.labels import LabelMap
from trainers.data.image_set import ImageSet
from trainers.data.stored import PART, Images, with_replaced
from trainers.errors import ConfigError, RateError
from trainers.models import check_other
from trainers.params import Parameters
from trainers.seeding import derive_seed, seeded


@dataclass(frozen=True)
class PoisonedSet:
    """A poisoned training set, with the truth about each sample.

    Args:
        data: images and labels that the defender gets.
        poisoned: bool (N,), samples that plant the backdoor.
        cover: bool (N,), samples that carry a trigger and keep their true label; none of them is poisoned.
    """

    data: ImageSet
    poisoned: Tensor
    cover: Tensor


class Attack(ABC):
    """An attack on a training set, and the trigger that exploits it.

    A subclass must implement :meth:`trigger`. The rest has defaults for a plain dirty-label attack: clean-label
    attacks set ``clean_label``; attacks that train a surrogate or a generator do so in :meth:`prepare`; attacks whose
    trigger is weaker in training than at test time override :meth:`poison_images`; attacks with cover samples have a
    parameter ``cover_rate`` and may override :meth:`cover_images`; attacks that pick their samples override
    :meth:`choose`.

    Args:
        params: an instance of the class's ``Params``.
        label_map: all-to-one or all-to-all.
        shape: (C, H, W) of the images.
        seed: seeds every random draw of the attacker.

    Raises:
        ConfigError: the parameters do not fit images of this shape, or the label map.
    """

    name: ClassVar[str]
    Params: ClassVar[type[Parameters]]
    clean_label: ClassVar[bool] = False
    """Only images of the target class are poisoned, and no label is changed."""
    rate_of_target: ClassVar[bool] = False
    """The poison rate is a share of the target class, as published for SIG and CL, and not of the whole set."""

    def __init__(self, params: Any, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        self.params = params
        self.label_map = label_map
        self.shape = shape
        self.seed = seed
        if self.clean_label and label_map.target is None:
            raise ConfigError(
                f"{self.name} is a clean-label attack and needs a target class; all-to-all is not possible."
            )

    @abstractmethod
    def trigger(self, images: Tensor) -> Tensor:
        """Apply the test-time trigger to ``images``: uint8 (M, C, H, W) -> a new tensor of the same shape and type."""

    def check(self) -> None:
        """Check, before anything is trained, that the attacker's own network (``surrogate``) takes the images.

        Raises:
            ConfigError: it does not.
        """
        surrogate = getattr(self.params, "surrogate", None)
        if surrogate is not None:
            check_other("surrogate", surrogate, self.shape, self.label_map.num_classes)

    def prepare(self, clean: ImageSet, rate: float, artifacts: ArtifactCache) -> None:  # noqa: B027  (most need nothing)
        """Train what the attack needs (surrogate, generator) on the ``clean`` training set, to be poisoned at ``rate``.

        It is called before :meth:`trigger` and :meth:`poison`, and after :meth:`counts` has accepted the rate.
        """

    def poison_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Apply the trigger to poisoned training samples, by default as at test time: uint8 (M, C, H, W).

        It is called for some samples at a time, in their order. One draw at most, of as many rows as there are images,
        gives the same numbers however the samples are divided.

        Args:
            images: uint8 (M, C, H, W), clean.
            chosen: int64 (M,), indices of these samples in the training set, ascending.
            generator: for the attacker's random draws.
        """
        return self.trigger(images)

    def poison_labels(self, labels: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Labels of poisoned samples, given true ``labels``: int64 (M,). Other arguments as :meth:`poison_images`."""
        return labels if self.clean_label else self.target_of(labels)

    @property
    def cover_rate(self) -> float:
        """Cover samples as a share of the whole set; 0 if the attack has no such parameter."""
        return float(getattr(self.params, "cover_rate", 0.0))

    def cover_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Apply the trigger to cover samples, by default as to poisoned ones. Arguments as :meth:`poison_images`."""
        return self.poison_images(images, chosen, generator)

    def candidates(self, labels: Tensor) -> Tensor:
        """Samples that may be poisoned, given true ``labels``: bool (N,).

        A dirty-label attack poisons all classes but the target. Published code draws from all classes, so at the same
        poison rate more labels change here, by a factor of 1.11 with ten equal classes.
        """
        return labels.eq(self.label_map.target or 0) if self.clean_label else self.eligible(labels)

    def cover_candidates(self, labels: Tensor) -> Tensor:
        """Samples that may be cover samples unless they are poisoned, given true ``labels``: bool (N,)."""
        return torch.ones_like(labels, dtype=torch.bool)

    def eligible(self, labels: Tensor) -> Tensor:
        """Images that are triggered to measure attack success: bool (N,)."""
        return self.label_map.eligible(labels)

    def target_of(self, labels: Tensor) -> Tensor:
        """The label that triggered images of true ``labels`` should get: int64 (N,)."""
        return self.label_map.target_of(labels)

    def counts(self, labels: Tensor, rate: float) -> tuple[int, int]:
        """Number of poisoned samples and number of cover samples.

        Args:
            labels: int64 (N,), true.
            rate: share of the target class (if ``rate_of_target``) or of the whole set.

        Raises:
            RateError: the rate rounds to no sample, or asks for more samples than there are.
            ConfigError: the cover rate rounds to no sample or is too high, or the classes to poison have no images.
        """
        if rate == 0:
            return 0, 0
        may = self.candidates(labels)
        pool = int(may.sum())
        if pool == 0:
            known = (c for c in range(self.label_map.num_classes) if self._poisons_class(c))
            classes = " or ".join(map(self.label_map.label_of, known))
            raise ConfigError(f"{self.name} poisons images of class {classes}, but the data has none.")
        base = pool if self.rate_of_target else len(labels)
        poisoned, cover = _round(rate * base), _round(self.cover_rate * len(labels))
        if poisoned == 0:
            target = self.label_map.target or 0
            where = f" in the target class, {self.label_map.label_of(target)}" if self.rate_of_target else ""
            raise RateError(
                f"A poison_rate of {rate:g} rounds to no sample of {base}{where}; "
                f"allowed is {_ceil(0.5 / base):g} or more."
            )
        if self.cover_rate > 0 and cover == 0:
            raise ConfigError(
                f"A cover_rate of {self.cover_rate:g} rounds to no sample of {len(labels)}; "
                f"allowed is {_ceil(0.5 / len(labels)):g} or more."
            )
        if poisoned > pool:
            raise RateError(
                f"A poison_rate of {rate:g} is {poisoned} samples, but only {pool} can be poisoned by {self.name}."
            )
        covers = self.cover_candidates(labels)
        pool = int(covers.sum())
        if cover > pool:
            raise ConfigError(
                f"A cover_rate of {self.cover_rate:g} is {cover} samples, but only {pool} can be cover samples of "
                f"{self.name}."
            )
        if (covers & may).any() and poisoned + cover > pool:
            raise RateError(
                f"{poisoned} poisoned and {cover} cover samples are needed, but only {pool} samples can be used; "
                "lower poison_rate or cover_rate."
            )
        return poisoned, cover

    def _poisons_class(self, label: int) -> bool:
        return bool(self.candidates(torch.tensor([label])).any())

    def choose(self, clean: ImageSet, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indices of poisoned and of cover samples, int64 each; by default drawn from the candidates."""
        poisoned_count, cover_count = self.counts(clean.labels, rate)
        order = torch.randperm(len(clean), generator=generator)
        chosen = order[self.candidates(clean.labels)[order]][:poisoned_count]
        left = self.cover_candidates(clean.labels)
        left[chosen] = False
        return chosen, order[left[order]][:cover_count]

    def poison(self, clean: ImageSet, rate: float) -> PoisonedSet:
        """Poison a copy of ``clean``; the same seed gives the same bytes.

        Of images that are no tensor, only those that differ are new.

        Raises:
            ConfigError: as for :meth:`counts`, or the trigger changes no pixel of any image.
        """
        generator = seeded(derive_seed(self.seed, "poison"))
        chosen, covering = (indices.sort().values for indices in self.choose(clean, rate, generator))
        labels, count = clean.labels.clone(), len(chosen)
        made = torch.empty((count + len(covering), *clean.shape), dtype=torch.uint8)
        if count:
            if not _fill(made[:count], clean.images, chosen, self.poison_images, generator):
                raise ConfigError(f"The trigger of {self.name} is too faint: it changes no pixel of any image.")
            labels[chosen] = self.poison_labels(labels[chosen], chosen, generator)
        _fill(made[count:], clean.images, covering, self.cover_images, generator)
        images = with_replaced(clean.images, torch.cat([chosen, covering]), made)
        masks = [torch.zeros(len(clean), dtype=torch.bool).index_fill_(0, where, True) for where in (chosen, covering)]
        return PoisonedSet(ImageSet(images, labels, clean.class_names), *masks)


def _fill(
    made: Tensor,
    images: Images,
    chosen: Tensor,
    make: Callable[[Tensor, Tensor, torch.Generator], Tensor],
    generator: torch.Generator,
) -> bool:
    """Fill ``made``, uint8 (M, C, H, W), with what is made of the ``chosen`` images; whether any pixel differs."""
    differs = False
    for start in range(0, len(chosen), PART):
        some = chosen[start : start + PART]
        before = images[some]
        after = make(before, some, generator)
        differs = differs or not after.equal(before)
        made[start : start + PART] = after
    return differs


def _round(count: float) -> int:
    """``count`` rounded to the nearest whole number, halves up."""
    return math.floor(count + 0.5)


def _ceil(share: float) -> float:
    """``share`` rounded up to two significant digits, so that the rate named in a message is allowed."""
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return math.ceil(share / unit - 1e-9) * unit
