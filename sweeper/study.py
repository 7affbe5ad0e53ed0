"""The Optuna study behind a sweep."""

import warnings
from contextlib import suppress
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage

from search_spaces.distributions import Searched
from sweeper.spec import SweepSpec
from trainers.errors import ConfigError
from trainers.seeding import derive_seed

STARTUP_TRIALS = 10
"""Random trials before a model is fitted (Optuna's default), or half of a sweep that is shorter than twice that."""


def open_study(spec: SweepSpec, database: Path) -> optuna.Study:
    """Create the study of a sweep in its own SQLite file; only the driver writes to it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Conditional samplers and constraints are experimental by Optuna's word; the user can do nothing about that.
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    study = optuna.create_study(
        storage=RDBStorage(f"sqlite:///{database}"),
        study_name=spec.name,
        sampler=make_sampler(spec),
        directions=[objective.direction for objective in spec.objectives],
    )
    if spec.search.sampler == "grid":
        # Optuna's GridSampler would end the study from inside `tell`, which only works in its own loop.
        for point in grid_points(spec)[: spec.search.trials]:
            study.enqueue_trial(point)
    return study


def make_sampler(spec: SweepSpec) -> BaseSampler:
    """The sampler that the preset names, seeded by the sweep."""
    seed = derive_seed(spec.seed, "sampler") % 2**31
    startup = min(STARTUP_TRIALS, max(spec.search.trials // 2, 1))
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

    Parameters whose condition does not hold are left out, and combinations that then are the same stand once.
    """
    space = spec.space()
    found: dict[str, dict[str, Any]] = {}
    for values in product(*(searched.grid() or () for searched in space.values())):
        combination = dict(zip(space, values, strict=True))
        used: dict[str, Any] = {}

        def choose(name: str, _searched: Searched, used: dict[str, Any] = used, full: Any = combination) -> Any:
            used[name] = full[name]
            return full[name]

        # A combination that is refused is proposed all the same, and fails with its reason.
        with suppress(ConfigError):
            spec.trial(choose, "")
        found[repr(used)] = used
    points = list(found.values())
    Random(derive_seed(spec.seed, "grid")).shuffle(points)
    return points
