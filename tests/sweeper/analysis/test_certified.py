"""Selection of the certified setting: what a certificate implies, and what it does not."""

from typing import Any

import pytest

from sweeper.analysis.certified import select_certified
from sweeper.analysis.selection import BoundsMissed, NotConfirmed, NothingQualifies
from sweeper.run_folder.certificate import Budget, Certificate
from tests.sweeper.certificates import attacker, certificate_of, good, setting_named, step
from tests.sweeper.small import control_row, frame_of, row_with

FRAME = frame_of(
    control_row(), row_with("t0", "a", val_acc=0.9, val_asr=0.1), row_with("t1", "b", defense="bcu", val_acc=0.95)
)


def refused(certificate: Certificate | None, confidence: float = 0.95, **asked: Any) -> NothingQualifies:
    """Why nothing was selected."""
    with pytest.raises(NothingQualifies) as caught:
        select_certified(FRAME, certificate, confidence, **({"max_excess": 0.1} | asked))
    return caught.value


def test_the_certified_setting_is_selected_with_its_row_of_the_search() -> None:
    chosen = select_certified(FRAME, good(), 0.95, max_excess=0.1)
    assert (chosen.point["config_id"], chosen.point["trials"], chosen.point["val_acc"]) == ("a", "t0", 0.9)
    assert chosen.guarantee is not None
    assert (chosen.guarantee.setting.name, chosen.guarantee.replicates, chosen.others) == ("vab a", 32, 0)


@pytest.mark.parametrize(
    ("confidence", "asked"),
    [
        (0.95, {"max_excess": 0.2}),
        (0.9, {"max_excess": 0.1}),
        (0.95, {"over": "mean"}),
        (0.95, {"over": "cvar"}),
        (0.95, {"poison_rate": 0.1}),
        (0.95, {"defense": "vab"}),
        (0.95, {"min_acc": 0.7, "min_class_acc": 0.5}),
    ],
)
def test_what_a_certificate_implies(confidence: float, asked: dict[str, Any]) -> None:
    chosen = select_certified(FRAME, good(), confidence, **({"max_excess": 0.1} | asked))
    assert chosen.point["config_id"] == "a"


def test_without_a_test_nothing_is_certified_and_fresh_seeds_do_not_count() -> None:
    error = refused(None)
    assert isinstance(error, NotConfirmed)
    assert str(error) == "No setting is certified, since no test was begun in this run folder."
    again = [row_with(f"k{seed}", "a", role="confirmation", seed=seed, val_asr=0.0) for seed in (1, 2, 3)]
    with pytest.raises(NotConfirmed, match=r"folder\. What confirm --top trained is described, not counted\.$"):
        select_certified(frame_of(row_with("t0", "a"), *again), None, 0.9, max_excess=0.5)


def test_of_a_test_that_is_not_decided_it_is_told_how_far_it_is() -> None:
    two = [setting_named("a"), setting_named("b", "bcu")]
    steps = [step(0, pilot=True), step(1, pilot=True, loss=1.0, failed="The loss is nan.")]
    error = refused(certificate_of(steps, None, candidates=two, decided=False))
    assert isinstance(error, NotConfirmed)
    assert str(error) == (
        "The test is not decided (mean worst test_asr_excess <= 0.1 at confidence 0.95) after 2 counted trainings: "
        "vab a under test after 2 replicates (1 failed), bcu b not tested."
    )
    budgets = [Budget(after=0, trainings=40), Budget(after=1, trainings=60)]
    error = refused(certificate_of(steps, None, candidates=two, decided=False, budgets=budgets))
    assert "after 2 counted trainings, with a budget of 60: " in str(error)
    assert "after 0 counted trainings: vab a not tested." in str(refused(certificate_of([], None, decided=False)))


def test_a_test_without_a_winner_gives_the_verdict_on_each_candidate() -> None:
    two = [setting_named("a"), setting_named("b", "bcu")]
    steps = [step(0, 1.0, pilot=True), step(0, 0.9, candidate=1), step(1, 0.8, candidate=1)]
    error = refused(certificate_of(steps, None, candidates=two))
    assert isinstance(error, BoundsMissed)
    assert str(error) == (
        "Nothing was certified for mean worst test_asr_excess <= 0.1 at confidence 0.95: vab a given up after 1 "
        "replicate, bcu b given up after 2 replicates."
    )


CERTIFIED = "vab a was certified for mean worst test_asr_excess <= 0.1 at confidence 0.95"


