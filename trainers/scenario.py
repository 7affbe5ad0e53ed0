"""A scenario: an attack with its parameters, a poison rate and a target, turned into data and truth."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from trainers.attacks import ATTACKS, ArtifactCache, Attack, LabelMap
from trainers.compute import Compute
from trainers.data.class_names import class_number
from trainers.data.findings import SHOWN
from trainers.data.image_set import ImageSet, Splits
from trainers.data.stored import Gathered, Images, Mapped, Stored, made_of, subset, with_replaced
from trainers.data.subset import stratified_halves
from trainers.measuring.attack_cost import AttackCost
from trainers.params import Parameters, changed, param
from trainers.placement import settled
from trainers.seeding import derive_seed, seeded
from trainers.storage.object_store import Place
from trainers.unlabelled import HeldOut

# Which test images are for validation does not depend on the sweep: two sweeps on the same data share their test half.
HALVES_SEED = 20240417


@dataclass(frozen=True)
class ScenarioConfig(Parameters):
    """One attacker."""

    name: str = param(doc="what tables call it")
    attack: str = param(choices=tuple(ATTACKS), doc="the attack")
    poison_rate: float = param(0.1, ge=0, lt=1, doc="share of the target class for sig and cl, else of the whole set")
    labels: str = param("all_to_one", choices=("all_to_one", "all_to_all"), doc="what triggered images should become")
    target: int | str = param(0, names_class=True, doc="target class, by number or name; not used by all_to_all")
    params: dict[str, Any] = field(default_factory=dict)  # the attack's own

    def __post_init__(self) -> None:
        """Check the attack's own parameters too, and fill in their defaults."""
        super().__post_init__()
        own = ATTACKS[self.attack].Params
        for key in self.params:
            own.check(key, self.params[key])
        filled = own(**self.params)
        object.__setattr__(self, "params", filled.as_dict())

    def changed(self) -> dict[str, Any]:
        """As for all parameters; of the attack's own too, those that differ from their defaults."""
        return super().changed() | {"params": changed(ATTACKS[self.attack].Params, self.params)}

    @property
    def resolved_target(self) -> int | None:
        """The number of the target class; null for all-to-all. It must not be given by name."""
        return int(self.target) if self.labels == "all_to_one" else None

    def classes(self) -> dict[str, Any]:
        """The parameters that hold classes, with their values: the target, if it is used, and the attack's own."""
        target = {"target": self.target} if self.labels == "all_to_one" else {}
        return target | {key: self.params[key] for key in ATTACKS[self.attack].Params.class_keys()}

    def by_number(self, class_names: Sequence[str]) -> "ScenarioConfig":
        """The same attacker, with classes that are given by name as numbers: seeds, keys and records know numbers only.

        Raises:
            ConfigError: a name is that of no class.
        """

        def number(key: str, given: Any) -> Any:
            if isinstance(given, tuple):
                return tuple(number(key, one) for one in given)
            return class_number(key, given, class_names) if isinstance(given, str) else given

        own = {key: number(key, self.params[key]) for key in ATTACKS[self.attack].Params.class_keys()}
        return replace(self, target=number("target", self.target), params=self.params | own)

    def build_attack(self, data: ImageSet, seed: int) -> Attack:
        """The attack, for images like those of ``data``.

        Raises:
            ConfigError: the target is no class, or the attack does not fit the images.
        """
        known = self.by_number(data.class_names)
        target = known.resolved_target
        if target is not None:
            class_number("target", target, data.class_names)
        kind = ATTACKS[self.attack]
        channels, height, width = data.images.shape[1:]
        label_map = LabelMap(target, data.num_classes, data.class_names)
        return kind(kind.Params(**known.params), label_map, (channels, height, width), seed)


@dataclass(frozen=True)
class ProbeSet:
    """Held-out images to measure on, clean and triggered.

    Args:
        images: uint8 (N, C, H, W), clean.
        labels: int64 (N,), true.
        eligible: int64 (M,), indices of those that are triggered.
        triggered: uint8 (M, C, H, W), their triggered versions.
        targets: int64 (M,), what the attacker wants for them.
    """

    images: Images
    labels: Tensor
    eligible: Tensor
    triggered: Tensor | Gathered
    targets: Tensor

    @classmethod
    def build(cls, data: ImageSet, attack: Attack) -> "ProbeSet":
        """Trigger the eligible images of ``data``."""
        eligible = attack.eligible(data.labels).nonzero().squeeze(1)
        triggered = triggered_by(attack, subset(data.images, eligible))
        return cls(data.images, data.labels, eligible, triggered, attack.target_of(data.labels[eligible]))


def triggered_by(attack: Attack, images: Images) -> Tensor | Gathered:
    """The images with the trigger; those that are no tensor get it each time that they are asked for."""
    return Mapped(images, attack.trigger) if isinstance(images, Stored) else made_of(images, attack.trigger)


