"""The sweep as its preset describes it, validated."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from search_spaces.distributions import MOST_VALUES, Searched
from search_spaces.loader import PresetError
from sweeper.preset.blocks import DEFENSE, NAME_PATTERN, Block, Choose, defense_block, scenario_block, scenario_config
from sweeper.preset.misfits import Misfits
from sweeper.preset.objectives import ATTACK_SUCCESS, BELOW_CONTROL, UNDER_ATTACK, Constraint, Objective
from trainers.compute import ComputeConfig
from trainers.data import DataConfig, load_data
from trainers.data.augmentation import Augmentation
from trainers.data.image_set import Splits
from trainers.defenses import DEFENSES
from trainers.defenses.base import Defense
from trainers.defenses.none import NoDefense, NoneParams
from trainers.errors import ConfigError
from trainers.models import ModelConfig, check_model, interpolation_of, settle
from trainers.params import LARGEST, Parameters
from trainers.scenario import ScenarioConfig, warn_of_classes_not_validated
from trainers.text import did_you_mean
from trainers.trial import TrialConfig
from trainers.unlabelled import check_unlabelled, with_elsewhere

P = TypeVar("P", bound=Parameters)
SCENARIO = "scenario"
"""Name, in the study, of the parameter that chooses a scenario."""
DEFAULT_RACE: Literal["bounds", "learned"] = "learned"
"""What ``benchmarks/replay.py`` favours."""


def read_parameters(kind: type[P]) -> Callable[[Any], P]:
    """A validator for pydantic that lets the dataclass check itself, so that its errors read the same everywhere."""

    def build(value: Any) -> P:
        if isinstance(value, kind):
            return value
        if not isinstance(value, dict):
            raise ConfigError(f"must be a mapping of {', '.join(kind.keys())}, but got {value!r}.")
        for key, item in value.items():
            kind.check(str(key), item)
        return kind(**value)

    return build


def _read(kind: type[P]) -> BeforeValidator:
    return BeforeValidator(read_parameters(kind))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


def _off(value: Any) -> Any:
    """YAML reads ``off`` as false."""
    return "off" if value is False else value


def read_amp(value: Any) -> Any:
    """``amp`` in its words. YAML reads ``on`` and ``off`` as true and false.

    Raises:
        ConfigError: it is none of them.
    """
    return ComputeConfig.check("amp", {True: "on", False: "off"}[value] if isinstance(value, bool) else value)


class Search(_Strict):
    """How the space is searched."""

    sampler: Literal["tpe", "nsga2", "gp", "random", "grid"] = Field(
        default="tpe", description="how settings are proposed; grid trains every combination"
    )
    trials: int = Field(default=8, ge=1, description="number of trials, controls not counted")
    time_budget: float | None = Field(
        default=None, gt=0, description="minutes after which the sweep ends; null: no limit"
    )
    scheduler: Literal["none", "asha"] = Field(
        default="none",
        description="asha stops a training that falls behind others of the same scenario and seed at an equal share of "
        "its epochs, and its trial with it; none stops no training",
    )
    grace: float = Field(
        default=0.25, gt=0, lt=1, description="share of its epochs before which asha stops no training"
    )
    race: Annotated[Literal["off", "bounds", "learned"] | None, BeforeValidator(_off)] = Field(
        default=None,
        description="how a trial leaves before all of its trainings have run, once the missing ones could not put it "
        "on the frontier below the interest: never (off), by the accuracy of its controls (bounds), or by its own "
        "figures so far too (learned); null: learned, where the objectives allow it",
    )
    interest: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="attack objective above which nobody would deploy a setting: its trial leaves the race; attackers' "
        "sweeps ignore it",
    )
    branches: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="settings that are proposed together: they differ only in what later stages of the defense read, "
        "and share the training of the stages before, their trunk; 1: each setting is trained from its beginning",
    )
    workers: int | None = Field(default=None, ge=1, description="trainings at a time; null: as many as resources allow")
    retries: int = Field(default=1, ge=0, description="how often a crashed training is tried again")
    scenarios: Literal["all", "one"] = Field(
        default="all", description="whether a trial meets all scenarios, or one of them"
    )
    defenses: Literal["free", "turns"] = Field(
        default="free",
        description="with several defenses: the sampler chooses (free), or each is searched by itself with as many "
        "trials as any other (turns)",
    )
    min_poisoned: int | None = Field(
        default=None,
        ge=1,
        description="leave out poison rates that poison fewer images, and name them; needs search.scenarios: one",
    )


class Resources(_Strict):
    """What Ray reserves for a trial."""

    cpu: int = Field(default=1, ge=1, description="CPUs of a trial, and its number of threads")
    gpu: float = Field(
        default=0.0,
        ge=0,
        description="GPUs of a trial; below 1: a share of one GPU and of its memory, as doctor proposes it",
    )
    custom: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="custom resources that hosts were started with, to choose among kinds of hosts"
    )

    def by_name(self) -> dict[str, float]:
        """All resources by Ray's names."""
        return {"CPU": self.cpu, "GPU": self.gpu, **self.custom}


