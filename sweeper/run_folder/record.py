"""The record of a trial: its configuration, how it and its trainings ended, and its figures as rows and curves."""

import hashlib
import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from sweeper.preset.blocks import NAME_PATTERN
from trainers.measuring.attack_cost import AttackCost
from trainers.measuring.evaluation import METRICS, WEAK_ATTACK_BELOW, excess
from trainers.scenario import ScenarioConfig
from trainers.trial import TrialConfig

FINISHED, PRUNED, FAILED, RUNNING = "FINISHED", "PRUNED", "FAILED", "RUNNING"
STATUSES = (FINISHED, PRUNED, FAILED, RUNNING)
TRIAL, CONTROL, CONFIRMATION, REPLICATE = "trial", "control", "confirmation", "replicate"
"""Roles: what the searcher proposed, an undefended run of its scenario, a leader run again with fresh seeds, and a
replicate of the test that certifies a setting."""
ROLES = (TRIAL, CONTROL, CONFIRMATION, REPLICATE)

KEY_COLUMNS = (
    "trial_id", "config_id", "role", "status", "trial_status", "scenario", "attack", "poison_rate", "poison_share",
    "target", "seed", "defense",
)  # fmt: skip
COST_COLUMNS = tuple(f.name for f in fields(AttackCost))
EXTRA_COLUMNS = (
    "control_asr", "weak_attack", "n_eval", "val_class_counts", *COST_COLUMNS, "error", "trial_error", "attempt",
)  # fmt: skip
EXCESS = {"val_asr_excess": ("val_asr", "asr_floor"), "test_asr_excess": ("test_asr", "test_asr_floor")}
"""Figures that follow from two others: attack success, and its floor."""
TRIAL_ID = r"[ctkr]\d{4,9}"
RunKey = tuple[str, int]
"""Scenario name and seed: one training within a trial."""


def next_id(letter: str, known: Iterable[str]) -> str:
    """The id after the highest one: ``c0007`` after ``c0006``."""
    return f"{letter}{max((int(name[1:]) for name in known), default=-1) + 1:04d}"


@dataclass
class TrainingState:
    """How one training stands.

    Args:
        status: RUNNING until it ends, also before it begins. One that its trial does not need is PRUNED.
        error: why it failed, or why it was not needed.
        attempt: how often it was started; 0: it never began.
        host: address of the host of its last attempt; null if it is not known.
    """

    status: str = RUNNING
    error: str | None = None
    attempt: int = 0
    host: str | None = None


