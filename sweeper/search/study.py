"""The Optuna study behind a sweep."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeper.preset.grid import grid_points
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import FINISHED, PRUNED, TrialRecord, control_success
from trainers.seeding import derive_seed
from trainers.storage.files import replacing

STARTUP_TRIALS = 10
"""Random trials before a model is fitted (Optuna's default), or half of a sweep that is shorter than twice that."""


def open_study(spec: SweepSpec, database: Path, records: Mapping[str, TrialRecord] | None = None) -> optuna.Study:
    """Create the study of a sweep in its own SQLite file; only the driver writes to it.

    With the ``records`` of an earlier part of the sweep, the study is written again from them: trials that ended are
    told as they ended, and those that did not wait to be asked for again, with their numbers and values. From the file
    that was there, only what the sampler noted beside its trials is taken over.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Conditional samplers and constraints are experimental by Optuna's word; the user can do nothing about that.
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    trials = {_number(r): r for r in (records or {}).values() if r.role == "trial"}
    notes = _sampler_notes(spec, database) if database.exists() else {}
    with replacing(database) as beside:
        storage = RDBStorage(f"sqlite:///{beside}")
        study = optuna.create_study(
            storage=storage, study_name=spec.name, directions=[objective.direction for objective in spec.objectives]
        )
        asr = control_success((records or {}).values())
        for number in range(max(trials, default=-1) + 1):
            record = trials.get(number)
            if record is None or record.open:
                study.enqueue_trial(record.searched if record else {})
            else:
                study.add_trial(_ended(spec, record, asr, notes.get(number, {})))
        if spec.search.sampler == "grid":
            # Optuna's GridSampler would end the study from inside `tell`, which only works in its own loop.
            for point in grid_points(spec)[len(study.trials) : spec.search.trials]:
                study.enqueue_trial(point)
        storage.engine.dispose()
    return optuna.load_study(
        study_name=spec.name, storage=RDBStorage(f"sqlite:///{database}"), sampler=make_sampler(spec, len(trials))
    )


@dataclass(frozen=True)
class Verdict:
    """What the study is told of an ended trial.

    Args:
        state: how it ended.
        values: of the objectives; null unless it is complete.
        constraints: by name; 0 or less where kept.
        error: the reason of a failure.
    """

    state: TrialState
    values: list[float] | None
    constraints: dict[str, float]
    error: str | None

    @property
    def notes(self) -> dict[str, Any]:
        """User attributes of the trial. Constraints stand there too: optuna-dashboard 0.21 does not know Optuna 5's."""
        notes: dict[str, Any] = {"error": self.error} if self.error else {}
        return notes | ({"violations": self.constraints} if self.constraints else {})


def verdict(spec: SweepSpec, record: TrialRecord, control_asr: dict[str, float | None]) -> Verdict:
    """Judge an ended trial by its rows.

    Args:
        spec: the sweep, with its objectives and constraints.
        record: of the trial.
        control_asr: attack success of each finished control, by key of its configuration.
    """
    if record.status != FINISHED:
        state = TrialState.PRUNED if record.status == PRUNED else TrialState.FAIL
        return Verdict(state, None, {}, record.error)
    rows = record.rows(control_asr)
    constraints = {f"{i}-{c.metric}": c.violation(rows) for i, c in enumerate(spec.constraints)}
    values = [objective.value(rows) for objective in spec.objectives]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Verdict(TrialState.FAIL, None, constraints, "An objective is undefined for this trial.")
    return Verdict(TrialState.COMPLETE, known, constraints, None)


def _number(record: TrialRecord) -> int:
    return int(record.trial_id.lstrip("t"))


def _ended(
    spec: SweepSpec, record: TrialRecord, control_asr: dict[str, float | None], notes: dict[str, Any]
) -> FrozenTrial:
    """An ended trial as the study knew it."""
    found = verdict(spec, record, control_asr)
    space = spec.space()
    trial = create_trial(
        state=found.state,
        values=found.values,
        params=record.searched,
        distributions={name: space[name].distribution() for name in record.searched},
        user_attrs={"trial_id": record.trial_id, **found.notes},
        system_attrs=dict(notes),
        constraints=found.constraints,
    )
    trial.datetime_start = datetime.fromtimestamp(record.began_at)
    trial.datetime_complete = datetime.fromtimestamp(record.ended_at or record.began_at)
    return trial


def _sampler_notes(spec: SweepSpec, database: Path) -> dict[int, dict[str, Any]]:
    """What the sampler noted beside each trial (NSGA-II: its generation), by number; nothing from a damaged file."""
    storage = None
    try:
        storage = RDBStorage(f"sqlite:///{database}")
        trials = optuna.load_study(study_name=spec.name, storage=storage).get_trials(deepcopy=False)
    except Exception:  # noqa: BLE001  # a damaged file raises whatever its driver raises
        return {}
    finally:
        if storage is not None:
            storage.engine.dispose()
    ours = ("constraints", "fixed_params")
    return {t.number: {k: v for k, v in t.system_attrs.items() if not k.startswith(ours)} for t in trials}


def make_sampler(spec: SweepSpec, known: int, defense: str | None = None) -> BaseSampler:
    """The sampler that the preset names, seeded by the sweep; after ``known`` trials it draws other numbers.

    Args:
        spec: the sweep.
        known: trials that have run.
        defense: the one that it proposes settings of, where they take turns.
    """
    own = [defense] if defense else []
    seed = derive_seed(spec.seed, "sampler", *([known] if known else []), *own) % 2**31
    trials = spec.search.trials // max(len(spec.turns()), 1)
    startup = min(STARTUP_TRIALS, max(trials // 2, 1))
    match spec.search.sampler:
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=startup)
        case "nsga2":
            return NSGAIISampler(seed=seed, population_size=max(min(50, spec.search.trials // 4), 4))
        case "gp":
            return GPSampler(seed=seed, n_startup_trials=startup, deterministic_objective=False)
        case "random" | "grid":  # the points of a grid are put into the study one by one
            return RandomSampler(seed=seed)