def _defense_blocks(value: Any) -> list[Block]:
    blocks = [defense_block(raw) for raw in (value if isinstance(value, list) else [value])]
    kinds = [block.kind for block in blocks]
    if not blocks or len(set(kinds)) < len(kinds):
        raise ConfigError("must list at least one defense, each once.")
    return blocks


class SweepSpec(_Strict):
    """A whole preset.

    ``defense`` is one block or a list of them; with a list the defense itself is searched.
    """

    name: str = Field(pattern=f"^{NAME_PATTERN}$", description="name of the sweep: letters, digits, dots, - and _")
    seed: int = Field(default=0, ge=0, le=LARGEST, description="seed of the search and of every draw in the sweep")
    data: Annotated[DataConfig, _read(DataConfig)] = DataConfig()
    model: Annotated[ModelConfig, _read(ModelConfig)] = ModelConfig()
    augment: Annotated[Augmentation, _read(Augmentation)] = Augmentation()
    defense: Annotated[list[Block], BeforeValidator(_defense_blocks)] = Field(
        description="one defense, {name: vab, ...}, or a list of them; with a list the defense itself is searched"
    )
    control: Annotated[NoneParams, _read(NoneParams)] = NoneParams()
    scenario_defaults: dict[str, Any] = Field(
        default={}, description="keys that all scenarios take unless they give their own"
    )
    scenarios: list[Any] = Field(min_length=1, description="the attackers, each {attack: badnets, ...}")
    seeds: list[Annotated[int, Field(ge=0, le=LARGEST)]] = Field(
        default=[0], min_length=1, description="every trial is trained once with each seed"
    )
    objectives: list[Objective] = Field(
        default=[
            Objective(metric="val_acc", direction="maximize"),
            Objective(metric="val_asr_excess", direction="minimize"),
        ],
        min_length=1,
        description="figures to maximize or minimize; by default val_acc up and val_asr_excess down",
    )
    constraints: list[Constraint] = Field(
        default=[], description="bounds on figures; settings that violate one are excluded from the frontier"
    )
    search: Search = Search()
    resources: Resources = Resources()
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where to compute; auto: a GPU if the trial reserves a share of one"
    )
    amp: Annotated[Literal["auto", "on", "off"] | None, BeforeValidator(read_amp)] = Field(
        default=None,
        description="bfloat16 autocast: on, off, auto (on CUDA, and on a CPU that computes in bfloat16: AVX512-BF16 or "
        "AMX), or null (on CUDA only); auto is decided where the sweep starts, for all of its trainings",
    )
    compile: bool = Field(default=False, description="compile the networks with torch.compile")
    cuda_graphs: bool = Field(
        default=False, description="run whole batches as CUDA graphs, which need one launch; needs compile: true"
    )
    fused: bool = Field(default=True, description="update all weights in one kernel, on CUDA only")
    autotune: bool = Field(
        default=False,
        description="cuDNN times its algorithms for each new batch size, on CUDA only; the last digits may differ",
    )
    pass_images: int | None = Field(
        default=None,
        ge=8,
        le=LARGEST,
        description="most images in one pass of a training step; where suspicious samples make a step larger, it is "
        "divided into passes whose gradients are added; null: 4096 on CUDA, no limit on a CPU",
    )
    state_every_s: float = Field(default=60.0, gt=0, description="seconds between saved states of a trial")

    @model_validator(mode="after")
    def _check_whole(self) -> "SweepSpec":
        blocks = self.scenario_blocks
        names = [block.values["name"] for block in blocks]
        if len(set(names)) < len(names):
            raise ValueError("scenarios: two scenarios have the same name; give each a name of its own.")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed is listed twice.")
        if self.device == "cuda" and self.resources.gpu == 0:
            raise ValueError("device: cuda needs resources.gpu above 0, so that Ray reserves a GPU for each trial.")
        if self.cuda_graphs and not self.compile:
            raise ValueError("cuda_graphs needs compile: true.")
        if self.search.min_poisoned is not None and self.search.scenarios == "all":
            raise ValueError("search.min_poisoned needs search.scenarios: one, since rates are left out one by one.")
        if self.search.defenses == "turns" and (len(self.defense) < 2 or self.search.sampler in ("grid", "nsga2")):
            raise ValueError("search.defenses: turns needs several defenses, and one of the samplers tpe, gp, random.")
        for name, searched in self.environment().items():
            if searched.grid() is None:
                raise ValueError(
                    f"scenarios: {name} is continuous, or has more than {MOST_VALUES} values, but settings are "
                    "compared value by value; give it a step or a few choices."
                )
        if self.search.sampler == "grid":
            for name, searched in self.space().items():
                if searched.grid() is None:
                    raise ValueError(
                        f"search.sampler: grid needs steps, but {name} is continuous, or has more than {MOST_VALUES} "
                        "values; give it a step."
                    )
        self._check_objectives(blocks)
        return self

    def _check_objectives(self, blocks: list[Block]) -> None:
        for i, objective in enumerate(self.objectives):
            where = f"objectives.{i}"
            if objective.metric == "control_asr":
                raise ValueError(f"{where}: control_asr says nothing about the defense; it may be a constraint only.")
            if objective.metric == "images_seen":
                raise ValueError(f"{where}: images_seen is a budget; it may be a constraint only.")
            if objective.metric == "poison_rate" and (objective.direction, self.attacking) != ("minimize", True):
                raise ValueError(f"{where}: poison_rate may only be minimized, beside attack success maximized.")
        metrics = {o.metric for o in self.objectives} | {c.metric for c in self.constraints}
        every = [_smallest(block.values.get("poison_rate", 0.1)) > 0 for block in blocks]
        # Where a trial meets one scenario, each must give the figure.
        attacked = all(every) if self.search.scenarios == "one" else any(every)
        undefined = metrics & {*UNDER_ATTACK, "control_asr"}
        if undefined and not attacked:
            figure = sorted(undefined)[0]
            which = "each" if self.search.scenarios == "one" else "one"
            raise ValueError(
                f"scenarios: {figure} is undefined unless {which} has a poison_rate that is always above 0."
            )
        if self.search.race not in (None, "off") and not self.can_race:
            names = ", ".join(objective.metric for objective in self.objectives)
            raise ValueError(
                f"search.race: {self.search.race} needs an accuracy or attack success among the objectives, since "
                f"nothing bounds {names} before it is measured; set it to off."
            )
        if self.attacking:
            own = {name for block in blocks for name, _ in block.searched()} | {SCENARIO}
            other = [name for name in self.space() if name not in own]
            if other:
                raise ValueError(
                    "defense: attack success is maximized, so this is an attacker's sweep, against one defense; "
                    f"{other[0]} must have one value."
                )

    @property
    def can_race(self) -> bool:
        """Whether any objective can be bounded before all trainings of a trial have run."""
        return any(objective.metric in (*ATTACK_SUCCESS, *BELOW_CONTROL) for objective in self.objectives)

    @property
    def race(self) -> Literal["bounds", "learned"] | None:
        """How trials leave their races; null if they do not."""
        wanted = self.search.race or (DEFAULT_RACE if self.can_race else "off")
        return None if wanted == "off" else wanted

    @property
    def attacking(self) -> bool:
        """Whether this is an attacker's sweep, which maximizes attack success."""
        return any(o.metric in ATTACK_SUCCESS and o.direction == "maximize" for o in self.objectives)

    @property
    def attack_metric(self) -> str:
        """The metric of an attack's success that is an objective, the maximized one first; else ``val_asr_excess``."""
        known = sorted(self.objectives, key=lambda objective: objective.direction != "maximize")
        return next((o.metric for o in known if o.metric in ATTACK_SUCCESS), "val_asr_excess")

    @cached_property
    def scenario_blocks(self) -> list[Block]:
        """The scenarios, with ``scenario_defaults`` filled in."""
        blocks = []
        for number, raw in enumerate(self.scenarios):
            try:
                blocks.append(scenario_block(raw, self.scenario_defaults))
            except ConfigError as error:
                raise ValueError(f"scenarios.{number}.{error}") from error
        return blocks

    def space(self) -> dict[str, Searched]:
        """Every searched parameter by its name in the study. A list of defenses is the parameter ``defense``."""
        space: dict[str, Searched] = {}
        if len(self.defense) > 1:
            space[DEFENSE] = Searched("categorical", tuple(block.kind for block in self.defense))
        blocks = self.scenario_blocks
        if self.search.scenarios == "one":
            space[SCENARIO] = Searched("categorical", tuple(block.values["name"] for block in blocks))
        for block in [*self.defense, *blocks]:
            space.update(block.searched())
        return space

    def environments(self) -> list[dict[str, Searched]]:
        """For each attacker of a defender's sweep: its searched parameters, which trials take in turn.

        With ``search.scenarios: one`` each scenario is an attacker, and the trials take turns in meeting them.
        """
        if self.attacking or self.search.sampler == "grid":
            return [{}]
        blocks = self.scenario_blocks
        if self.search.scenarios == "all":
            return [{name: searched for block in blocks for name, searched in block.searched()}]
        return [{SCENARIO: Searched("categorical", (b.values["name"],)), **dict(b.searched())} for b in blocks]

    def turns(self) -> tuple[str, ...]:
        """The defenses that take turns; none if the sampler chooses, or if there is only one."""
        return tuple(block.kind for block in self.defense) if self.search.defenses == "turns" else ()

    def environment(self) -> dict[str, Searched]:
        """The parameters of all :meth:`environments` together."""
        return {name: searched for part in self.environments() for name, searched in part.items()}

    def trial(self, choose: Choose, fingerprint: str) -> TrialConfig:
        """The trial that ``choose`` picks from the space, on data of this ``fingerprint``.

        Raises:
            ConfigError: the values do not go together.
        """
        space = self.space()
        kind = choose(DEFENSE, space[DEFENSE]) if len(self.defense) > 1 else self.defense[0].kind
        block = next(block for block in self.defense if block.kind == kind)
        scenarios = self.scenario_blocks
        if self.search.scenarios == "one":
            name = choose(SCENARIO, space[SCENARIO])
            scenarios = [scenario for scenario in scenarios if scenario.values["name"] == name]
        return TrialConfig(
            data_fingerprint=fingerprint,
            model=self.model,
            augmentation=self.augment,
            defense=kind,
            params=block.draw(choose),
            scenarios=tuple(scenario_config(b.kind, b.draw(choose)) for b in scenarios),
            repeats=tuple(self.seeds),
            sweep_seed=self.seed,
            compute=self.compute,
        )

    @property
    def compute(self) -> ComputeConfig:
        """Device, threads and numeric format of every training."""
        return ComputeConfig(
            device=self.device,
            threads=self.resources.cpu,
            amp=self.amp,
            compile=self.compile,
            cuda_graphs=self.cuda_graphs,
            fused=self.fused,
            autotune=self.autotune,
            pass_images=self.pass_images,
        )

    def load(self) -> Splits:
        """Load the data, and the images without labels that a defense takes from another source.

        Raises:
            ConfigError: a source is unknown or cannot be read.
        """
        wanted = [defense.unlabelled(params) for defense, params in self.corner_settings()]
        sources = {images.source for images in wanted if images is not None}
        data = self.images
        splits = with_elsewhere(load_data(data), sources, data)
        warn_of_classes_not_validated(splits)
        return splits

    @property
    def images(self) -> DataConfig:
        """How images are read: resized as those with which the network's weights were trained, unless it says how."""
        return replace(self.data, interpolation=self.data.interpolation or interpolation_of(self.model))

    def settled(self, splits: Splits) -> "SweepSpec":
        """The sweep with what its network's weights say written out: digest, mean, deviation and interpolation.

        Args:
            splits: its data.

        Raises:
            ConfigError: there are no such weights.
        """
        return self.model_copy(update={"data": self.images, "model": settle(self.model, splits.train.shape[0])})

    def trigger_images(self) -> list[str]:
        """Paths of the files from which attackers take their triggers."""
        drawn = (scenario_config(block.kind, values) for block in self.scenario_blocks for values in _extremes(block))
        return sorted({config.params["trigger"] for config in drawn if config.params.get("trigger") is not None})

    def corner_settings(self) -> Iterator[tuple[type[Defense], Any]]:
        """Each defense with its parameters at both ends of every range, and with every choice."""
        for block in self.defense:
            defense = DEFENSES[block.kind]
            for drawn in _extremes(block):
                with _named(f"defense {block.kind}"):
                    params = defense.Params(**drawn)
                yield defense, params

    def check_against(self, splits: Splits, misfits: Misfits) -> None:
        """Check what only the data can tell, for both ends of every range and for every choice.

        Args:
            splits: the data.
            misfits: what was found not to fit before; it gets what is found here.

        Raises:
            ConfigError: something does not fit: a target that is no class, a trigger larger than the images, a rate of
                no sample, a part that the network does not have, ... All that does not fit is named.
        """
        check_model(self.model, splits.train.shape, splits.train.num_classes)
        blocks = self.scenario_blocks
        for defense, params in self.corner_settings():
            with misfits.of(f"defense {defense.name}"):
                defense.check(params, splits.train, self.model)
                wanted = defense.unlabelled(params)
                if wanted is not None:
                    check_unlabelled(wanted, splits)
        with misfits.of("control"):
            NoDefense.check(self.control, splits.train, self.model)
        for block in blocks:
            with misfits.of_scenario(block.values["name"]):
                for drawn in _extremes(block):
                    config: ScenarioConfig = scenario_config(block.kind, drawn)
                    attack = config.build_attack(splits.train, seed=0)
                    attack.check()
                    attack.counts(splits.train.labels, config.poison_rate)
        misfits.refuse()


