"""What an agenda leaves when a sweep ends early, and how another goes on with it."""

from collections import Counter
from collections.abc import Mapping
from itertools import product
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.exceptions import ExperimentalWarning

from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import (
    CONTROL,
    FAILED,
    FINISHED,
    PRUNED,
    RUNNING,
    TRIAL,
    RunKey,
    Training,
    TrialRecord,
)
from tests.sweeper.search.in_memory import TWO, Figures, Sweep, attackers_spec, plain, racing_spec, run, spec_of
from tests.sweeper.small import ONE_SETTING, record_of, spec_with

pytestmark = pytest.mark.filterwarnings("ignore", category=ExperimentalWarning)


# The end of a sweep before its end


def test_what_is_abandoned_is_interrupted_and_the_study_knows_it() -> None:
    sweep = Sweep(spec_of(trials=9, seeds=1, race="off"))
    first, second, *trainings = sweep.begin(5)
    sweep.finish(first)
    sweep.finish(trainings[0], val_acc=0.7)
    (more,) = sweep.begin()
    sweep.finish(more, val_acc=0.7)  # t0000 only waits for a control now
    assert (sweep.trial().status, sweep.states()) == (FINISHED, ["RUNNING"] * 3)
    sweep.finish(trainings[1])
    sweep.agenda.again(trainings[2])
    sweep.agenda.abandon("Not finished: the sweep was interrupted.")
    assert {name: (r.status, r.interrupted) for name, r in sweep.book.records.items()} == {
        "c0000": (FINISHED, False), "c0001": (FAILED, True), "t0000": (FINISHED, False), "t0001": (FAILED, True),
        "t0002": (FAILED, True),
    }  # fmt: skip
    assert [state.status for state in sweep.trial(1).trainings.values()] == [FINISHED, FAILED]
    assert sweep.states() == ["COMPLETE", "FAIL", "FAIL"]
    for trial in sweep.study.trials[1:]:
        assert trial.user_attrs["error"] == "Not finished: the sweep was interrupted."
    assert Counter(sweep.book.announced) == dict.fromkeys(sweep.book.records, 1)
    assert (sweep.agenda.next(), sweep.agenda.is_done) == (None, True)
    assert sweep.finish(second) == sweep.finish(trainings[2]) == []
    assert sweep.book.records["c0001"].interrupted


# What an earlier part of the sweep has left


def test_trainings_that_finished_are_not_run_again_and_figures_stay() -> None:
    spec = spec_of(trials=1, race="off")
    sweep = Sweep(spec)
    run(sweep, at_most=6, figures=lambda _: {"val_acc": 0.7})
    before = [row for row in sweep.trial().rows({}) if row["status"] == FINISHED]
    assert len(before) == 2
    again = Sweep(spec, sweep.book.written())
    assert run(again, figures=lambda _: {"val_acc": 0.4}) == ["t0000-2", "t0000-3"]
    rows = again.trial().rows({})
    assert [row["val_acc"] for row in rows] == [0.7, 0.7, 0.4, 0.4]
    assert [row["attempt"] for row in rows] == [1] * 4
    assert again.study.trials[0].values == pytest.approx([0.55, 0.0])


def test_a_trial_whose_trainings_all_finished_is_told_at_once() -> None:
    """The program was killed between two lines."""
    spec = spec_of(trials=1, race="off")
    sweep = Sweep(spec)
    run(sweep)
    records = sweep.book.written()
    for record in records:  # a control too
        record.status, record.ended_at = RUNNING, None
    again = Sweep(spec, records)
    assert again.agenda.next() is None
    assert again.states() == ["COMPLETE"]
    assert {record.status for record in again.book.records.values()} == {FINISHED}
    assert again.agenda.is_done