@pytest.mark.parametrize(
    ("confidence", "asked", "what"), [(0.95, 0.05, "0.05 at confidence 0.95"), (0.99, 0.1, "0.1 at confidence 0.99")]
)
def test_a_stricter_bound_or_a_higher_confidence_is_not_implied(confidence: float, asked: float, what: str) -> None:
    error = refused(good(), confidence, max_excess=asked)
    assert not isinstance(error, (BoundsMissed, NotConfirmed))
    assert str(error) == (
        f"{CERTIFIED}, which does not imply {what}. A run folder has one test: use --max-excess 0.1 --confidence 0.95, "
        "or values that are less strict."
    )
    open_ = refused(certificate_of([step(0)], None, decided=False), confidence, max_excess=asked)
    assert str(open_).startswith("The test of this run folder is about mean worst test_asr_excess <= 0.1 at confidence")


@pytest.mark.parametrize("excess", [None, 0.1])
def test_a_bound_on_the_other_figure_was_not_tested(excess: float | None) -> None:
    error = refused(good(), max_excess=excess, max_asr=0.9)
    assert str(error) == (
        f"{CERTIFIED}, and --max-asr was not tested. A run folder has one test: use --max-excess 0.1 alone."
    )


def test_attack_success_can_be_certified_too() -> None:
    by_success = good(metric="test_asr", min_acc=0.6)
    assert select_certified(FRAME, by_success, 0.95, max_asr=0.1).point["config_id"] == "a"
    text = str(refused(by_success))
    assert "was certified for mean worst test_asr <= 0.1 with test_acc >= 0.6 at confidence 0.95" in text
    assert "--max-excess was not tested. A run folder has one test: use --max-asr 0.1 alone." in text


def test_another_defense_than_the_winners_qualifies_not() -> None:
    assert str(refused(good(), defense="bcu")) == "The certified setting is vab a: leave out --defense bcu."
    two = [setting_named("a"), setting_named("b", "bcu")]
    second = certificate_of([step(0, 1.0, pilot=True), *(step(n, candidate=1) for n in range(32))], 1, candidates=two)
    assert select_certified(FRAME, second, 0.95, max_excess=0.1, defense="bcu").point["config_id"] == "b"


def test_a_poison_rate_that_no_attacker_has_is_not_implied() -> None:
    rates = good(attackers=[attacker(), attacker("faint", poison_rate=0.05)])
    assert select_certified(FRAME, rates, 0.95, max_excess=0.1, poison_rate=0.05).point["config_id"] == "a"
    assert str(refused(rates, poison_rate=0.2)) == (
        "No attacker of the test has the poison rate 0.2; there are 0.05, 0.1."
    )


def test_bounds_on_accuracy_are_checked_on_the_replicates() -> None:
    """The search had 0.9."""
    error = refused(good(), min_acc=0.8, min_class_acc=0.6)
    assert isinstance(error, BoundsMissed)
    assert str(error) == (
        "vab a is certified, but over its 32 replicates its mean test_acc of 0.700 is below 0.8 and its mean "
        "test_min_class_acc of 0.500 is below 0.6."
    )
    assert "its mean test_acc of 0.700 is below 0.71." in str(refused(good(), min_acc=0.71))


def test_an_accuracy_on_the_worst_class_that_is_not_known_keeps_no_bound() -> None:
    unknown = certificate_of([step(0, min_class_acc=None), *(step(number) for number in range(1, 32))])
    assert select_certified(FRAME, unknown, 0.95, max_excess=0.1).point["config_id"] == "a"
    assert str(refused(unknown, min_class_acc=0.1)) == (
        "The accuracy on the worst class is not known of all replicates of vab a: leave out --min-class-acc."
    )


def test_a_setting_that_the_search_tried_against_several_attackers_has_the_figures_of_the_hardest() -> None:
    rows = [row_with(f"t{n}", "a", poison_rate=rate, val_acc=acc) for n, (rate, acc) in
            enumerate(((0.05, 0.9), (0.1, 0.7), (0.2, 0.8)))]  # fmt: skip
    weak = row_with("t9", "a", poison_rate=0.3, val_acc=0.1, weak_attack=True, control_asr=0.3)
    chosen = select_certified(frame_of(*rows, weak), good(), 0.95, max_excess=0.1)
    assert (chosen.point["environment"], chosen.point["val_acc"]) == ("poison_rate=0.1", 0.7)


def test_without_a_finished_trial_of_the_setting_nothing_is_selected() -> None:
    with pytest.raises(NothingQualifies, match=r"^No finished trial has the certified setting vab a\.$"):
        select_certified(frame_of(control_row(), row_with("t1", "b")), good(), 0.95, max_excess=0.1)
