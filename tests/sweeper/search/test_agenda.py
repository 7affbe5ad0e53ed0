"""What an agenda hands out, and what it makes of the ends: without Ray, and with all that it keeps in memory."""

from collections import Counter, deque

import pytest
from optuna.exceptions import ExperimentalWarning

from sweeper.preset.objectives import Constraint
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import (
    CONFIRMATION,
    CONTROL,
    FAILED,
    FINISHED,
    PRUNED,
    RUNNING,
    TRIAL,
    Training,
    TrialRecord,
)
from sweeper.search.gain import WAITING
from tests.sweeper.search.in_memory import (
    RACED,
    RUNS,
    TWO,
    Figures,
    Sweep,
    attackers_spec,
    names,
    racing_spec,
    run,
    spec_of,
)
from tests.sweeper.small import ONE_SETTING, record_of, spec_with

pytestmark = pytest.mark.filterwarnings("ignore", category=ExperimentalWarning)


# What comes next


def test_controls_come_first_and_once() -> None:
    sweep = Sweep(spec_of(trials=2, race="off"))
    begun = sweep.begin(5)
    assert names(begun) == ["c0000-0", "c0001-0", "c0002-0", "c0003-0", "t0000-0"]
    trial = begun[4].record
    assert [(control.run, control.config.key) for control in begun[:4]] == list(trial.controls.items())
    assert {control.config.defense for control in begun[:4]} == {"none"}
    for training in begun:
        sweep.finish(training)
    assert not any(name.startswith("c") for name in run(sweep))
    assert sweep.trial(1).controls == trial.controls


def test_a_control_of_a_new_environment_comes_before_the_trial_that_needs_it() -> None:
    rates = [{"attack": "badnets", "poison_rate": {"categorical": [0.05, 0.1]}}]
    sweep = Sweep(spec_with(scenarios=rates, search={"sampler": "random", "trials": 4}))
    assert run(sweep) == ["c0000-0", "t0000-0", "c0001-0", "t0001-0", "t0002-0", "t0003-0"]


@pytest.mark.parametrize("places", [1, 2, 3])
def test_without_races_as_many_trials_are_open_as_trainings_run_at_once(places: int) -> None:
    """A trial goes on before a new one is proposed."""
    sweep = Sweep(spec_of(trials=6, race="off"))
    sweep.skip_controls(4)
    running = deque(sweep.begin(places))
    for _ in range(4 * 6 - places):
        trials = [record for record in sweep.book.records.values() if record.role == TRIAL]
        open_races = [record.trial_id for record in trials if record.status == RUNNING]
        assert len(open_races) == min(places, 6 - (len(trials) - len(open_races)))
        if len(sweep.study.trials) < 6:
            assert sorted(training.record.trial_id for training in running) == open_races, "each runs one training"
        sweep.finish(running.popleft())
        running += sweep.begin(1)
    assert not sweep.agenda.is_done
    for training in running:
        assert sweep.agenda.next() is None
        sweep.finish(training)
    assert sweep.agenda.is_done
    assert sweep.states() == ["COMPLETE"] * 6


def test_without_races_one_trial_runs_to_its_end_where_one_training_runs_at_once() -> None:
    finished = run(Sweep(spec_of(trials=2, race="off")))
    assert finished[4:] == [f"t000{trial}-{number}" for trial in range(2) for number in range(4)]


def test_a_race_goes_on_once_enough_of_them_wait_and_the_most_promising_goes_on_to_its_end() -> None:
    """Where all promise the same, the one that has run more goes on, and the oldest of those."""
    finished = run(Sweep(racing_spec(trials=WAITING + 2)), figures=lambda _: {"val_asr": 0.1})[4:]
    assert [name[:5] for name in finished[: WAITING + 3]] == [f"t{k:04d}" for k in range(WAITING)] + ["t0000"] * 3
    assert [name[:5] for name in finished[WAITING + 3 :]][:2] == [f"t{WAITING:04d}", "t0001"]

    accuracy = {f"t{k:04d}": acc for k, acc in enumerate((0.1, 0.8, 0.2, 0.3, 0.3))}
    sweep = Sweep(spec_of(trials=WAITING, race="learned"))
    finished = run(sweep, figures=lambda t: {"val_acc": accuracy.get(t.record.trial_id, 0.9)})[4 + WAITING :]
    assert [name[:5] for name in finished] == ["t0001"] * 3, "the others are not likely to become as good"
    assert sweep.states() == ["COMPLETE"] * WAITING
    assert [sweep.trial(k).status for k in range(WAITING)] == [PRUNED, FINISHED, PRUNED, PRUNED, PRUNED]


