"""Proposes the settings of one trunk: with its parameters, and each different from the others."""

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, PartialFixedSampler
from optuna.trial import FrozenTrial


class SiblingSampler(PartialFixedSampler):
    """Proposes what another sampler does, with some parameters fixed; a setting that is there already is drawn anew.

    Args:
        fixed: values by name in the study. More may be added while it is used.
        base: proposes the others.
        free: settings that are not there yet, each with its values that are not fixed; null: they are too many for two
            to coincide.
        seed: of the draws in the place of what is there already.
    """

    def __init__(
        self, fixed: dict[str, Any], base: BaseSampler, free: Sequence[Mapping[str, Any]] | None = None, seed: int = 0
    ):
        super().__init__(fixed, base)
        self._free = free
        self._random = Random(seed)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of the parameters that are sampled together."""
        values = super().sample_relative(study, trial, search_space)
        known: dict[str, Any] = {}
        for name in values:
            known[name] = self._unlike(known, name, values[name])
        return known

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Value of a parameter that is sampled alone."""
        value = super().sample_independent(study, trial, param_name, param_distribution)
        return value if param_name in self._fixed_params else self._unlike(trial.params, param_name, value)

    def _unlike(self, known: Mapping[str, Any], name: str, value: Any) -> Any:
        """The value, or another one if every setting with the ``known`` values and this one is there already."""
        if not self._free:
            return value
        left = [free for free in self._free if name in free and agrees(known, free)]
        if not left or any(same(free[name], value) for free in left):
            return value
        return self._random.choice(left)[name]


def agrees(known: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two settings have the same values of the parameters that both have."""
    return all(same(known[name], other[name]) for name in known.keys() & other.keys())


def same(one: Any, other: Any) -> bool:
    """Whether two values of a parameter are the same; steps of a range may differ in the last digit."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)
