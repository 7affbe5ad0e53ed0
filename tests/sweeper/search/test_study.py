"""What the study is told of an ended trial, and which sampler proposes the next."""

from datetime import datetime
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import FAILED, FINISHED, PRUNED, TrialRecord
from sweeper.search.racing import Racing
from sweeper.search.study import fill_study, make_sampler, verdict
from tests.sweeper.small import FACTS, ONE_SETTING, epoch_figures, finish, make_objectives, record_of, spec_with

TWO = make_objectives(("val_acc", "maximize"), ("val_asr", "minimize"))


def judged(record: TrialRecord, **changes: Any) -> Any:
    spec = spec_with(**changes)
    controls = {key: {"val_acc": 0.95, "val_asr": 0.9} for key in record.controls.values()}
    return verdict(spec, record, Racing(spec).race(record, controls))


# What the study is told


def test_a_finished_trial_is_told_its_objectives_in_their_order() -> None:
    record = finish(record_of(), val_acc=0.7, val_asr=0.2)
    found = judged(record, objectives=TWO)
    assert (found.state, found.values, found.constraints, found.notes) == (TrialState.COMPLETE, [0.7, 0.2], {}, {})
    swapped = make_objectives(("val_asr", "minimize"), ("val_acc", "maximize"))
    assert judged(record, objectives=swapped).values == [0.2, 0.7]


@pytest.mark.parametrize(("status", "state"), [(PRUNED, TrialState.PRUNED), (FAILED, TrialState.FAIL)])
def test_a_trial_that_did_not_finish_has_no_values_whatever_it_reported(status: str, state: TrialState) -> None:
    record = finish(record_of())
    record.end(status, "why")
    found = judged(record, objectives=TWO, constraints=[{"metric": "control_asr", "min": 0.8}])
    assert (found.state, found.values, found.constraints, found.notes) == (state, None, {}, {"error": "why"})


def test_one_undefined_objective_of_two_fails_the_trial_and_its_constraints_are_told() -> None:
    record = finish(record_of(), val_acc=0.7, val_asr=None)
    found = judged(record, objectives=TWO, constraints=[{"metric": "control_asr", "min": 0.8}])
    assert (found.state, found.values) == (TrialState.FAIL, None)
    assert found.constraints == {"0-control_asr": pytest.approx(-0.1)}
    assert found.notes == {"error": "An objective is undefined for this trial.", "violations": found.constraints}


def test_a_broken_constraint_is_above_zero_and_two_of_one_figure_stay_two() -> None:
    bounds = [{"metric": "val_acc", "min": 0.75}, {"metric": "val_acc", "max": 0.9}]
    found = judged(finish(record_of(), val_acc=0.7), constraints=bounds)
    assert found.state == TrialState.COMPLETE
    assert found.constraints == {"0-val_acc": pytest.approx(0.05), "1-val_acc": pytest.approx(-0.2)}


SEEDS = {"seeds": [0, 1], "objectives": TWO}


def raced_out(name: str = "t0000", **figures: Any) -> TrialRecord:
    """A trial that left after the first of its two trainings."""
    record = record_of(name, spec=spec_with(**SEEDS))
    record.add_epoch(("badnets", 0), epoch_figures(1, **figures), FACTS)
    record.end_training(("badnets", 0), FINISHED)
    record.ended_by = "badnets"
    record.end(PRUNED, "t0003 is at least as good, whatever the missing trainings give")
    return record


def test_a_trial_that_left_its_race_is_complete_with_what_it_showed() -> None:
    """Accuracy: that of its controls, plus its distance to the one that it met."""
    record = raced_out(val_acc=0.7, val_asr=0.6)
    spec = spec_with(**SEEDS, constraints=[{"metric": "val_acc", "min": 0.8}])
    first, second = record.controls.values()
    controls = {first: {"val_acc": 0.9, "val_asr": 1.0}, second: {"val_acc": 0.8, "val_asr": 1.0}}
    found = verdict(spec, record, Racing(spec).race(record, controls))
    assert (found.state, found.raced_out) == (TrialState.COMPLETE, True)
    assert found.values == pytest.approx([0.85 - 0.2, 0.6])
    assert found.notes == {"raced_out": record.error, "violations": {"0-val_acc": pytest.approx(0.1)}}


def test_one_that_left_its_race_without_a_value_is_pruned() -> None:
    record = raced_out(val_acc=0.7, val_asr=None)
    found = judged(record, **SEEDS)
    assert (found.state, found.values, found.notes) == (TrialState.PRUNED, None, {"raced_out": record.error})


def test_one_that_a_scheduler_stopped_did_not_leave_its_race() -> None:
    record = raced_out(val_acc=0.7)
    record.ended_by = record.error = None
    found = judged(record, **SEEDS)
    assert (found.state, found.values, found.notes) == (TrialState.PRUNED, None, {})


def filled(spec: SweepSpec, *records: TrialRecord) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=[objective.direction for objective in spec.objectives])
    ran = sum(record.role == "trial" for record in records)
    assert fill_study(study, spec, records, {}) == ran
    return study