def test_what_a_complete_trial_has_reached_already_promises_nothing_more() -> None:
    """Once t0002 is complete, t0000 would add nothing, and t0001 a little, since it is more accurate."""
    shown = {"t0000": (0.80, 0.0), "t0001": (0.82, 0.35), "t0002": (0.81, 0.0)}
    sweep = Sweep(spec_of(trials=WAITING + 2, race="bounds", interest=0.4))

    def figures(training: Training) -> dict[str, float]:
        acc, asr = shown.get(training.record.trial_id, (0.1, 0.0))
        return {} if training.record.role == CONTROL else {"val_acc": acc, "val_asr": asr}

    finished = [name[:5] for name in run(sweep, figures=figures) if name.startswith("t")]
    ends = {name: max(k for k, own in enumerate(finished) if own == name) for name in shown}
    assert ends["t0002"] < ends["t0001"] < ends["t0000"]


def test_on_several_places_one_goes_on_for_each_that_ends_once_enough_wait() -> None:
    sweep = Sweep(racing_spec(trials=20))
    sweep.skip_controls(4)
    running = deque(sweep.begin(3))
    for count in (*range(4, 3 + WAITING), *[2 + WAITING] * 3):
        sweep.finish(running.popleft())
        running += sweep.begin(1)
        assert len(sweep.study.trials) == count


def test_when_no_trial_is_left_races_give_several_trainings_and_the_one_that_runs_least_first() -> None:
    sweep = Sweep(spec_of(trials=2, race="off"))
    sweep.skip_controls(4)
    begun = sweep.begin(8)
    assert [training.record.trial_id for training in begun] == ["t0000", "t0001"] * 4
    assert [training.run for training in begun[::2]] == RUNS
    assert sweep.agenda.next() is None
    sweep = Sweep(spec_of(trials=2, race="off"))
    sweep.skip_controls(4)
    first, _, third = sweep.begin(3)
    assert (first.record.trial_id, third.record.trial_id) == ("t0000", "t0000")
    sweep.finish(first)
    sweep.finish(third)
    (training,) = sweep.begin()
    assert training.record.trial_id == "t0000", "of which nothing runs"


def test_a_sweep_without_trials_is_done() -> None:
    sweep = Sweep(spec_of(trials=2), [])
    run(sweep)
    assert (sweep.agenda.next(), sweep.agenda.is_done) == (None, True)
    again = Sweep(spec_of(trials=2), sweep.book.written())
    assert (again.agenda.is_done, again.agenda.next()) == (True, None)


def test_parameters_that_are_refused_fail_and_the_next_trial_comes() -> None:
    lengths = {"mix_epochs": {"categorical": [1, 0]}, "suppression_epochs": {"categorical": [1, 0]}}
    sweep = Sweep(spec_with(defense={"name": "vab", **lengths}, search={"sampler": "grid", "trials": 4}))
    finished = run(sweep)
    (refused,) = [record for record in sweep.book.records.values() if record.config is None]
    assert (refused.status, refused.trainings) == (FAILED, {})
    assert "must not both be 0" in str(refused.error)
    assert len([name for name in finished if name.startswith("t")]) == 3
    assert Counter(sweep.states()) == {"COMPLETE": 3, "FAIL": 1}
    assert refused.trial_id in sweep.book.announced


# A trial that leaves its race


def test_a_trial_leaves_with_its_reason_and_what_runs_of_it_is_to_be_stopped() -> None:
    sweep = Sweep(racing_spec())
    sweep.skip_controls(4)
    badnets, blend, again = sweep.begin(3)
    assert [training.run for training in (badnets, blend, again)] == RACED[:3]
    assert sweep.finish(badnets, val_asr=0.1) == []
    assert sweep.finish(blend, val_asr=0.9) == [again], "of two seeds, the mean is at least 0.45"
    record = sweep.trial()
    reason = "val_asr_excess is at least 0.450, above the interest of 0.4"
    assert (record.status, record.error, record.ended_by) == (PRUNED, reason, "blend")
    assert [(state.status, state.error, state.attempt) for state in record.trainings.values()] == [
        (FINISHED, None, 1), (PRUNED, reason, 1), (FINISHED, None, 1), (PRUNED, reason, 0),
    ]  # fmt: skip
    rows = record.rows(sweep.book.control_asr)
    assert [row["val_asr"] for row in rows] == [0.1, None, 0.9, None]
    assert {row["trial_status"] for row in rows} == {PRUNED}
    assert sweep.agenda.next() is None
    assert sweep.agenda.is_done


