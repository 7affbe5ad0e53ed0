"""The agenda of a test: records in memory, a virtual set of places, and figures made up here; nothing is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from sweeper.analysis.certification import CERTIFIED, GIVEN_UP, SKIPPED, Certification, Terms
from sweeper.run_folder.certificate import replicate_seed
from sweeper.run_folder.record import FAILED, FINISHED, PRUNED, RUNNING, Training, TrialRecord
from sweeper.search.replicates import Replicates, Result, in_parts
from tests.sweeper.search.in_memory import Book
from tests.sweeper.small import FACTS, epoch_figures, spec_with
from trainers.scenario import ScenarioConfig
from trainers.trial import TrialConfig

BADNETS, BLEND = ScenarioConfig("badnets", "badnets"), ScenarioConfig("blend", "blend")
WEAKER = replace(BADNETS, poison_rate=0.02)
"""Of the same name as the first."""
METRIC = "test_asr"
Outcome = Mapping[str, Any] | None
"""Figures of a training; null: it fails."""
Outcomes = Callable[[int, int, ScenarioConfig], Outcome]
"""By number of the setting, of its replicate, and scenario."""
Step = tuple[int, int, Result]


def settings_of(count: int) -> list[TrialConfig]:
    config = spec_with(defense={"name": "none", "epochs": 1}).trial(lambda name, _: name, "data")
    return [replace(config, params={"epochs": 1 + number}, scenarios=(), repeats=()) for number in range(count)]


SETTINGS = settings_of(6)


def drawn(seed: int, breaks: Sequence[float], fails: float = 0.05) -> Outcomes:
    """Trainings of which the attack breaks a share, and a few fail; each by its setting, number and scenario alone."""

    def outcome(setting: int, number: int, scenario: ScenarioConfig) -> Outcome:
        rng = np.random.default_rng([seed, setting, number, round(1000 * scenario.poison_rate), len(scenario.name)])
        if rng.random() < fails:
            return None if rng.random() < 0.5 else {METRIC: float("nan")}
        loss = 1.0 if rng.random() < breaks[setting] else float(rng.beta(1, 40))
        return {METRIC: loss, "test_acc": float(rng.uniform(0.7, 0.9))}

    return outcome


def steady(_setting: int, _number: int, _scenario: ScenarioConfig) -> Outcome:
    return {METRIC: 0.0}


@dataclass
class Driver:
    """A test with its agenda, and the places that train for it.

    Args:
        outcomes: of trainings.
        candidates: the first settings.
        described: the settings after them.
        scenarios: of each replicate.
        budget: trainings.
        bound: on the mean loss.
        error: allowed.
        records: of an earlier part of the test.
        steps: that were counted there.
    """

    outcomes: Outcomes
    candidates: int = 3
    described: int = 0
    scenarios: tuple[ScenarioConfig, ...] = (BADNETS, BLEND)
    budget: int | None = None
    bound: float = 0.3
    error: float = 0.2
    records: list[TrialRecord] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        terms = Terms(self.bound, self.error, self.candidates, trainings=len(self.scenarios))
        self.test = Certification(terms, self.budget)
        for candidate, number, result in self.steps:
            assert self.test.turn == (candidate, number)
            self.test.apply(result.loss, result.accuracy, result.trainings, result.ended_by is not None)
        self.book = Book(self.records)
        self.running: list[Training] = []
        self.begun: list[Training] = []
        self.agenda = Replicates(
            self.test, SETTINGS[: self.candidates + self.described], self.candidates, self.scenarios, replicate_seed,
            METRIC, self.book, lambda *step: self.steps.append(step),
        )  # fmt: skip

    def begin(self) -> Training | None:
        training = self.agenda.next()
        if training is not None:
            assert training.state.status == RUNNING
            assert training not in self.running
            self.begun += [training] if training.state.attempt == 0 else []
            training.state.attempt += 1
            self.running.append(training)
        return training

    def finish(self, training: Training) -> list[Training]:
        self.running.remove(training)
        setting, number = of(training)
        scenario = next(s for s, seed in training.record.runs if (s.name, seed) == training.run)
        figures = self.outcomes(setting, number, scenario)
        if figures is None:
            stopped = self.agenda.ended(training, FAILED, "it crashed")
        else:
            training.record.add_epoch(training.run, epoch_figures(1, **figures), FACTS)
            stopped = self.agenda.ended(training, FINISHED)
        for other in stopped:
            self.running.remove(other)
        return stopped

    def run(self, places: int = 1, order: int = 0, at_most: int = 100_000, lost: float = 0.0) -> "Driver":
        """Let trainings end in random order; some are lost with their place, and begin again."""
        rng = np.random.default_rng(order)
        for _ in range(at_most):
            while len(self.running) < places and self.begin() is not None:
                pass
            if not self.running:
                assert self.agenda.is_done
                break
            training = self.running[rng.integers(len(self.running))]
            if rng.random() < lost:
                self.running.remove(training)
                self.agenda.again(training)
            else:
                self.finish(training)
        return self

    def restarted(self, steps: Sequence[Step] | None = None) -> "Driver":
        """The test as it goes on from what lies on the disk."""
        known = list(self.steps if steps is None else steps)
        return replace(self, records=self.book.written(), steps=known)

    @property
    def found(self) -> object:
        """What must not depend on places, order and restarts."""
        standings = [vars(candidate) for candidate in self.test.candidates]
        return self.test.certified, self.test.decided, self.test.spent, self.steps, standings

    def records_of(self, setting: int, number: int) -> list[TrialRecord]:
        known = sorted(self.book.records.values(), key=lambda record: record.trial_id)
        return [r for r in known if r.config and r.config.repeats == (replicate_seed(setting, number),)]


def of(training: Training) -> tuple[int, int]:
    """Number of the setting, and of the replicate."""
    return divmod(training.run[1] - replicate_seed(0, 0), replicate_seed(1, 0) - replicate_seed(0, 0))


BREAKS = [(0.4, 0.02, 0.02, 0.0), (0.0, 0.0, 0.0, 0.5), (0.15, 0.15, 0.1, 0.0), (0.6, 0.6, 0.6, 0.0)]


@pytest.mark.parametrize("seed", range(4))
def test_the_decision_does_not_depend_on_places_or_on_who_ends_first(seed: int) -> None:
    outcomes = drawn(seed, BREAKS[seed % 4])
    alone = Driver(outcomes, described=1).run()
    assert alone.test.decided
    for places, order, lost in ((1, 1, 0.2), (2, 2, 0.0), (7, 3, 0.1)):
        found = Driver(outcomes, described=1).run(places, order, lost=lost)
        assert found.found == alone.found
        assert found.running == []


@pytest.mark.parametrize("seed", range(6))
def test_it_may_be_killed_at_any_moment(seed: int) -> None:
    clean = seed % 3 == 0  # was asked to end
    outcomes, rng = drawn(seed, BREAKS[seed % 4]), np.random.default_rng(seed)
    scenarios = ((BADNETS, BLEND), (BADNETS, WEAKER))[seed % 2]
    alone = Driver(outcomes, described=1, scenarios=scenarios).run()
    driver = Driver(outcomes, described=1, scenarios=scenarios)
    for part in range(200):
        driver.run(places := int(rng.integers(1, 8)), part, at_most=int(rng.integers(1, 25)))
        if driver.agenda.is_done and not driver.running:
            break
        if clean:
            driver.agenda.abandon("Not finished: Ctrl-C.")
        # The last step may not have been written before it was killed, where its records were.
        unwritten = int(not clean and rng.random() < 0.5)
        driver = driver.restarted(driver.steps[: len(driver.steps) - unwritten])
    assert places
    assert driver.found == alone.found
    assert [len(driver.records_of(3, number)) for number in range(4)] == [*[len(in_parts(scenarios))] * 3, 0]
    assert all(record.status != RUNNING for record in driver.book.records.values())
    assert len({record.trial_id for record in driver.book.written()}) == len(driver.book.written())


def test_trainings_of_a_replicate_run_one_after_the_other_and_the_hardest_first() -> None:
    driver = Driver(steady)
    first, second = driver.begin(), driver.begin()
    assert first is not None
    assert second is not None
    assert [(of(t), t.run[0]) for t in (first, second)] == [((0, 0), "badnets"), ((0, 1), "badnets")]
    driver.finish(first)
    third = driver.begin()
    assert third is not None
    assert (of(third), third.run[0]) == ((0, 0), "blend")


def test_a_replicate_ends_early_where_the_setting_is_out_and_counts_as_1() -> None:
    driver = Driver(lambda setting, *_: {METRIC: 0.95 if setting < 2 else 0.0}).run()
    assert [(k, n, r.loss, r.trainings, r.ended_by) for k, n, r in driver.steps[:2]] == [
        (0, 0, 1.0, 1, "badnets"), (1, 0, 1.0, 1, "badnets"),
    ]  # fmt: skip
    (record,) = driver.records_of(0, 0)
    assert (record.status, record.ended_by) == (PRUNED, "badnets")
    assert record.error == "Ended after badnets: the setting is out, whatever the other scenarios bring."
    assert [(s.status, s.attempt) for s in record.trainings.values()] == [(FINISHED, 1), (PRUNED, 0)]
    assert [candidate.verdict for candidate in driver.test.candidates] == [SKIPPED, SKIPPED, CERTIFIED]
    assert len(driver.begun) == driver.test.spent == 1 + 1 + 2 * 5  # 1.386 ** 5 is above 1 / 0.2


def test_a_high_loss_that_does_not_put_the_setting_out_ends_nothing() -> None:
    """At the first pilot 0.85 is less than three bounds: both scenarios run, and the loss is the worst one's."""
    figures = {(0, 0, "badnets"): 0.5, (0, 0, "blend"): 0.85, (0, 1, "badnets"): 0.06}
    driver = Driver(lambda k, n, scenario: {METRIC: figures.get((k, n, scenario.name), 0.0)}, bound=0.3).run()
    assert [(k, n, r.loss, r.trainings, r.ended_by) for k, n, r in driver.steps[:2]] == [
        (0, 0, 0.85, 2, None), (0, 1, 1.0, 1, "badnets"),
    ]  # fmt: skip