def test_a_trial_that_should_have_left_leaves_without_a_further_training() -> None:
    sweep = Sweep(racing_spec())
    run(sweep, figures=lambda t: {"val_asr": 0.9} if t.record.role == TRIAL else {})
    records = sweep.book.written()
    (cut,) = (record for record in records if record.role == TRIAL)
    assert cut.status == PRUNED
    cut.status, cut.ended_by = RUNNING, None
    again = Sweep(racing_spec(), records)
    assert run(again) == []
    assert (again.trial().status, again.trial().ended_by, again.states()) == (PRUNED, "badnets", ["COMPLETE"])


def test_a_trial_that_is_proposed_otherwise_keeps_nothing_of_what_ran() -> None:
    """As when its record was written by a version that read the preset in another way."""
    spec = spec_of(trials=1, race="off")
    sweep = Sweep(spec)
    run(sweep, at_most=6)
    records = sweep.book.written()
    other = record_of("t0000", spec=spec_of(trials=1, race="off").model_copy(update={"seed": 7}))
    (cut,) = (record for record in records if record.role == TRIAL)
    cut.config = other.config
    assert [name for name in run(Sweep(spec, records)) if name.startswith("t")] == [
        f"t0000-{number}" for number in range(4)
    ]


def test_a_control_that_no_trial_needs_any_more_runs_to_its_end_all_the_same() -> None:
    """A sweep with a record that has not ended could neither be complete nor be confirmed."""
    sweep = Sweep(attackers_spec(trials=1))
    *_, control = begun = sweep.begin(3)
    sweep.agenda.ended(begun[1], FAILED, "odd")
    sweep.finish(begun[0])
    again = Sweep(attackers_spec(trials=1), sweep.book.written())
    assert run(again) == [control.name]
    assert not any(record.open for record in again.book.records.values())


SECONDS = {"badnets": 4.0, "blend": 16.0, "wanet": 8.0}


@pytest.mark.parametrize("mode", ["bounds", "learned"])
@pytest.mark.parametrize("cut", range(1, 26))
def test_the_order_of_scenarios_and_what_races_have_learned_outlast_an_interruption(cut: int, mode: str) -> None:
    """Blend ends most trials, and takes longest: whoever has learned this from fewer trainings has another order."""
    names_ = ("a", "b", "c", "d", "e", "f", "g")
    spec = spec_with(
        defense=ONE_SETTING | {"threshold": {"categorical": [0.1 + 0.05 * number for number in range(len(names_))]}},
        scenarios=[{"attack": name} for name in SECONDS],
        seeds=[0, 1],
        search={"sampler": "grid", "trials": len(names_), "race": mode},
    )

    def figures(training: Training) -> dict[str, Any]:
        scenario, seed = training.run
        if training.record.role == CONTROL:
            return {"seconds": 1.0}
        number = int(training.record.trial_id[1:])
        asr = 0.95 if (scenario, number % 3) in (("blend", 1), ("wanet", 2)) else 0.1
        acc = 0.8 - 0.02 * number + 0.01 * seed * (scenario == "wanet")
        return {"val_asr": asr, "val_acc": acc, "seconds": SECONDS[scenario] + seed}

    whole = run(Sweep(spec), figures=figures)
    first = Sweep(spec)
    before = run(first, figures=figures, at_most=cut)
    second = Sweep(spec, first.book.written())
    assert before + run(second, figures=figures) == whole
    assert len(whole) > cut


# Laws


@st.composite
def interruptions(draw: st.DrawFn) -> tuple[int, list[int]]:
    """Places, and after how many trainings each part of a sweep ends."""
    return draw(st.integers(1, 4)), draw(st.lists(st.integers(0, 12), max_size=3))


def in_parts(spec: SweepSpec, places: int, parts: list[int], figures: Figures = plain) -> tuple[Sweep, list[str]]:
    """Run a sweep that is interrupted, killed or abandoned in turn; the sweep at its end, and what finished."""
    sweep, finished = Sweep(spec), []
    for number, at_most in enumerate(parts):
        finished += run(sweep, places, figures, at_most)
        if number % 2:
            sweep.agenda.abandon("Not finished: the sweep was interrupted.")
        sweep = Sweep(spec, sweep.book.written())
    return sweep, finished + run(sweep, places, figures)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 2), interruptions())