def test_what_is_reported_of_a_training_that_was_stopped_changes_nothing() -> None:
    sweep = Sweep(racing_spec())
    sweep.skip_controls(4)
    blend, running = sweep.begin(3)[1:]
    sweep.finish(blend, val_asr=0.9)
    before = sweep.trial().to_json()
    for status in (FINISHED, FAILED, PRUNED):
        assert sweep.agenda.ended(running, status, "odd") == []
    assert sweep.trial().to_json() == before
    assert sweep.book.announced.count("t0000") == 1


def test_a_trial_that_leaves_makes_room_for_the_next() -> None:
    sweep = Sweep(racing_spec(trials=3))
    finished = run(sweep, figures=lambda training: {"val_asr": 0.9} if training.record.trial_id == "t0001" else {})
    assert Counter(name[:5] for name in finished if name.startswith("t")) == {"t0000": 4, "t0001": 1, "t0002": 4}
    assert sweep.trial(1).ended_by == "blend", "which nobody had tried until then"


def test_a_race_that_waits_leaves_before_it_goes_on_once_another_trial_is_as_good() -> None:
    sweep = Sweep(racing_spec(trials=2))
    sweep.skip_controls(4)
    good, bad = sweep.begin(2)
    for _ in range(3):
        sweep.finish(good)
        (good,) = sweep.begin()
    assert (good.record.trial_id, bad.record.trial_id) == ("t0000", "t0001")
    assert sweep.finish(bad, val_acc=0.1, val_asr=0.1) == []
    assert sweep.finish(good) == []
    assert sweep.trial(1).status == RUNNING
    assert sweep.agenda.next() is None
    assert (sweep.trial(1).status, sweep.trial(1).ended_by) == (PRUNED, "badnets")
    assert sweep.trial(1).error == "t0000 is at least as good as it can become"
    assert sweep.agenda.is_done


def test_without_races_every_training_runs() -> None:
    sweep = Sweep(spec_of(trials=2, race="off", interest=0.1))
    finished = run(sweep, figures=lambda _: {"val_asr": 0.9})
    assert len(finished) == 4 + 2 * 4
    assert sweep.states() == ["COMPLETE"] * 2


# A training that fails, breaks off or is stopped by a scheduler


def test_a_training_that_fails_ends_its_trial_and_nothing_more_of_it_starts() -> None:
    sweep = Sweep(spec_of(trials=2, race="off"))
    sweep.skip_controls(4)
    first, other, running = sweep.begin(3)
    assert sweep.agenda.ended(first, FAILED, "The loss is nan.") == [running]
    record = sweep.trial()
    assert (record.status, record.error, record.ended_by) == (FAILED, "badnets, seed 0: The loss is nan.", None)
    assert [(state.status, state.error, state.attempt) for state in record.trainings.values()] == [
        (FAILED, "The loss is nan.", 1), (PRUNED, record.error, 1), (PRUNED, record.error, 0),
        (PRUNED, record.error, 0),
    ]  # fmt: skip
    assert sweep.states() == ["FAIL", "RUNNING"]
    assert sweep.study.trials[0].user_attrs["error"] == record.error
    sweep.finish(other)
    assert {name[:5] for name in run(sweep)} == {"t0001"}


def test_one_training_needs_no_name_in_the_error() -> None:
    sweep = Sweep(spec_with(search={"sampler": "random", "trials": 1}))
    sweep.skip_controls(1)
    sweep.agenda.ended(*sweep.begin(), FAILED, "The loss is nan.")
    assert sweep.trial().error == "The loss is nan."


def test_what_a_scheduler_stopped_is_pruned_and_has_no_value() -> None:
    sweep = Sweep(spec_with(search={"sampler": "random", "trials": 1}))
    sweep.skip_controls(1)
    sweep.agenda.ended(*sweep.begin(), PRUNED)
    record = sweep.trial()
    assert (record.status, record.error, record.ended_by, sweep.states()) == (PRUNED, None, None, ["PRUNED"])