@contextmanager
def _named(part: str) -> Iterator[None]:
    """Put the part of the preset that an error is about in front of its message."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{part}: {error}") from error


def _extremes(block: Block) -> Iterator[dict[str, Any]]:
    """Values of a block at each corner of its ranges; and the highest poison rate with the highest cover rate."""
    most = max((len(searched.corners()) for _, searched in block.searched()), default=1)
    for pick in range(most):
        yield block.draw(lambda _, searched, pick=pick: searched.corners()[pick % len(searched.corners())])  # type: ignore[misc]
    if all(isinstance(block.values.get(name), Searched) for name in ("poison_rate", "cover_rate")):
        yield block.draw(lambda _, searched: max(searched.corners(), key=_size))


def _size(value: Any) -> float:
    """The number by which corners are ordered; values that are no number come first."""
    return float(value) if isinstance(value, (int, float)) else -math.inf


def _smallest(value: Any) -> float:
    return float(min(value.corners()) if isinstance(value, Searched) else value)


def validate(preset: dict[str, Any], where: str) -> SweepSpec:
    """Validate a preset read from ``where``.

    Raises:
        PresetError: one sentence with the file, the key and what is allowed.
    """
    try:
        return SweepSpec.model_validate(preset)
    except ValidationError as error:
        raise PresetError(f"{where}: {_first_problem(error)}") from error


def resolve(spec: SweepSpec, preset: dict[str, Any]) -> dict[str, Any]:
    """The preset with the defaults of all keys written out, in types that a file holds: lists, and no tuples.

    The defense's parameters are kept as they were given.
    """
    resolved: dict[str, Any] = json.loads(json.dumps(spec.model_dump() | {"defense": preset["defense"]}))
    return resolved


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "value_error":
        text = str(problem["ctx"]["error"])
    elif problem["type"] == "extra_forbidden":
        *way, key = problem["loc"]
        known = _known_keys(way)
        text = f"unknown key; known are {', '.join(known)}.{did_you_mean(str(key), known)}"
    elif problem["type"] == "missing":
        text = "is missing."
    else:
        text = f"{problem['msg']}, but got {problem['input']!r}.".replace("Input should", "should")
    return f"{where}: {text}" if where else text


def _known_keys(way: list[Any]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "search": Search, "resources": Resources, "objectives": Objective, "constraints": Constraint
    }  # fmt: skip
    model = models[way[0]] if way else SweepSpec
    return list(model.model_fields)