def test_ahead_of_its_turn_a_replicate_ends_only_when_those_before_it_are_counted() -> None:
    """The third pilot breaks first. It waits; with 0.85 before it, it puts the setting out."""
    figures = {(0, 0): 0.5, (0, 1): 0.3, (0, 2): 0.2}
    driver = Driver(lambda k, n, _: {METRIC: figures.get((k, n), 0.0)})
    begun = [driver.begin() for _ in range(3)]
    third = begun[2]
    assert third is not None
    driver.finish(third)
    again = driver.begin()
    assert again is not None
    assert (of(again), again.run[0]) == ((0, 2), "blend")  # alone it does not put the setting out
    driver.finish(again)
    assert driver.steps == []
    driver.run()
    # It ran both scenarios, and still its result is that of a test that trains one by one.
    assert [(r.loss, r.trainings, r.ended_by) for _, _, r in driver.steps[:3]] == [
        (0.5, 2, None), (0.3, 2, None), (1.0, 1, "badnets"),
    ]  # fmt: skip
    (record,) = driver.records_of(0, 2)
    assert record.status == FINISHED


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (None, "it crashed"),
        ({METRIC: float("nan")}, f"badnets has no {METRIC}"),
        ({METRIC: None}, f"badnets has no {METRIC}"),
        ({METRIC: 1.5}, f"badnets has no {METRIC}"),
        ({METRIC: 0.0, "test_acc": None}, "badnets has no test_acc"),
    ],
    ids=["failed", "nan", "missing", "no share", "no accuracy"],
)
def test_what_failed_or_has_no_figure_counts_as_1(outcome: Outcome, says: str) -> None:
    def outcomes(_setting: int, number: int, scenario: ScenarioConfig) -> Outcome:
        return outcome if (number, scenario.name) == (0, "badnets") else {METRIC: 0.0}

    driver = Driver(outcomes, candidates=1, bound=0.6).run()
    (_, _, first), (_, _, second) = driver.steps[:2]
    assert (first.loss, first.accuracy, first.min_class_acc, first.trainings) == (1.0, None, None, 1)
    assert first.failed == says
    assert (second.loss, second.failed) == (0.0, None)
    (record,) = driver.records_of(0, 0)
    assert record.status == (FAILED if outcome is None else PRUNED)
    assert [state.attempt for state in record.trainings.values()] == [1, 0]  # the other scenario is not run


