"""One trial: a defense with its parameters, trained and measured on every scenario and repeat."""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from trainers.card.need import need_in_a_sweep
from trainers.card.room import within
from trainers.compute import Compute, ComputeConfig, amp_as_it_was
from trainers.data.augmentation import Augmentation
from trainers.data.image_set import Splits
from trainers.defenses import DEFENSES
from trainers.defenses.base import Report, Stage, TrainingTask
from trainers.errors import ConfigError
from trainers.measuring.attack_cost import AttackCost
from trainers.measuring.evaluation import Measurement, Monitor, not_final
from trainers.models import ModelConfig
from trainers.params import changed
from trainers.scenario import Scenario, ScenarioConfig, build_scenario, scenario_seed
from trainers.seeding import derive_seed
from trainers.start import Start, begin_run
from trainers.storage.object_store import Place
from trainers.storage.state_store import StateStore
from trainers.storage.trunks import Kept, TrunkFile, keep_trunk, kept_before
from trainers.unlabelled import unlabelled_images


@dataclass(frozen=True)
class TrialConfig:
    """Everything that determines a trial's figures.

    Args:
        data_fingerprint: fingerprint of the splits.
        model: the network.
        augmentation: augmentation of training images.
        defense: name of the defense.
        params: parameters of the defense; those left out take their defaults.
        scenarios: the attackers.
        repeats: the preset's seeds.
        sweep_seed: the sweep's seed.
        compute: device, threads and numeric format.
    """

    data_fingerprint: str
    model: ModelConfig
    augmentation: Augmentation
    defense: str
    params: dict[str, Any]
    scenarios: tuple[ScenarioConfig, ...]
    repeats: tuple[int, ...]
    sweep_seed: int
    compute: ComputeConfig

    def __post_init__(self) -> None:
        """Check the defense's parameters, and fill in their defaults."""
        if self.defense not in DEFENSES:
            raise ConfigError(f"defense must be one of {', '.join(DEFENSES)}, but got {self.defense}.")
        kind = DEFENSES[self.defense].Params
        for key, value in self.params.items():
            kind.check(key, value)
        filled = kind(**self.params)
        object.__setattr__(self, "params", filled.as_dict())

    @property
    def key(self) -> str:
        """Key of the whole configuration: trials with the same key have the same figures."""
        return _digest(changed(type(self), vars(self)) | {"params": self._changed_params()})

    @property
    def setting_key(self) -> str:
        """Key of what the defender chose, defense and parameters; it does not depend on the attacker."""
        return _digest([self.defense, self._changed_params()])

    def stages(self) -> list[Stage]:
        """The stages of each of its trainings."""
        kind = DEFENSES[self.defense]
        return kind.stages(kind.Params(**self.params))

    def trunk(self, stages: int) -> str:
        """All that the result of the first ``stages`` of its trainings depends on, as JSON."""
        kind = DEFENSES[self.defense]
        trunk = kind.trunk(kind.Params(**self.params), stages)
        return json.dumps(changed(type(self), vars(self)) | asdict(trunk), sort_keys=True)

    def _changed_params(self) -> dict[str, Any]:
        return changed(DEFENSES[self.defense].Params, self.params)

    def to_json(self) -> str:
        """The configuration as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "TrialConfig":
        """Read what :meth:`to_json` wrote.

        Raises:
            ConfigError: a value is not allowed.
        """
        fields = json.loads(text)
        fields["model"] = ModelConfig(**fields["model"])
        fields["augmentation"] = Augmentation(**fields["augmentation"])
        fields["scenarios"] = tuple(ScenarioConfig(**scenario) for scenario in fields["scenarios"])
        fields["repeats"] = tuple(fields["repeats"])
        fields["compute"] = ComputeConfig(**fields["compute"] | {"amp": amp_as_it_was(fields["compute"]["amp"])})
        return cls(**fields)

    def runs(self) -> list[tuple[ScenarioConfig, int]]:
        """Every scenario with every repeat."""
        return [(scenario, repeat) for scenario in self.scenarios for repeat in self.repeats]

    def control(self, scenario: ScenarioConfig, repeat: int, params: dict[str, Any]) -> "TrialConfig":
        """Configuration of the control of one resolved scenario: the same run without a defense."""
        return replace(self, defense="none", params=params, scenarios=(scenario,), repeats=(repeat,))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class SharedTrunk:
    """The first stages of a training, which others share: it begins at their end if one of these has kept that.

    Args:
        folder: of the trunks.
        stages: how many they are.
    """

    folder: Place
    stages: int

    def of(self, config: TrialConfig) -> TrunkFile:
        """The file of the trunk of a training."""
        identity, lengths = config.trunk(self.stages), [stage.epochs for stage in config.stages()]
        epochs = sum(lengths[: self.stages])
        return TrunkFile(self.folder / trunk_file(identity), identity, epochs, epochs == sum(lengths))


def trunk_file(identity: str) -> str:
    """Name of the file of a trunk, by what :meth:`TrialConfig.trunk` says of it."""
    return f"{_digest(identity)}.safetensors"


@dataclass(frozen=True)
class EpochResult:
    """Result of one epoch of a trial.

    Args:
        scenario: the attacker of this run.
        repeat: the preset's seed of this run.
        measurement: the figures.
        scores: columns of per-sample scores, at the final epoch of a run; else null.
        poison_share: poisoned samples as a share of the whole training set.
        n_eval: triggered validation images.
        cost: what the attack changed, and how visibly.
        final: whether the run ends here.
        kept: at the end of a trunk, whether it is kept for others; else null.
    """

    scenario: ScenarioConfig
    repeat: int
    measurement: Measurement
    scores: dict[str, Tensor] | None
    poison_share: float
    n_eval: int
    cost: AttackCost
    final: bool
    kept: Kept | None = None


def run_trial(
    config: TrialConfig,
    splits: Splits,
    store: StateStore | None = None,
    gpu_share: float = 0.0,
    attack_cache: Place | None = None,
    trunk: SharedTrunk | None = None,
) -> Iterator[EpochResult]:
    """Train and measure on every scenario and repeat, one epoch at a time.

    If ``store`` holds states of an earlier attempt, the trial continues from these. Epochs measured before the last
    state are yielded again, so every attempt yields every epoch.

    Args:
        config: the trial.
        splits: the data; its fingerprint is that of the configuration.
        store: where states are kept.
        gpu_share: GPUs reserved for the trial.
        attack_cache: folder for the surrogates and generators of attacks; null: they are trained for each run.
        trunk: of a trial with one run: the stages that it shares with others; null: it shares none, and its numbers are
            the same.

    Raises:
        TrialError: a loss, a prediction or a score is not finite; or the memory of the trial's share of a GPU does not
            suffice.
    """
    compute = config.compute.open(gpu_share)
    kind = DEFENSES[config.defense]
    params = kind.Params(**config.params)
    with within(compute, gpu_share, lambda: need_in_a_sweep(kind, params, config.model, splits, compute)):
        yield from _run_all(config, splits, compute, store, attack_cache, trunk)


def _run_all(
    config: TrialConfig,
    splits: Splits,
    compute: Compute,
    store: StateStore | None,
    attack_cache: Place | None,
    trunk: SharedTrunk | None,
) -> Iterator[EpochResult]:
    shared = None if trunk is None else trunk.of(config)
    for number, (scenario_config, repeat) in enumerate(config.runs()):
        scenario = build_scenario(scenario_config, splits, config.sweep_seed, repeat, compute, attack_cache)
        seed = derive_seed(
            scenario_seed(scenario_config, config.sweep_seed, repeat), "training", config.model.changed()
        )
        kind = DEFENSES[config.defense]
        params = kind.Params(**config.params)
        wanted = kind.unlabelled(params)
        task = TrainingTask(
            scenario.data,
            config.model,
            config.augmentation,
            compute,
            seed,
            None if wanted is None else unlabelled_images(wanted.source, splits, scenario.held_out),
        )
        start = begin_run(partial(kind, params, task), store, number, shared)
        yield from _run_one(start, scenario, scenario_config, repeat, number, store, shared)
        del start, task, scenario  # to free the GPU before the next run


def _run_one(
    start: Start,
    scenario: Scenario,
    config: ScenarioConfig,
    repeat: int,
    number: int,
    store: StateStore | None,
    shared: TrunkFile | None,
) -> Iterator[EpochResult]:
    defense, measured, scores = start.defense, start.measured, start.scores
    total = sum(stage.epochs for stage in defense.stages(defense.params))
    poison_share = int(scenario.truth.poisoned.sum()) / len(scenario.data)
    n_eval = len(scenario.truth.val.eligible)

    def result(measurement: Measurement, kept: Kept | None) -> EpochResult:
        final = measurement.epoch == total
        own = scores if final else None
        return EpochResult(config, repeat, measurement, own, poison_share, n_eval, scenario.cost, final, kept)

    for figures in list(measured):
        at_trunk = shared is not None and figures.epoch == shared.epochs
        yield result(figures, kept_before(shared) if shared and at_trunk else None)
    if len(measured) == total:
        return
    last = measured[-1] if measured else Measurement(0, "", None, 0, 0.0)
    seconds, images = last.seconds, last.images_seen

    monitor = Monitor(scenario, defense.task.compute, defense.task.model)
    started = time.perf_counter()
    for stage, report in defense.epochs():
        seconds += time.perf_counter() - started
        images += report.images_seen
        epoch = len(measured) + 1
        final = epoch == total
        figures = monitor.measure(
            report, epoch=epoch, stage=stage.name, images_seen=images, seconds=seconds, final=final
        )
        measured.append(replace(figures, seconds_shared=last.seconds_shared))
        scores = _scores(report, scenario) if final else None
        kept = None
        if shared is not None and epoch == shared.epochs:
            if store:
                store.check_owner()
            kept = keep_trunk(shared, defense.state(), [asdict(not_final(m)) for m in measured])
        if store and store.due(final or defense.stage_ended):
            # A run that has ended keeps only its figures, since it is not trained again.
            state = None if final else defense.state()
            store.save(number, {"defense": state, "measured": [asdict(m) for m in measured], "scores": scores})
        yield result(measured[-1], kept)
        started = time.perf_counter()


def _scores(report: Report, scenario: Scenario) -> dict[str, Tensor] | None:
    """Per-sample scores beside the truth, for the record."""
    if report.suspicion is None or report.credible is None:
        return None
    return {
        "label": scenario.data.labels,
        "suspicion": report.suspicion.float().cpu(),
        "credible": report.credible.cpu(),
        "poisoned": scenario.truth.poisoned,
        "cover": scenario.truth.cover,
    }