def test_what_broke_off_comes_again_before_everything_else() -> None:
    sweep = Sweep(spec_of(trials=3, race="off"))
    control, *_ = sweep.begin(2)
    sweep.agenda.again(control)
    assert sweep.begin() == [control]
    sweep.finish(control)
    third, fourth, training, other = sweep.begin(4)
    assert (third.record.role, training.record.trial_id, other.record.trial_id) == (CONTROL, "t0000", "t0001")
    sweep.finish(other)  # its trial waits
    sweep.agenda.again(training)
    sweep.agenda.again(fourth)
    assert sweep.begin(2) == [training, fourth]
    assert sweep.begin()[0].record is other.record


def test_what_broke_off_of_a_trial_that_has_ended_does_not_come_again() -> None:
    sweep = Sweep(racing_spec())
    sweep.skip_controls(4)
    broken, blend, too_late = sweep.begin(3)
    sweep.agenda.again(broken)
    assert sweep.finish(blend, val_asr=0.9) == [broken, too_late]
    sweep.agenda.again(too_late)
    assert sweep.agenda.next() is None
    assert sweep.agenda.is_done


def test_a_training_ends_once() -> None:
    sweep = Sweep(spec_of(trials=1, race="off"))
    sweep.skip_controls(4)
    (training,) = sweep.begin()
    sweep.finish(training)
    sweep.agenda.again(training)
    assert sweep.agenda.ended(training, FAILED, "odd") == []
    assert (sweep.trial().status, training.state.status, training.state.error) == (RUNNING, FINISHED, None)
    assert names(sweep.begin(3)) == ["t0000-1", "t0000-2", "t0000-3"]


# What the study is told


def test_the_study_is_told_what_is_expected_of_a_trial_that_left_once_its_controls_are_known() -> None:
    """Accuracy: that of all its controls, plus the distance to the one that it met."""
    sweep = Sweep(racing_spec())
    *controls, training = sweep.begin(5)
    sweep.finish(training, val_acc=0.6, val_asr=0.9)
    assert (sweep.trial().status, sweep.states()) == (PRUNED, ["RUNNING"])
    assert "t0000" not in sweep.book.announced
    for control, acc in zip(controls, (0.9, 0.8, 0.7, 0.6), strict=True):
        assert sweep.states() == ["RUNNING"]
        sweep.finish(control, val_acc=acc)
    (trial,) = sweep.study.trials
    assert (trial.state.name, trial.values) == ("COMPLETE", pytest.approx([0.75 - 0.3, 0.9]))
    assert trial.user_attrs == {"trial_id": "t0000", "raced_out": sweep.trial().error}
    assert trial.params == sweep.trial().searched
    assert sweep.book.announced == ["c0000", "c0001", "c0002", "c0003", "t0000"]


def test_a_complete_trial_waits_for_its_controls_too_and_one_that_failed_is_waited_for_no_longer() -> None:
    constraints = [{"metric": "control_asr", "min": 0.8}]
    sweep = Sweep(spec_with(seeds=[0, 1], constraints=constraints, search={"sampler": "random", "trials": 1}))
    first, second, *trainings = sweep.begin(4)
    for training in trainings:
        sweep.finish(training, val_acc=0.7, val_asr=0.2)
    assert (sweep.trial().status, sweep.states(), sweep.agenda.is_done) == (FINISHED, ["RUNNING"], False)
    sweep.finish(first, val_asr=0.9)
    assert sweep.states() == ["RUNNING"]
    sweep.agenda.ended(second, FAILED, "The loss is nan.")
    (trial,) = sweep.study.trials
    assert (trial.state.name, trial.values) == ("COMPLETE", pytest.approx([0.7, 0.2]))
    assert sweep.agenda.is_done
    assert sweep.book.announced == ["c0000", "c0001", "t0000"]


def test_a_trial_without_a_value_has_failed() -> None:
    sweep = Sweep(spec_with(search={"sampler": "random", "trials": 1}))
    sweep.skip_controls(1)
    sweep.finish(*sweep.begin(), val_asr=None)
    assert (sweep.trial().status, sweep.states()) == (FAILED, ["FAIL"])
    assert sweep.trial().error == "An objective is undefined for this trial."
    assert sweep.trial().trainings[RUNS[0]].status == FINISHED