def test_the_accuracy_of_a_replicate_is_the_mean_and_that_of_a_class_the_lowest() -> None:
    figures = {"badnets": (0.8, 0.5), "blend": (0.6, 0.3)}
    driver = Driver(
        lambda _k, _n, s: {METRIC: 0.0, "test_acc": figures[s.name][0], "test_min_class_acc": figures[s.name][1]}
    ).run()
    assert (driver.steps[0][2].accuracy, driver.steps[0][2].min_class_acc) == pytest.approx((0.7, 0.3))


def test_what_a_given_up_setting_still_runs_is_stopped() -> None:
    """Its first pilot fails last: the others are returned to be stopped, with a reason, and do not come again."""
    driver = Driver(lambda k, *_: {METRIC: 0.95 if k == 0 else 0.0})
    first = driver.begin()
    others = [driver.begin() for _ in range(8)]
    assert first is not None
    assert {of(t)[0] for t in others if t is not None} == {0}
    stopped = driver.finish(first)
    assert stopped == others
    for training in stopped:
        assert (training.record.status, training.state.status) == (PRUNED, PRUNED)
        assert training.record.error == "Not needed: the test went on without it."
        assert driver.agenda.ended(training, FINISHED) == []  # too late
        assert training.state.status == PRUNED
    driver.run(3)
    assert driver.test.certified == 1
    assert {k for k, _, _ in driver.steps} == {0, 1}


