"""The Optuna study behind a sweep."""

from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, GridSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage

from search_spaces.distributions import Searched
from sweeper.spec import SweepSpec
from trainers.seeding import derive_seed

STARTUP_TRIALS = 10
"""Random trials before a model is fitted (Optuna's default), or half of a sweep that is shorter than twice that."""


def open_study(spec: SweepSpec, database: Path) -> optuna.Study:
    """Create the study of a sweep in its own SQLite file; only the driver writes to it."""
    return optuna.create_study(
        storage=RDBStorage(f"sqlite:///{database}"),
        study_name=spec.name,
        sampler=make_sampler(spec),
        directions=[objective.direction for objective in spec.objectives],
    )


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
        case "random":
            return RandomSampler(seed=seed)
        case "grid":
            return GridSampler(_grid(spec.space()), seed=seed)


def _grid(space: dict[str, Searched]) -> dict[str, list[Any]]:
    return {name: list(searched.grid() or ()) for name, searched in space.items()}


def grid_size(spec: SweepSpec) -> int | None:
    """Combinations of a grid sweep; null for other samplers."""
    if spec.search.sampler != "grid":
        return None
    size = 1
    for options in _grid(spec.space()).values():
        size *= len(options)
    return size
