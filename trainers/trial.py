"""One trial: a defense with its parameters, trained and measured on every scenario and repeat."""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from trainers.card.need import need_in_a_sweep
from trainers.card.room import within
from trainers.compute import Compute, ComputeConfig, amp_as_it_was
from trainers.data.batches import Augmentation
from trainers.data.image_set import Splits
from trainers.defenses import DEFENSES
from trainers.defenses.base import Defense, Report, TrainingTask
from trainers.defenses.none import NoDefense
from trainers.defenses.parts.undefended import find_undefended, keep_undefended
from trainers.errors import ConfigError
from trainers.measuring.attack_cost import AttackCost
from trainers.measuring.evaluation import Measurement, Monitor
from trainers.models import ModelConfig
from trainers.params import changed
from trainers.scenario import Scenario, ScenarioConfig, build_scenario, scenario_seed
from trainers.seeding import derive_seed
from trainers.storage.object_store import Place
from trainers.storage.state_store import StateStore
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
    """

    scenario: ScenarioConfig
    repeat: int
    measurement: Measurement
    scores: dict[str, Tensor] | None
    poison_share: float
    n_eval: int
    cost: AttackCost
    final: bool


def run_trial(
    config: TrialConfig,
    splits: Splits,
    store: StateStore | None = None,
    gpu_share: float = 0.0,
    attack_cache: Place | None = None,
    undefended: Place | None = None,
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
        undefended: folder for the networks of controls, for defenses that begin with undefended training; null: each
            defense trains its own, with the same numbers.

    Raises:
        TrialError: a loss, a prediction or a score is not finite; or the memory of the trial's share of a GPU does not
            suffice.
    """
    compute = config.compute.open(gpu_share)
    kind = DEFENSES[config.defense]
    params = kind.Params(**config.params)
    with within(compute, gpu_share, lambda: need_in_a_sweep(kind, params, config.model, splits, compute)):
        yield from _run_all(config, splits, compute, store, attack_cache, undefended)


def _run_all(
    config: TrialConfig,
    splits: Splits,
    compute: Compute,
    store: StateStore | None,
    attack_cache: Place | None,
    undefended: Place | None,
) -> Iterator[EpochResult]:
    for number, (scenario_config, repeat) in enumerate(config.runs()):
        scenario = build_scenario(scenario_config, splits, config.sweep_seed, repeat, compute, attack_cache)
        seed = derive_seed(
            scenario_seed(scenario_config, config.sweep_seed, repeat), "training", config.model.changed()
        )
        kind = DEFENSES[config.defense]
        params = kind.Params(**config.params)
        wanted, before = kind.unlabelled(params), kind.undefended(params)
        task = TrainingTask(
            scenario.data,
            config.model,
            config.augmentation,
            compute,
            seed,
            None if wanted is None else unlabelled_images(wanted.source, splits, scenario.held_out),
            None if before is None or undefended is None
            else find_undefended(undefended / config.control(scenario_config, repeat, before).key),
        )  # fmt: skip
        defense = kind(params, task)
        kept = None if undefended is None else undefended / config.key
        yield from _run_one(defense, scenario, scenario_config, repeat, number, store, kept)
        del defense, task, scenario  # to free the GPU before the next run


def _run_one(
    defense: Defense,
    scenario: Scenario,
    config: ScenarioConfig,
    repeat: int,
    number: int,
    store: StateStore | None,
    kept: Place | None,
) -> Iterator[EpochResult]:
    total = sum(stage.epochs for stage in defense.stages())
    poison_share = int(scenario.truth.poisoned.sum()) / len(scenario.data)
    n_eval = len(scenario.truth.val.eligible)
    measured: list[Measurement] = []
    scores: dict[str, Tensor] | None = None

    def result(measurement: Measurement) -> EpochResult:
        final = measurement.epoch == total
        kept = scores if final else None
        return EpochResult(config, repeat, measurement, kept, poison_share, n_eval, scenario.cost, final)

    saved = store.load(number) if store else None
    if saved is not None:
        measured = [Measurement(**figures) for figures in saved["measured"]]
        scores = saved["scores"]
        for measurement in measured:
            yield result(measurement)
        if len(measured) == total:
            return
        defense.load(saved["defense"])
    seconds = measured[-1].seconds if measured else 0.0
    images = measured[-1].images_seen if measured else 0

    monitor = Monitor(scenario, defense.task.compute)
    started = time.perf_counter()
    for stage, report in defense.epochs():
        seconds += time.perf_counter() - started + report.seconds
        images += report.images_seen
        epoch = len(measured) + 1
        final = epoch == total
        figures = monitor.measure(
            report, epoch=epoch, stage=stage.name, images_seen=images, seconds=seconds, final=final
        )
        measured.append(figures)
        scores = _scores(report, scenario) if final else None
        if final and kept is not None and isinstance(defense, NoDefense):
            if store:
                store.check_owner()
            keep_undefended(kept, defense.network, measured)
        if store and store.due(final or defense.stage_ended):
            # A run that has ended keeps only its figures, since it is not trained again.
            state = None if final else defense.state()
            store.save(number, {"defense": state, "measured": [asdict(m) for m in measured], "scores": scores})
        yield result(figures)
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