@dataclass(frozen=True)
class GroundTruth:
    """Which training samples are poisoned, and the triggered test images; only the evaluation looks at it.

    Args:
        poisoned: bool (N,), over the training set.
        cover: bool (N,), likewise.
        attacked: whether anything is poisoned; without that, attack success and detection are undefined.
        val: steers search, stopping and selection.
        test: for reports only.
    """

    poisoned: Tensor
    cover: Tensor
    attacked: bool
    val: ProbeSet
    test: ProbeSet


@dataclass(frozen=True)
class Scenario:
    """What a defense gets, and what the evaluation keeps.

    Args:
        data: the training set as the attacker hands it over.
        truth: which samples are poisoned, and the images to measure on.
        cost: what it cost the attacker.
        held_out: unlabelled images; null if none were set aside.
    """

    data: ImageSet
    truth: GroundTruth
    cost: AttackCost
    held_out: HeldOut | None = None


def build_scenario(
    config: ScenarioConfig,
    splits: Splits,
    sweep_seed: int,
    repeat: int,
    compute: Compute,
    cache: Place | None = None,
) -> Scenario:
    """Poison the training split, and cut and trigger the test split.

    The draws depend on the sweep's seed, the scenario and the repeat, never on the defense: every trial that meets the
    scenario meets the same bytes.

    Args:
        config: the attacker.
        splits: clean data.
        sweep_seed: the sweep's seed.
        repeat: the preset's seed.
        compute: where surrogates and generators are trained.
        cache: folder that keeps them; null: they are trained each time.

    Raises:
        ConfigError: the scenario does not fit the data.
    """
    config = config.by_number(splits.train.class_names)
    clean, halves = _settled(splits.train, compute), stratified_halves(splits.test.labels, HALVES_SEED)
    seed = scenario_seed(config, sweep_seed, repeat)
    attack = config.build_attack(splits.train, seed)
    attack.counts(splits.train.labels, config.poison_rate)
    # The word is part of the seed: another one would change every figure.
    artifacts = ArtifactCache(compute, derive_seed(sweep_seed, "workshop", repeat), cache)
    attack.prepare(clean, config.poison_rate, artifacts)
    poisoned = attack.poison(clean, config.poison_rate)
    val, test = (_settled(splits.test.subset(half), compute) for half in halves)
    attacked = bool(poisoned.poisoned.any())
    truth = GroundTruth(
        poisoned.poisoned, poisoned.cover, attacked, ProbeSet.build(val, attack), ProbeSet.build(test, attack)
    )
    share = int(poisoned.poisoned.sum()) / len(splits.train)
    aside = None if splits.held_out is None else _settled(splits.held_out, compute)
    held_out = None if aside is None else _held_out(aside, attack, share, derive_seed(seed, "held out"))
    cost = AttackCost.measure(clean, poisoned, compute.device)
    return Scenario(poisoned.data, truth, cost, held_out)


def _settled(images: ImageSet, compute: Compute) -> ImageSet:
    return images.moved(settled(images.images, compute))


def warn_of_classes_not_validated(splits: Splits) -> None:
    """Warn of classes that have test images, but none in the half for validation, by which settings are chosen."""
    half, _ = stratified_halves(splits.test.labels, HALVES_SEED)
    missing = sorted(set(splits.test.labels.tolist()) - set(splits.test.labels[half].tolist()))
    if missing:
        names = ", ".join(splits.test.class_names[label] for label in missing[:SHOWN])
        more = ", ..." if len(missing) > SHOWN else ""
        splits.findings.warn(
            f"{len(missing)} of {splits.test.num_classes} classes have test images, but none in the half for "
            f"validation: {names}{more}. Whether a setting loses them cannot be seen; use more test images of them."
        )


def _held_out(images: ImageSet, attack: Attack, share: float, seed: int) -> HeldOut:
    """Trigger a share of the images that the attack may trigger, as at test time."""
    eligible = attack.eligible(images.labels).nonzero().squeeze(1)
    count = min(round(share * len(images)), len(eligible))
    chosen = eligible[torch.randperm(len(eligible), generator=seeded(seed))[:count]]
    triggered = made_of(subset(images.images, chosen), attack.trigger)
    return HeldOut(images.images, with_replaced(images.images, chosen, triggered))


def scenario_seed(config: ScenarioConfig, sweep_seed: int, repeat: int) -> int:
    """Seed of the attacker's draws. The scenario's name is but a name, and a trigger's path a place: neither enters."""
    parts = config.changed() | {"target": config.resolved_target}
    del parts["name"]
    parts["params"].pop("trigger", None)
    return derive_seed(sweep_seed, "scenario", parts, repeat)