@dataclass
class TrialRecord:
    """One trial, control, confirmation or replicate, as the driver knows it.

    Args:
        trial_id: this program's id, not Ray's, in the order of start.
        role: one of :data:`ROLES`.
        config: what it runs; null if the proposed parameters were refused.
        controls: for each training that has one, the key of its control's configuration.
        searched: values of the searched parameters, by name in the study.
        status: RUNNING until it ends.
        error: why it failed, or left its race.
        interrupted: whether it failed only because the sweep was stopped early; ``resume`` continues it.
        ended_by: the scenario that made it leave its race; null if it did not.
        trainings: how each of its trainings stands.
        began_at: when it was proposed, in seconds since 1970.
        ended_at: when it ended.
        epochs: figures by training and epoch.
        facts: by training, facts about the poisoned data.
        config_id: id of the setting; null if there is none. It is kept, even if a later version would give another.
        running: trainings that have not ended and that a worker has at this moment; not written down.
    """

    trial_id: str
    role: str
    config: TrialConfig | None
    controls: dict[RunKey, str]
    searched: dict[str, Any] = field(default_factory=dict)
    status: str = RUNNING
    error: str | None = None
    interrupted: bool = False
    ended_by: str | None = None
    trainings: dict[RunKey, TrainingState] = field(default_factory=dict)
    began_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    epochs: dict[RunKey, dict[int, dict[str, Any]]] = field(default_factory=dict)
    facts: dict[RunKey, dict[str, Any]] = field(default_factory=dict)
    config_id: str | None = None
    running: set[RunKey] = field(default_factory=set, compare=False)

    def __post_init__(self) -> None:
        """Name the setting, and note the trainings of which nothing is known yet."""
        if self.config_id is None and self.config is not None:
            self.config_id = self.config.setting_key
        for scenario, repeat in self.runs:
            self.trainings.setdefault((scenario.name, repeat), TrainingState())

    @property
    def runs(self) -> list[tuple[ScenarioConfig, int]]:
        """Every scenario with every repeat."""
        return self.config.runs() if self.config else []

    @property
    def raced_out(self) -> bool:
        """Whether the trial left its race."""
        return self.status == PRUNED and self.ended_by is not None

    @property
    def open(self) -> bool:
        """Whether a resumed sweep continues this trial."""
        return self.status == RUNNING or self.interrupted

    def trainings_left(self) -> "list[Training]":
        """Trainings that a resumed sweep runs."""
        left = [run for run, state in self.trainings.items() if state.status != FINISHED]
        return [Training(self, run) for run in left] if self.open else []

    def end_training(self, run: RunKey, status: str, error: str | None = None) -> None:
        """Record how a training ended."""
        self.trainings[run].status, self.trainings[run].error = status, error
        self.running.discard(run)

    def end(self, status: str, error: str | None = None, interrupted: bool = False) -> None:
        """Record how the trial ended, and when. Trainings that have not ended then are cut off, or not needed."""
        self.status, self.error, self.interrupted, self.ended_at = status, error, interrupted, time.time()
        self.running.clear()
        left = status if status == FINISHED or interrupted else PRUNED
        for state in self.trainings.values():
            if state.status == RUNNING:
                state.status, state.error = left, error

    def add_epoch(self, run: RunKey, figures: dict[str, Any], facts: dict[str, Any]) -> None:
        """Add an epoch's figures. If a later attempt reports it again, the first are kept: others have seen them."""
        known = with_excess(figures) | {"reported_at": time.time()}
        self.epochs.setdefault(run, {}).setdefault(figures["epoch"], known)
        self.facts[run] = facts

    def final(self, run: RunKey) -> dict[str, Any]:
        """Figures of the last epoch of a training; empty before there is one."""
        epochs = self.epochs.get(run)
        return epochs[max(epochs)] if epochs else {}

    def forget_curves(self) -> None:
        """Keep the figures of each training's last epoch alone."""
        self.epochs = {run: {max(epochs): epochs[max(epochs)]} for run, epochs in self.epochs.items() if epochs}

    def rows(self, control_asr: dict[str, float | None]) -> list[dict[str, Any]]:
        """Rows of ``trials.parquet``, one per training. Only a FINISHED training has figures.

        Args:
            control_asr: attack success of each finished control, by key of its configuration.
        """
        if self.config is None:
            refused = {"trial_id": self.trial_id, "role": self.role, "status": self.status, "error": self.error,
                       "trial_status": self.status, "trial_error": self.error}  # fmt: skip
            return [dict.fromkeys((*KEY_COLUMNS, *METRICS, *EXTRA_COLUMNS)) | refused]
        rows = []
        for scenario, repeat in self.runs:
            run = (scenario.name, repeat)
            training = self.trainings[run]
            figures = self.final(run) if training.status == FINISHED else {}
            control = control_asr.get(self.controls[run]) if run in self.controls else None
            facts = self.facts.get(run, {})
            attacked = scenario.poison_rate > 0
            counts = figures.get("val_class_counts")
            row: dict[str, Any] = {
                "trial_id": self.trial_id,
                "config_id": self.config_id,
                "role": self.role,
                "status": training.status,
                "trial_status": self.status,
                "scenario": scenario.name,
                "attack": scenario.attack,
                "poison_rate": scenario.poison_rate,
                "poison_share": facts.get("poison_share"),
                "target": scenario.resolved_target,
                "seed": repeat,
                "defense": self.config.defense,
                **{metric: figures.get(metric) for metric in METRICS},
                "control_asr": control,
                "weak_attack": control < WEAK_ATTACK_BELOW if control is not None and attacked else None,
                "n_eval": facts.get("n_eval"),
                "val_class_counts": None if counts is None else json.dumps(counts),
                **{name: facts.get(name) for name in COST_COLUMNS},
                "error": training.error,
                "trial_error": self.error,
                "attempt": training.attempt,
            }
            row |= {f"param.defense.{key}": value for key, value in self.config.params.items()}
            row |= {f"param.scenario.{key}": value for key, value in scenario.params.items()}
            rows.append(row)
        return rows

    def curve_rows(self) -> list[dict[str, Any]]:
        """Rows of ``curves.parquet``, one per training and epoch."""
        rows: list[dict[str, Any]] = []
        if self.config is None:
            return rows
        for scenario, repeat in self.runs:
            for figures in self.epochs.get((scenario.name, repeat), {}).values():
                head = {
                    "trial_id": self.trial_id,
                    "config_id": self.config_id,
                    "role": self.role,
                    "scenario": scenario.name,
                    "attack": scenario.attack,
                    "poison_rate": scenario.poison_rate,
                    "seed": repeat,
                    "defense": self.config.defense,
                }
                rows.append({**head, **{name: value for name, value in figures.items() if name != "val_class_counts"}})
        return rows

    def to_json(self) -> str:
        """The record as JSON, for the run folder."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "running"}
        known["config"] = json.loads(self.config.to_json()) if self.config else None
        known["controls"] = [[*run, key] for run, key in self.controls.items()]
        known["trainings"] = [[*run, asdict(state)] for run, state in self.trainings.items()]
        known["facts"] = [[*run, facts] for run, facts in self.facts.items()]
        known["epochs"] = [[*run, list(epochs.values())] for run, epochs in self.epochs.items()]
        return json.dumps(known)

    @classmethod
    def from_json(cls, text: str) -> "TrialRecord":
        """Read what :meth:`to_json` wrote. Names in it become names of files, so they are checked.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the text is no record.
        """
        fields = json.loads(text)
        if not re.fullmatch(TRIAL_ID, fields["trial_id"]) or fields["role"] not in ROLES:
            raise ValueError("its trial_id or role is not valid")
        config = fields["config"]
        if config and "config_id" not in fields:
            fields["config_id"] = _first_config_id(config)
            config["params"] = _FIRST_PARAMS.get(config["defense"], {}) | config["params"]
        fields["config"] = TrialConfig.from_json(json.dumps(config)) if config else None
        fields["controls"] = {(name, repeat): key for name, repeat, key in fields["controls"]}
        fields["facts"] = {(name, repeat): facts for name, repeat, facts in fields["facts"]}
        fields["epochs"] = {
            (name, r): {e["epoch"]: with_excess(e) for e in epochs} for name, r, epochs in fields["epochs"]
        }
        trainings, whole = fields.pop("trainings", None), {name: fields.pop(name, None) for name in ("attempt", "host")}
        if trainings is not None:
            fields["trainings"] = {(name, repeat): TrainingState(**state) for name, repeat, state in trainings}
        record = cls(**fields)
        if trainings is None:  # of version 1, where a trial was the unit, and ran or failed as a whole
            first = TrainingState(record.status, record.error, whole["attempt"] or 1, whole["host"])
            record.trainings = {run: replace(first) for run in record.trainings}
        for scenario, repeat in record.runs:
            if not re.fullmatch(NAME_PATTERN, scenario.name) or not isinstance(repeat, int):
                raise ValueError("its scenario or seed is not valid")
        _check_types(record)
        return record


@dataclass(frozen=True, eq=False)
class Training:
    """A training of a trial: one setting against one scenario with one seed.

    Args:
        record: of its trial.
        run: which of the trial's trainings.
    """

    record: TrialRecord
    run: RunKey

    @property
    def state(self) -> TrainingState:
        """How it stands."""
        return self.record.trainings[self.run]

    @property
    def name(self) -> str:
        """A name for files: that of the trial, and the number of the training within it."""
        return f"{self.record.trial_id}-{list(self.record.trainings).index(self.run)}"

    @property
    def label(self) -> str:
        """A name for people."""
        scenario, seed = self.run
        one = len(self.record.trainings) == 1
        return self.record.trial_id if one else f"{self.record.trial_id} ({scenario}, seed {seed})"

    @property
    def config(self) -> TrialConfig:
        """What it runs: the configuration of its trial with one scenario and one seed."""
        assert self.record.config is not None
        scenario = next(s for s, seed in self.record.runs if (s.name, seed) == self.run)
        return replace(self.record.config, scenarios=(scenario,), repeats=(self.run[1],))


_FIRST_PARAMS: dict[str, dict[str, Any]] = {"abl": {"cutout": 0, "unlearning_rest": True}}
"""Behaviour of defenses with numerics 1, as values of parameters that have other defaults today; by defense."""


_KINDS: dict[str, Any] = {
    "searched": dict, "error": str | None, "interrupted": bool, "ended_by": str | None, "began_at": int | float,
    "ended_at": int | float | None, "config_id": str | None,
}  # fmt: skip
_STATE_KINDS: dict[str, Any] = {"error": str | None, "attempt": int, "host": str | None}


def _check_types(record: TrialRecord) -> None:
    """Check what everybody who reads a record computes with or prints.

    Raises:
        ValueError: a status is unknown, or a value has another type than it is written with.
    """
    if any(
        status not in STATUSES for status in (record.status, *(state.status for state in record.trainings.values()))
    ):
        raise ValueError("its status is not valid")
    known: list[tuple[TrialRecord | TrainingState, dict[str, Any]]] = [(record, _KINDS)]
    known += ((state, _STATE_KINDS) for state in record.trainings.values())
    for holder, kinds in known:
        for name, kind in kinds.items():
            if not isinstance(getattr(holder, name), kind):
                raise ValueError(f"its {name} is not valid")
    if any(isinstance(value, (list, dict)) for value in record.searched.values()):
        raise ValueError("its searched is not valid")
    if not set(record.controls) <= set(record.trainings) or (record.role == CONTROL and len(record.controls) != 1):
        raise ValueError("its controls are not valid")
    for figures in (figures for epochs in record.epochs.values() for figures in epochs.values()):
        if not isinstance(figures.get("stage"), str | None):
            raise ValueError("its stage is not valid")
        _check_numbers(figures, METRICS)
    for facts in record.facts.values():
        _check_numbers(facts, ("poison_share", "n_eval", *COST_COLUMNS))


def _check_numbers(known: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        value = known.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise ValueError(f"its {name} is not valid")


def _first_config_id(config: dict[str, Any]) -> str:
    """The id of a setting with :data:`trainers.seeding.NUMERICS` 1, when every parameter entered it."""
    named = json.dumps([config["defense"], config["params"]], sort_keys=True)
    return hashlib.sha256(named.encode()).hexdigest()[:12]


def with_excess(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures of an epoch with the excess of attack success over its floor, which earlier versions did not report."""
    known = {name: value for name, value in figures.items() if name not in EXCESS or value is not None}
    return {name: excess(figures.get(asr), figures.get(floor)) for name, (asr, floor) in EXCESS.items()} | known


def control_success(records: Iterable[TrialRecord]) -> dict[str, float | None]:
    """Attack success of each control by the key of its configuration; null where it has not finished."""
    success: dict[str, float | None] = {}
    for record in records:
        if record.role == "control":
            ((run, key),) = record.controls.items()
            success[key] = record.final(run).get("val_asr") if record.status == FINISHED else None
    return success
