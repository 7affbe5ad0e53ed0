"""Settings of one trunk: what they share is fixed, and no two are the same."""

from typing import Any

import optuna
import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from sweeper.search.siblings import SiblingSampler

pytestmark = pytest.mark.filterwarnings("ignore", category=ExperimentalWarning)

FREE = [{"late": late, "kind": kind} for late in (1, 2) for kind in ("a", "b")]


def propose(study: optuna.Study) -> dict[str, Any]:
    trial = study.ask()
    values = {
        "early": trial.suggest_float("early", 0, 1),
        "late": trial.suggest_int("late", 1, 2),
        "kind": trial.suggest_categorical("kind", ["a", "b"]),
    }
    study.tell(trial, values["late"])
    return values


def samplers() -> list[BaseSampler]:
    return [
        RandomSampler(seed=0), TPESampler(seed=0, n_startup_trials=2), NSGAIISampler(seed=0, population_size=4),
        GPSampler(seed=0, n_startup_trials=2), TPESampler(seed=0, n_startup_trials=2, multivariate=True),
    ]  # fmt: skip


@pytest.mark.parametrize("base", samplers(), ids=lambda base: type(base).__name__)
def test_no_two_settings_are_the_same(base: BaseSampler) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=base)
    for _ in range(6):
        propose(study)
    for early in (0.25, 0.75):
        free, found = list(FREE), []
        while free:
            study.sampler = SiblingSampler({"early": early}, base, free)
            values = propose(study)
            assert values["early"] == early
            own = {"late": values["late"], "kind": values["kind"]}
            assert own in free
            free.remove(own)
            found.append(own)
        assert len(found) == 4


def test_what_the_base_proposes_is_kept_where_it_is_new() -> None:
    plain, beside = (optuna.create_study(sampler=RandomSampler(seed=3)) for _ in range(2))
    beside.sampler = SiblingSampler({}, beside.sampler, FREE)
    assert [propose(plain) for _ in range(5)] == [propose(beside) for _ in range(5)]


def test_steps_that_differ_in_the_last_digit_are_the_same() -> None:
    class Odd(RandomSampler):
        def sample_independent(self, *_: Any) -> Any:
            return 0.1 + 0.2

    study = optuna.create_study(sampler=SiblingSampler({}, Odd(), [{"x": 0.3}, {"x": 0.4}]))
    assert study.ask().suggest_float("x", 0, 1) == 0.1 + 0.2


def test_values_that_nobody_counts_are_left_alone() -> None:
    study = optuna.create_study(sampler=SiblingSampler({"early": 0.5}, RandomSampler(seed=0)))
    assert propose(study)["early"] == 0.5
