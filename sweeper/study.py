"""The Optuna study behind a sweep."""

import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.distributions import Searched
from sweeper.records import FINISHED, PRUNED, TrialRecord
from sweeper.spec import SweepSpec
from trainers.errors import ConfigError
from trainers.files import replacing
from trainers.seeding import derive_seed

STARTUP_TRIALS = 10
"""Random trials before a model is fitted (Optuna's default), or half of a sweep that is shorter than twice that."""

MOST_POINTS = 10_000
"""Of a grid, which is written into the study point by point."""


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


def control_success(records: Iterable[TrialRecord]) -> dict[str, float | None]:
    """Attack success of each control by the key of its configuration; null where it has not finished."""
    found: dict[str, float | None] = {}
    for record in records:
        if record.role == "control":
            ((run, key),) = record.controls.items()
            found[key] = record.final(run).get("val_asr") if record.status == FINISHED else None
    return found


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


def grid_points(spec: SweepSpec) -> list[dict[str, Any]]:
    """Every combination of a grid, in an order shuffled by the sweep's seed, so that a part of it is a fair sample.

    Choices that an earlier choice leaves open are gone through, others are not: a parameter whose condition does not
    hold, or of a scenario that the trial does not meet, is no part of a combination.

    Raises:
        ConfigError: there are more than :data:`MOST_POINTS`.
    """
    points: list[dict[str, Any]] = []
    ways: list[tuple[int, ...]] = [()]
    while ways:
        way = ways.pop()
        settled, used = list(way), dict[str, Any]()

        def choose(name: str, searched: Searched, settled: list[int] = settled, used: dict[str, Any] = used) -> Any:
            if name not in used:
                options = searched.grid() or ()
                # What this way has not settled branches: the first option here, the others as ways of their own.
                if len(used) == len(settled):
                    ways.extend((*settled, pick) for pick in range(1, len(options)))
                    settled.append(0)
                used[name] = options[settled[len(used)]]
            return used[name]

        # A combination that is refused is proposed all the same, and fails with its reason.
        with suppress(ConfigError):
            spec.trial(choose, "")
        points.append(used)
        if len(points) > MOST_POINTS:
            raise ConfigError(
                f"The grid has more than {MOST_POINTS} points; give larger steps, or another search.sampler."
            )
    Random(derive_seed(spec.seed, "grid")).shuffle(points)
    return points