def test_wherever_a_sweep_is_interrupted_each_training_finishes_once(
    trials: int, seeds: int, interrupted: tuple[int, list[int]]
) -> None:
    spec = spec_of(trials, seeds, race="off")
    sweep, finished = in_parts(spec, *interrupted)
    runs = 2 * seeds
    controls = {f"c{number:04d}-0" for number in range(runs)}
    assert Counter(finished) == dict.fromkeys(
        controls | {f"t{trial:04d}-{number}" for trial, number in product(range(trials), range(runs))}, 1
    )
    assert sweep.agenda.is_done
    assert {record.status for record in sweep.book.records.values()} == {FINISHED}
    assert sweep.states() == ["COMPLETE"] * trials


SHARE = st.integers(0, 20).map(lambda n: n / 20)


@st.composite
def populations(draw: st.DrawFn) -> tuple[SweepSpec, list[dict[RunKey, tuple[float, float]]]]:
    """A grid of settings with the accuracy and the attack success of each training: as in tests of races, at most as
    accurate as the control, 0.9, plus 0.02.
    """
    seeds, scenarios = draw(st.integers(1, 3)), TWO[: draw(st.integers(1, 2))]
    runs = [(scenario["attack"], seed) for scenario, seed in product(scenarios, range(seeds))]
    accuracies = st.integers(0, 23).map(lambda n: n / 25)
    figures = st.fixed_dictionaries({run: st.tuples(accuracies, SHARE) for run in runs})
    population = draw(st.lists(figures, min_size=2, max_size=6))
    spec = spec_with(
        defense=ONE_SETTING | {"threshold": {"categorical": [number / 10 for number in range(1, len(population) + 1)]}},
        scenarios=scenarios,
        seeds=list(range(seeds)),
        search={"sampler": "grid", "trials": len(population), "race": "bounds", "interest": draw(SHARE) or 0.02},
    )
    return spec, population


def values_of(figures: Mapping[RunKey, tuple[float, float]]) -> tuple[float, float]:
    """Mean accuracy, and the worst scenario's mean attack success; scenarios have equally many seeds."""
    success: dict[str, list[float]] = {}
    for (scenario, _), (_, asr) in figures.items():
        success.setdefault(scenario, []).append(asr)
    return fmean(acc for acc, _ in figures.values()), max(map(fmean, success.values()))


@settings(deadline=None, max_examples=60)
@given(populations(), interruptions())
def test_races_lose_nothing_of_interest_wherever_the_sweep_is_interrupted(
    drawn: tuple[SweepSpec, list[dict[RunKey, tuple[float, float]]]], interrupted: tuple[int, list[int]]
) -> None:
    spec, population = drawn

    def setting(record: TrialRecord) -> dict[RunKey, tuple[float, float]]:
        return population[round(record.searched["vab.threshold"] * 10) - 1]

    def figures(training: Training) -> dict[str, Any]:
        if training.record.role == CONTROL:
            return {}
        acc, asr = setting(training.record)[training.run]
        return {"val_acc": acc, "val_asr": asr}

    sweep, finished = in_parts(spec, *interrupted, figures)
    assert max(Counter(finished).values()) == 1
    trials = [record for record in sweep.book.records.values() if record.role == TRIAL]
    assert len(trials) == len(population)
    assert {record.status for record in trials} <= {FINISHED, PRUNED}
    complete = [values_of(setting(record)) for record in trials if record.status == FINISHED]
    for acc, asr in map(values_of, population):
        if asr <= spec.search.interest - 1e-9:
            assert any(other >= acc - 1e-9 and success <= asr + 0.005 + 1e-9 for other, success in complete)
    for record, trial in zip(sorted(trials, key=lambda r: r.trial_id), sweep.study.trials, strict=True):
        assert trial.user_attrs["trial_id"] == record.trial_id
        assert ("raced_out" in trial.user_attrs) == (record.status == PRUNED)
        if record.status == FINISHED:
            assert trial.values == pytest.approx(values_of(setting(record)))