def test_a_trial_without_a_value_has_failed_before_its_control_ends() -> None:
    """Or a kill in between would leave it finished in its record, and failed in the study."""
    sweep = Sweep(spec_with(search={"sampler": "random", "trials": 1}))
    control, training = sweep.begin(2)
    sweep.finish(training, val_asr=None)
    assert (sweep.trial().status, sweep.states()) == (FAILED, ["RUNNING"])
    again = Sweep(sweep.spec, sweep.book.written())
    assert run(again) == [control.name]
    assert (again.trial().status, again.states()) == (FAILED, ["FAIL"])


@pytest.mark.parametrize("abandoned", [True, False])
def test_a_trial_that_ended_before_its_control_is_judged_once_that_has_ended(abandoned: bool) -> None:
    constraints = [{"metric": "control_asr", "min": 0.8}]
    sweep = Sweep(spec_with(constraints=constraints, search={"sampler": "random", "trials": 2}))
    _, training = sweep.begin(2)
    sweep.finish(training)
    if abandoned:
        sweep.agenda.abandon("Not finished: the sweep was interrupted.")
    again = Sweep(sweep.spec, sweep.book.written())
    assert again.states() == ["WAITING"]
    finished = run(again)
    assert finished == ["c0000-0", "t0001-0"], "t0000 is not trained again"
    assert again.states() == ["COMPLETE"] * 2
    assert list(again.study.trials[0].constraints.values()) == pytest.approx([0.8 - 1.0])
    assert again.study.trials[0].params == sweep.trial().searched
    assert again.book.announced == ["c0000", "t0000", "t0001"]


def test_a_constraint_that_is_broken_for_sure_is_told_as_broken() -> None:
    """The one training that ran keeps it; the other control makes it impossible for the mean."""
    spec = spec_of(trials=1, seeds=1, race="bounds")
    spec = spec.model_copy(update={"constraints": [Constraint(metric="val_acc", min=0.8)]})
    sweep = Sweep(spec)
    for control in sweep.begin(2):
        sweep.finish(control, val_acc=0.95 if control.run[0] == "badnets" else 0.6)
    sweep.finish(*sweep.begin(), val_acc=0.85)
    assert sweep.trial().error == "val_acc cannot be at least 0.8 any more"
    (trial,) = sweep.study.trials
    assert list(trial.constraints.values()) == pytest.approx([0.8 - (0.85 + 0.62) / 2])


def test_a_trial_that_would_leave_gets_no_more_places_when_races_run_ahead() -> None:
    sweep = Sweep(spec_of(trials=2, seeds=2, race="bounds"))
    sweep.skip_controls(4)
    good, bad = sweep.begin(2)
    sweep.finish(bad, val_acc=0.1, val_asr=0.1)
    (bad,) = sweep.begin()
    for _ in range(3):
        sweep.finish(good)
        (good,) = sweep.begin()
    sweep.finish(good)
    assert (good.record.trial_id, bad.record.trial_id, good.record.status) == ("t0000", "t0001", FINISHED)
    assert sweep.agenda.next() is None
    sweep.finish(bad, val_acc=0.1, val_asr=0.1)
    assert (sweep.trial(1).status, sweep.agenda.is_done) == (PRUNED, True)


# Which trials are compared


def accurate(**accuracies: float) -> Figures:
    """Accuracies by trial; 0.2 of others."""
    return lambda t: {"val_acc": accuracies.get(t.record.trial_id, 0.2)} if t.record.role == TRIAL else {}


def test_trials_are_compared_with_those_of_their_own_environment_alone() -> None:
    rates = {"poison_rate": {"categorical": [0.05, 0.1]}}
    spec = spec_with(
        scenario_defaults=rates, scenarios=TWO, search={"sampler": "random", "trials": 4, "race": "bounds"}
    )
    sweep = Sweep(spec)
    run(sweep, figures=accurate(t0000=0.8))
    assert [sweep.trial(n).searched["scenario.poison_rate"] for n in range(4)] == [0.05, 0.1, 0.05, 0.1]
    assert [sweep.trial(n).status for n in range(4)] == [FINISHED, FINISHED, PRUNED, FINISHED]
    assert str(sweep.trial(2).error).startswith("t0000 is at least as good")