def test_a_study_written_again_holds_each_trial_as_it_ended() -> None:
    spec = spec_with(objectives=TWO)
    done, cut, failed = finish(record_of("t0000"), val_acc=0.7, val_asr=0.2), record_of("t0001"), record_of("t0003")
    cut.add_epoch(("badnets", 0), epoch_figures(1), FACTS)
    failed.end(FAILED, "The loss is nan.")
    done.began_at, done.ended_at = 1_700_000_000.0, 1_700_000_060.0
    study = filled(spec, failed, done, cut, finish(record_of("c0000", "control")))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "WAITING", "WAITING", "FAIL"]
    first, second, *_ = study.trials
    assert (first.values, first.params, first.user_attrs) == ([0.7, 0.2], done.searched, {"trial_id": "t0000"})
    assert first.datetime_start == datetime.fromtimestamp(1_700_000_000)
    assert first.datetime_complete == datetime.fromtimestamp(1_700_000_060)
    assert second.system_attrs["fixed_params"] == cut.searched
    assert study.trials[3].user_attrs == {"trial_id": "t0003", "error": "The loss is nan."}


@pytest.mark.parametrize("race", ["off", "bounds", "learned"])
def test_a_trial_that_left_its_race_is_written_again_as_it_was_told(race: str) -> None:
    """Also once races are off: it left all the same."""
    spec = spec_with(**SEEDS, search={"trials": 2, "race": race})
    record, control = raced_out(val_acc=0.7, val_asr=0.6), finish(record_of("c0000", "control", spec), val_acc=0.9)
    (trial,) = filled(spec, record, control).trials
    assert (trial.state, trial.values) == (TrialState.COMPLETE, pytest.approx([0.7, 0.6]))
    assert trial.user_attrs == {"trial_id": "t0000", "raced_out": record.error}
    assert trial.params == record.searched


def test_a_grid_is_written_up_to_the_number_of_trials() -> None:
    grid = {"name": "none", "lr": {"categorical": [0.1, 0.2, 0.3, 0.4]}, "epochs": 1}
    study = filled(spec_with(defense=grid, search={"sampler": "grid", "trials": 3}))
    waiting = [trial.system_attrs["fixed_params"]["none.lr"] for trial in study.trials]
    assert len(waiting) == len(set(waiting)) == 3


# Which sampler proposes


def proposed(sampler: optuna.samplers.BaseSampler, spec: SweepSpec) -> list[float]:
    """What a sampler draws first."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"])
    space = spec.space()
    return [float(study.ask({"x": space["vab.threshold"].distribution()}).params["x"]) for _ in range(4)]


@pytest.mark.parametrize("name", ["tpe", "nsga2", "random"])
def test_draws_are_those_of_the_sweeps_seed_and_go_on_after_a_resume(name: str) -> None:
    def drawn(seed: int = 0, known: int = 0) -> list[float]:
        spec = spec_with(seed=seed, search={"sampler": name, "trials": 40})
        return proposed(make_sampler(spec, known), spec)

    assert drawn() == drawn()
    assert len({tuple(drawn(*each)) for each in ((0, 0), (1, 0), (0, 5), (0, 6))}) == 4


def test_defenses_that_take_turns_draw_numbers_of_their_own() -> None:
    pair = [ONE_SETTING | {"threshold": {"float": [0.1, 0.5]}}, {"name": "none", "lr": {"float": [0.1, 0.5]}}]
    spec = spec_with(defense=pair, search={"sampler": "random", "trials": 40, "defenses": "turns"})
    assert proposed(make_sampler(spec, 0, "vab"), spec) != proposed(make_sampler(spec, 0, "none"), spec)


@pytest.mark.parametrize(("trials", "random"), [(2, 1), (6, 3), (19, 9), (20, 10), (500, 10)])
def test_a_model_is_fitted_after_ten_trials_or_half_of_a_short_sweep(trials: int, random: int) -> None:
    for name in ("tpe", "gp"):
        sampler: Any = make_sampler(spec_with(search={"sampler": name, "trials": trials}), 0)
        assert sampler._n_startup_trials == random


def test_where_defenses_take_turns_each_has_its_share_of_the_trials() -> None:
    pair = [ONE_SETTING | {"threshold": {"float": [0.1, 0.5]}}, {"name": "none", "lr": {"float": [0.1, 0.5]}}]
    sampler: Any = make_sampler(
        spec_with(defense=pair, search={"sampler": "tpe", "trials": 20, "defenses": "turns"}), 0
    )
    assert sampler._n_startup_trials == 5


@pytest.mark.parametrize(("trials", "population"), [(2, 4), (16, 4), (40, 10), (1000, 50)])
def test_a_generation_is_a_quarter_of_the_sweep_from_four_to_fifty(trials: int, population: int) -> None:
    sampler: Any = make_sampler(spec_with(search={"sampler": "nsga2", "trials": trials}), 0)
    assert sampler._population_size == population