def test_pilots_that_ran_ahead_count_when_their_setting_is_next() -> None:
    driver = Driver(lambda k, n, _: {METRIC: 0.95 if (k, n) == (0, 0) else 0.0}, scenarios=(BADNETS,))
    sure = driver.test.least_left
    first = driver.begin()
    assert first is not None
    ahead = [driver.begin() for _ in range(sure + 2)]
    pilots = [t for t in ahead if t is not None and of(t)[0] == 1]
    assert [of(t) for t in pilots] == [(1, 0), (1, 1), (1, 2)]
    for training in pilots:
        driver.finish(training)
    driver.finish(first)
    assert [(k, n) for k, n, _ in driver.steps] == [(0, 0), (1, 0), (1, 1), (1, 2)]


def test_a_training_that_broke_off_is_taken_up_again_before_all_others() -> None:
    driver = Driver(steady, described=1)
    lost, other = driver.begin(), driver.begin()
    assert lost is not None
    assert other is not None
    driver.running.remove(lost)
    driver.agenda.again(lost)
    assert driver.begin() is lost
    assert lost.state.attempt == 2
    driver.run(2)
    assert driver.test.certified == 0
    assert driver.agenda.is_done


@pytest.mark.parametrize("places", [1, 5])
def test_described_settings_have_three_replicates_each_after_the_decision(places: int) -> None:
    driver = Driver(steady, candidates=2, described=2).run(places)
    after = [of(t) for t in driver.begun if of(t)[0] >= 2]
    assert sorted(set(after)) == [(k, n) for k in (2, 3) for n in range(3)]
    assert len(after) == 2 * 3 * 2
    assert {of(t)[0] for t in driver.begun[-len(after) :]} == {2, 3}
    assert {k for k, _, _ in driver.steps} == {0}
    assert all(r.status == FINISHED for k in (2, 3) for n in range(3) for r in driver.records_of(k, n))


def test_a_described_replicate_that_fails_changes_nothing() -> None:
    driver = Driver(lambda k, *_: None if k == 1 else {METRIC: 0.0}, candidates=1, described=1).run(4)
    assert driver.test.certified == 0
    assert [driver.records_of(1, n)[0].status for n in range(3)] == [FAILED] * 3


