"""Which of the races that wait goes on: the one that would add most to what complete trials have reached."""

from collections.abc import Iterable, Sequence
from math import isfinite

import moocore
import numpy as np

from sweeper.preset.objectives import Objective
from sweeper.search.race import Complete, Race

WAITING = 5
"""Races that wait with some of their trainings run, before the best of them goes on (``benchmarks/replay.py``). Where
settings share trunks, so many groups of them wait: settings of one group are alike, and each but the first costs
little."""


def gain(race: Race, complete: Iterable[Complete]) -> float:
    """The hypervolume that a trial would add, if its missing trainings came out like those that have finished.

    Every figure is a share. The reference point is the worst of each, and the interest for the attack objective that it
    bounds: a trial beyond it adds nothing. Nor does one that breaks a constraint by what it has shown. What a trial has
    not shown counts as its best.

    Args:
        race: of the trial.
        complete: trials of its group that may stand on the frontier.
    """
    rules = race.rules
    violations = [constraint.violation(list(race.ended.values())) for constraint in rules.constraints]
    if any(violation > 0 and isfinite(violation) for violation in violations):  # infinite: not known yet
        return 0.0
    worst = [rules.interest if objective is rules.attack else 1.0 for objective in rules.objectives]
    known = [_losses(rules.objectives, other.values) for other in complete]
    return _hypervolume([*known, _losses(rules.objectives, race.expected())], worst) - _hypervolume(known, worst)


def _losses(objectives: Sequence[Objective], values: Sequence[float | None]) -> list[float]:
    """The values of the objectives, so that less is better; more values are left out."""
    pairs = zip(objectives, values, strict=False)
    return [0.0 if v is None else v if o.direction == "minimize" else 1.0 - v for o, v in pairs]


def _hypervolume(losses: Sequence[Sequence[float]], worst: Sequence[float | None]) -> float:
    return float(moocore.hypervolume(np.array(losses), ref=worst)) if losses else 0.0
