"""Which of the races that wait goes on: the one that promises to add most to what complete trials have reached."""

from collections.abc import Iterable, Sequence

import moocore
import numpy as np

from sweeper.preset.objectives import ATTACK_SUCCESS, Objective
from sweeper.search.race import Complete, Race

WAITING = 5
"""Races that wait with some of their trainings run, before the best of them goes on (``benchmarks/replay.py``)."""


def promise(race: Race, complete: Iterable[Complete]) -> float:
    """The hypervolume that a trial would add, if its missing trainings came out like those that have finished.

    Every figure is a share. The reference point is the worst of each, and for a defender's attack success the interest:
    a trial beyond it adds nothing. What a trial has not shown counts as its best.

    Args:
        race: of the trial.
        complete: trials that may stand on the frontier.
    """
    objectives, interest = race.rules.objectives, race.rules.interest
    bounded = [o.metric in ATTACK_SUCCESS and o.direction == "minimize" and interest is not None for o in objectives]
    worst = [interest if known else 1.0 for known in bounded]
    known = [_losses(objectives, other.values) for other in complete if other.group == race.group]
    return _hypervolume([*known, _losses(objectives, race.expected())], worst) - _hypervolume(known, worst)


def _losses(objectives: Sequence[Objective], values: Sequence[float | None]) -> list[float]:
    """The values of the objectives, so that less is better; more values are left out."""
    pairs = zip(objectives, values, strict=False)
    return [0.0 if v is None else v if o.direction == "minimize" else 1.0 - v for o, v in pairs]


def _hypervolume(losses: Sequence[Sequence[float]], worst: Sequence[float | None]) -> float:
    return float(moocore.hypervolume(np.array(losses), ref=worst)) if losses else 0.0