def test_scenarios_of_one_name_go_to_records_of_their_own() -> None:
    scenarios = (BADNETS, BLEND, WEAKER)
    assert in_parts(scenarios) == [[BADNETS, BLEND], [WEAKER]]
    losses = {0.1: 0.1, 0.02: 0.2}  # by poison rate
    driver = Driver(lambda _k, _n, s: {METRIC: losses[s.poison_rate]}, candidates=1, scenarios=scenarios).run(3)
    first, second = driver.records_of(0, 0)
    assert [r.config.scenarios for r in (first, second) if r.config] == [(BADNETS, BLEND), (WEAKER,)]
    assert first.trial_id != second.trial_id
    assert {(r.loss, r.trainings) for _, _, r in driver.steps} == {(0.2, 3)}
    out = Driver(lambda _k, _n, s: {METRIC: 1.0 if s == BADNETS else 0.0}, candidates=1, scenarios=scenarios,
                 bound=0.1)  # fmt: skip
    out.run(3)
    assert [(r.loss, r.trainings) for _, _, r in out.steps] == [(1.0, 1)]
    assert out.test.candidates[0].verdict == GIVEN_UP
    assert {r.status for r in out.records_of(0, 0)} == {PRUNED}
    broke = Driver(
        lambda _k, _n, s: None if s == BLEND else {METRIC: 0.0}, candidates=1, scenarios=scenarios, bound=0.7
    )
    broke.run()
    assert [r.status for r in broke.records_of(0, 0)] == [FAILED, PRUNED]
    assert (broke.steps[0][2].loss, broke.steps[0][2].trainings) == (1.0, 2)


# Budget


@pytest.mark.parametrize("places", [1, 7])
@pytest.mark.parametrize("seed", range(3))
def test_no_more_trainings_count_than_the_budget_allows(seed: int, places: int) -> None:
    """What ran ahead and is not needed is beyond it: else the decision would depend on the number of places."""
    outcomes = drawn(seed, BREAKS[seed % 4])
    for budget in (10, 23, 61):
        driver = Driver(outcomes, budget=budget).run(places, seed, lost=0.1)
        assert driver.test.spent <= budget
        assert driver.test.spent <= len(driver.begun)
        if places == 1:
            assert driver.test.spent == len(driver.begun)  # nothing is trained ahead
        assert driver.found == Driver(outcomes, budget=budget).run(1).found
        again = driver.restarted()
        again.run(places)
        assert again.found == driver.found


def test_a_budget_of_the_least_is_enough_for_a_lossless_setting() -> None:
    least = Terms(0.3, 0.2, 3, trainings=2).least_trainings()
    for places in (1, 7):
        driver = Driver(steady, budget=least).run(places)
        assert (driver.test.certified, len(driver.begun)) == (2, least)
    nothing = Driver(steady, budget=least - 1).run()
    assert (nothing.begun, nothing.test.decided) == ([], False)


def test_a_spent_budget_leaves_what_runs_to_a_larger_one() -> None:
    """At 14 trainings one candidate can have 7 replicates; a loss in its second one asks for more."""
    outcomes = {(0, 1): 0.6}
    driver = Driver(lambda k, n, _: {METRIC: outcomes.get((k, n), 0.0)}, candidates=1, budget=14)
    driver.run(7)
    assert (driver.test.decided, driver.test.turn) == (False, None)
    assert len(driver.begun) <= 14
    whole = Driver(driver.outcomes, candidates=1).run()
    more = replace(driver, budget=60, records=driver.book.written(), steps=list(driver.steps)).run(7)
    assert (more.test.certified, more.found) == (0, whole.found)
    assert len(driver.begun) + len(more.begun) <= 60


def test_described_settings_are_trained_also_when_the_budget_is_spent_ahead() -> None:
    """Places that trained ahead of a setting that is then given up leave too little for the others."""
    driver = Driver(lambda k, n, _: {METRIC: 1.0 if k == 0 and n == 3 else 0.0}, described=1, scenarios=(BADNETS,),
                    budget=14).run(9)  # fmt: skip
    assert len({of(t) for t in driver.begun if of(t)[0] == 3}) == 3
