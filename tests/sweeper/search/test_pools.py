from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, PartialFixedSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from sweeper.search.pools import Pools

SEEDS = {"vab": 1, "abl": 2}
SPACE: dict[str, Any] = {"defense": CategoricalDistribution(("vab", "abl")), "x": FloatDistribution(0, 1)}


def make(defense: str) -> BaseSampler:
    return TPESampler(seed=SEEDS[defense], n_startup_trials=3)


def alone(base: BaseSampler) -> BaseSampler:
    """Nothing is fixed."""
    return base


def loss(defense: str, x: float) -> float:
    """The second defense is far worse, whatever its setting."""
    return (x - 0.3) ** 2 + (10 if defense == "abl" else 0)


def test_a_defense_is_searched_as_if_it_were_alone() -> None:
    together = optuna.create_study()
    pools = Pools(together.directions, make)
    found: dict[str, list[float]] = {"vab": [], "abl": []}
    for number in range(24):
        defense = ("vab", "abl")[number % 2]
        x = pools.propose(number, defense, alone).suggest_float("x", 0, 1)
        ended = create_trial(value=loss(defense, x), params={"defense": defense, "x": x}, distributions=SPACE)
        together.add_trial(ended)
        pools.tell(together.trials[-1])
        found[defense].append(x)
    for defense, values in found.items():
        study = optuna.create_study(sampler=make(defense))
        for x in values:
            trial = study.ask()
            assert trial.suggest_float("x", 0, 1) == x
            study.tell(trial, loss(defense, x))


def test_what_the_attacker_chose_is_given_to_the_pool() -> None:
    pool = Pools([StudyDirection.MINIMIZE], make).propose(
        0, "vab", lambda base: PartialFixedSampler({"rate": 0.1}, base)
    )
    assert pool.suggest_categorical("rate", [0.05, 0.1, 0.2]) == 0.1
    assert 0 <= pool.suggest_float("x", 0, 1) <= 1


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.PRUNED])
def test_trials_of_an_earlier_part_count_however_they_ended(state: TrialState) -> None:
    study = optuna.create_study()
    study.add_trial(create_trial(value=0.1, params={"defense": "vab", "x": 0.5}, distributions=SPACE))
    study.add_trial(create_trial(state=state, params={"defense": "vab", "x": 0.9}, distributions=SPACE))
    pools = Pools(study.directions, make, study.trials)

    def ended(defense: str) -> list[float]:
        return [t.params["x"] for t in pools.part(defense).trials if t.state != TrialState.RUNNING]

    pools.propose(2, "abl", alone)
    assert (ended("vab"), ended("abl")) == ([0.5, 0.9], [])
    pools.propose(3, "vab", alone)
    assert ended("vab") == [0.5, 0.9], "none is counted twice"


def test_a_trial_of_an_earlier_part_that_has_not_ended_is_none_yet() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"defense": "vab", "x": 0.5})
    pools = Pools(study.directions, make, study.trials)
    pools.propose(1, "vab", alone)
    assert [trial.state for trial in pools.part("vab").trials] == [TrialState.RUNNING]