@pytest.mark.parametrize("turns", [True, False])
def test_where_defenses_take_turns_trials_of_the_same_defense_are_compared(turns: bool) -> None:
    pair = [ONE_SETTING | {"threshold": {"float": [0.1, 0.5]}}, {"name": "none", "lr": {"float": [0.1, 0.5]}}]
    search = {"sampler": "random", "trials": 4, "race": "bounds", "defenses": "turns" if turns else "free"}
    sweep = Sweep(spec_with(defense=pair, scenarios=TWO, search=search))
    run(sweep, figures=accurate(t0000=0.8, t0001=0.7))
    assert [sweep.trial(n).status for n in range(4)] == [FINISHED, FINISHED, PRUNED, PRUNED]
    better = [str(sweep.trial(n).error).split()[0] for n in (2, 3)]
    assert better == (["t0000", "t0001"] if turns else ["t0000"] * 2)


# Attackers and confirmations


def test_an_attackers_control_is_queued_when_its_training_begins() -> None:
    sweep = Sweep(attackers_spec())
    begun = sweep.begin(4)
    assert names(begun) == ["c0000-0", "t0000-0", "c0001-0", "t0001-0"]
    for control, training in (begun[:2], begun[2:]):
        assert control.record.controls == {training.run: training.record.controls[training.run]}
    assert names(sweep.begin(4)) == ["c0002-0", "t0000-1", "c0003-0", "t0001-1"]
    assert sweep.agenda.next() is None


def test_an_attacker_who_leaves_needs_no_further_control() -> None:
    sweep = Sweep(attackers_spec())
    success = {"t0000": 0.9, "t0001": 0.1}  # (0.1 + 1) / 2 is below 0.9
    finished = run(sweep, figures=lambda t: {"val_asr": success.get(t.record.trial_id, 1.0)})
    assert finished == ["c0000-0", "t0000-0", "c0001-0", "t0001-0", "c0002-0", "t0000-1"]
    assert (sweep.trial(1).status, sweep.states()) == (PRUNED, ["COMPLETE"] * 2)
    assert len(sweep.trial(1).controls) == 2
    assert run(Sweep(attackers_spec(), sweep.book.written())) == [], "nor after a resume"
    damaged = [record for record in sweep.book.written() if record.role == TRIAL]
    assert run(Sweep(attackers_spec(), damaged)) == ["c0000-0", "c0001-0", "c0002-0"], "those of what finished"


def test_an_attackers_training_that_waits_for_its_control_goes_with_its_trial() -> None:
    sweep = Sweep(attackers_spec(trials=1))
    *_, control = begun = sweep.begin(3)
    assert names(begun) == ["c0000-0", "t0000-0", "c0001-0"]
    assert [t.name for t in sweep.agenda.ended(begun[1], FAILED, "odd")] == ["t0000-1"]
    assert sweep.agenda.next() is None
    assert sweep.trial().trainings["blend", 1].attempt == 0
    sweep.finish(begun[0])
    assert sweep.states() == ["RUNNING"], "one of its controls still runs"
    sweep.finish(control)
    assert (sweep.states(), sweep.agenda.is_done) == (["FAIL"], True)


def confirmation(spec: SweepSpec) -> TrialRecord:
    record = record_of("k0000", spec=spec)
    return TrialRecord("k0000", CONFIRMATION, record.config, record.controls)


def test_a_confirmation_runs_whole_after_its_controls_and_the_study_does_not_know_it() -> None:
    spec = racing_spec(trials=1)
    sweep = Sweep(spec)
    sweep.agenda.add(confirmation(spec))
    finished = run(sweep, figures=lambda t: {"val_asr": 0.9} if t.record.trial_id == "k0000" else {})
    assert finished[:8] == ["c0000-0", "c0001-0", "c0002-0", "c0003-0", *(f"k0000-{number}" for number in range(4))]
    record = sweep.book.records["k0000"]
    assert (record.status, record.ended_by) == (FINISHED, None)
    assert [trial.user_attrs["trial_id"] for trial in sweep.study.trials] == ["t0000"]
    assert "k0000" in sweep.book.announced


def test_a_confirmation_that_was_cut_off_goes_on_without_being_asked_for() -> None:
    spec = racing_spec()
    sweep = Sweep(spec)
    sweep.agenda.add(confirmation(spec))
    run(sweep, at_most=6)
    again = Sweep(spec, sweep.book.written())
    assert [name for name in run(again) if name.startswith("k")] == ["k0000-2", "k0000-3"]
    assert again.book.records["k0000"].status == FINISHED
