from pathlib import Path
from typing import Any

import pytest

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.certificate_terms import (
    Asked,
    check_budget,
    check_steps,
    new_certificate,
    refuse_other_terms,
    restored,
)
from sweeper.analysis.certification import Certification
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.certificate import Budget, Certificate
from tests.sweeper.analysis.test_candidates import known, table, trial
from tests.sweeper.certificates import after_losses
from tests.sweeper.small import PRESET, spec_with
from trainers.defenses.vab import VabParams
from trainers.errors import ConfigError

ASKED = Asked(AttackBounds(max_excess=0.1), 0.95)


def begun(spec: SweepSpec, asked: Asked = ASKED, **figures: Any) -> Certificate:
    records = [trial(spec, 0, 0.7, 0.01, **figures), trial(spec, 1, 0.9, 0.08, **figures)]
    return new_certificate(spec, table(*records), known(*records), asked, 5)


@pytest.mark.parametrize(
    ("bounds", "confidence", "min_acc", "said"),
    [
        (AttackBounds(), 0.95, 0.0, "give --max-excess"),
        (AttackBounds(0.1, 0.1), 0.95, 0.0, "one bound"),
        (AttackBounds(0.0), 0.95, 0.0, "--max-excess must lie between 0 and 1, but got 0: no number of trainings"),
        (AttackBounds(max_asr=1.0), 0.95, 0.0, "--max-asr must lie between"),
        (AttackBounds(0.1), 1.0, 0.0, r"--confidence must lie in \[0\.5, 1\), but got 1"),
        (AttackBounds(0.1), 0.3, 0.0, "--confidence"),
        (AttackBounds(0.1), 0.95, 1.5, r"--min-acc must lie in \[0, 1\]"),
    ],
)
def test_what_cannot_be_asked(bounds: AttackBounds, confidence: float, min_acc: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Asked(bounds, confidence, min_acc)


def test_the_terms_of_a_sweep() -> None:
    made = begun(spec_with())
    assert (made.metric, made.bound, made.confidence, made.min_acc) == ("test_asr_excess", 0.1, 0.95, 0.0)
    assert [one.accuracy for one in made.candidates] == [0.9, 0.7]
    assert [one.label for one in made.attackers] == ["badnets"]
    assert all(config.scenarios == () and config.repeats == () for config in made.settings())
    assert (made.steps, made.certified, made.decided) == ([], None, False)
    assert made.plan is not None
    assert made.plan.trainings >= restored(after_losses([], [])).terms.least_trainings() + made.described_trainings
    assert made.plan.high >= made.plan.trainings * 0.9
    assert made.plan.certified == 1.0, "every seed of the search keeps the bound"
    by_success = begun(spec_with(), Asked(AttackBounds(max_asr=0.2), 0.9))
    assert (by_success.metric, by_success.option) == ("test_asr", "max-asr")


def test_what_is_described() -> None:
    """Searched parameters at their defaults, lengths within their ranges, the rest as in the preset."""
    lengths = {"mix_epochs": {"int": [2, 5]}, "warmup_steps": {"int": [3, 9]}, "suppression_epochs": 2}
    made = begun(spec_with(defense=PRESET["defense"] | lengths))
    names = [one.name for one in made.described]
    assert names == ["the defaults of vab", "no defense"]
    default, control = made.settings()[2:]
    assert default.params["threshold"] == VabParams().threshold == 0.2
    assert default.params["mixing"] == VabParams().mixing
    assert default.params["mix_epochs"] == 5, "the default is 100, beyond the range"
    assert made.first_seed == 5
    assert default.params["warmup_steps"] is None, "by default an epoch"
    assert (default.params["suppression_epochs"], default.params["lr"]) == (2, 0.05)
    assert (control.defense, control.params["epochs"]) == ("none", 1)


def test_a_length_whose_default_lies_within_its_range() -> None:
    lengths = {"mix_epochs": {"int": [10, 300], "step": 20}, "suppression_epochs": {"categorical": [3, 80, 300]}}
    params = begun(spec_with(defense=PRESET["defense"] | lengths)).settings()[2].params
    assert params["mix_epochs"] in (90, 110), "100 is no allowed value"
    assert params["suppression_epochs"] == 80, "the default is 100"


def test_a_bound_below_the_floor() -> None:
    with pytest.raises(
        ConfigError, match=r"--max-asr 0\.03 lies below the floor: 0\.050 of the clean images.*--max-excess"
    ):
        begun(spec_with(), Asked(AttackBounds(max_asr=0.03), 0.95))
    assert begun(spec_with(), Asked(AttackBounds(max_excess=0.03), 0.95)).candidates


def test_a_second_test_is_refused() -> None:
    first, path = after_losses([0.0]), Path("runs/x")
    refuse_other_terms(first, ASKED, path)
    for other in (
        Asked(AttackBounds(max_excess=0.2), 0.95),
        Asked(AttackBounds(max_excess=0.1), 0.9),
        Asked(AttackBounds(max_asr=0.1), 0.95),
        Asked(AttackBounds(max_excess=0.1), 0.95, 0.5),
    ):
        with pytest.raises(
            ConfigError, match=r"runs/x has a test already, with --max-excess 0\.1 --confidence 0\.95\."
        ):
            refuse_other_terms(first, other, path)


def test_a_budget_that_cannot_suffice() -> None:
    """One candidate, one scenario: 32 replicates at 0.1 and 0.05, and three of each described setting."""
    made = after_losses([])
    check_budget(made, 32 + 6)
    check_budget(made, None)
    with pytest.raises(
        ConfigError, match=r"--budget 37 cannot suffice: a certificate needs at least 38 trainings.*6 of"
    ):
        check_budget(made, 37)


def test_a_test_is_restored_from_its_steps() -> None:
    known_test = after_losses([0.0, 0.05, 0.02, *[0.01] * 5], [])
    again = restored(known_test)
    assert again.turn == (0, 8)
    assert again.candidates[0].wealth == known_test.standings[0].wealth
    assert len(again.candidates[0].wealth) == 5
    assert again.spent == 8


def test_what_an_earlier_budget_decided_stays() -> None:
    """With few trainings left, the first candidate was given up for the second; more trainings do not bring it back."""
    losses = [0.0, 0.0, 0.0, *[0.2] * 3]
    known_test = after_losses(losses, [])

    def replicates_within(budget: int) -> int:
        """Replicates of the first candidate until it is given up."""
        test = Certification(restored(known_test).terms, budget)
        for loss in losses:
            if test.turn is not None and test.turn[0] == 0:
                test.apply(loss)
        return test.candidates[0].replicates if test.candidates[0].verdict else len(losses) + 1

    least = restored(known_test).terms.least_trainings()
    budget = next(budget for budget in range(least, least + 50) if replicates_within(budget) == len(losses))
    set_aside = known_test.described_trainings
    tight = known_test.model_copy(update={"budgets": [Budget(after=0, trainings=budget + set_aside)]})
    given_up = restored(tight)
    assert given_up.candidates[0].verdict is not None
    assert given_up.turn == (1, 0)
    more = tight.model_copy(update={"budgets": [*tight.budgets, Budget(after=len(losses), trainings=500)]})
    assert restored(more).turn == (1, 0)
    assert restored(known_test).turn == (0, 6), "without a limit it would go on"


def test_what_does_not_follow_from_the_steps_is_damage() -> None:
    known_test = after_losses([0.0] * 32)
    check_steps(known_test)
    assert known_test.certified == 0
    for change in ({"certified": None}, {"decided": False}):
        with pytest.raises(ConfigError, match="does not follow from its replicates"):
            check_steps(known_test.model_copy(update=change))
    other = known_test.model_copy(deep=True)
    other.standings[0].stake = 0.5
    with pytest.raises(ConfigError, match="does not follow"):
        check_steps(other)


def test_steps_out_of_order_are_damage() -> None:
    known_test = after_losses([0.0, 0.0])
    known_test.steps.reverse()
    with pytest.raises(ConfigError, match="replicate 0 was not the one whose turn it was"):
        restored(known_test)
