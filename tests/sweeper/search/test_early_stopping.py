"""What epochs do to the trials of a sweep with asha: an agenda in memory, without Ray."""

from typing import Any

import pytest
from optuna.exceptions import ExperimentalWarning

from sweeper.run_folder.record import CONFIRMATION, CONTROL, FINISHED, PRUNED, RUNNING, Training, TrialRecord
from sweeper.search.early_stopping import plan_epochs
from tests.sweeper.search.in_memory import TWO, Sweep, run
from tests.sweeper.small import FACTS, PRESET, epoch_figures, make_objectives, record_of, spec_with

pytestmark = pytest.mark.filterwarnings("ignore", category=ExperimentalWarning)

ASHA = {"sampler": "random", "scheduler": "asha", "race": "off"}
EPOCHS = 4
"""Of a training of the small preset: two of warm-up, and one of each stage."""


def sweep_with(trials: int = 6, **changes: Any) -> Sweep:
    search = ASHA | {"trials": trials} | changes.pop("search", {})
    return Sweep(spec_with(search=search, **changes))


def report(sweep: Sweep, training: Training, epoch: int = 1, **figures: Any) -> list[Training]:
    """Report an epoch, by default as accurate as others, and as little attacked."""
    known = {"val_acc": 0.8, "val_asr": 0.1, "asr_floor": 0.0} | figures
    training.record.add_epoch(training.run, epoch_figures(epoch, **known), FACTS)
    return sweep.agenda.reported(training, training.record.epochs[training.run][epoch])


def goes_on(sweep: Sweep, trainings: list[Training], *accuracies: float, epoch: int = 1) -> list[bool]:
    pairs = zip(trainings, accuracies, strict=True)
    return [report(sweep, training, epoch, val_acc=acc) == [] for training, acc in pairs]


def test_a_training_that_falls_behind_is_stopped_and_its_trial_has_ended() -> None:
    sweep = sweep_with(4)
    sweep.skip_controls(1)
    first, second, third, fourth = sweep.begin(4)
    assert goes_on(sweep, [first, second], 0.8, 0.7) == [True, True]
    assert report(sweep, third, val_acc=0.6) == [third]
    assert report(sweep, fourth, val_acc=0.9) == []
    record = third.record
    reason = "badnets, seed 0 was stopped by asha at 25% of its epochs, where 2 of 3 trainings are ahead of it"
    assert (record.status, record.error, record.ended_by, record.raced_out) == (PRUNED, reason, None, False)
    assert (third.state.status, third.state.error) == (PRUNED, reason)
    assert [trial.state.name for trial in sweep.study.get_trials()] == ["RUNNING", "RUNNING", "PRUNED", "RUNNING"]
    assert sweep.study.get_trials()[2].user_attrs == {"trial_id": "t0002", "error": reason}
    assert sweep.book.announced == ["c0000", "t0002"]
    assert report(sweep, third, 2, val_acc=0.0) == [], "it is over"
    for training in (first, second, fourth):
        sweep.finish(training)
    assert (sweep.agenda.next(), sweep.agenda.is_done) == (None, True)
    assert sweep.states() == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]


def test_it_is_compared_by_all_objectives() -> None:
    sweep = sweep_with(5)
    sweep.skip_controls(1)
    shown = [(0.9, 0.5), (0.5, 0.1), (0.4, 0.6), (0.7, 0.3), (0.85, 0.52)]
    stopped = [report(sweep, training, val_acc=acc, val_asr=asr) != []
               for training, (acc, asr) in zip(sweep.begin(5), shown, strict=True)]  # fmt: skip
    # The fourth is in the first rank, but between the others, and two of four may go on. The last is behind the first.
    assert stopped == [False, False, True, True, True]


def test_what_runs_of_the_trial_is_stopped_with_it() -> None:
    """Of four trainings in each trial, 0.76 go on: of five, the last is stopped."""
    sweep = sweep_with(5, scenarios=TWO, seeds=[0, 1])
    sweep.skip_controls(4)
    begun = sweep.begin(5)
    beside = sweep.begin(5)
    assert [t.run for t in begun] == [("badnets", 0)] * 5
    assert goes_on(sweep, begun[:4], 0.8, 0.7, 0.6, 0.5) == [True] * 4
    assert report(sweep, begun[4], val_acc=0.4) == [begun[4], beside[4]]
    record = begun[4].record
    assert {state.status for state in record.trainings.values()} == {PRUNED}
    assert str(record.error).startswith("badnets, seed 0 was stopped by asha at 25% of its epochs")
    assert report(sweep, beside[0], val_acc=0.1) == [], "scenarios are compared each by itself"


def test_what_finished_before_keeps_its_figures_but_does_not_stand_for_the_trial() -> None:
    sweep = sweep_with(5, scenarios=TWO)
    sweep.skip_controls(2)
    begun = sweep.begin(5)
    for training in begun:
        sweep.finish(training)
    begun = sweep.begin(5)
    results = goes_on(sweep, begun, 0.8, 0.7, 0.6, 0.5, 0.4)
    assert results == [True, True, False, False, False]
    record = begun[2].record
    assert [state.status for state in record.trainings.values()] == [FINISHED, PRUNED]
    assert sweep.states()[2] == "PRUNED", "its first figures would mislead the sampler"


def test_an_epoch_without_a_model_is_not_compared_and_the_next_one_is() -> None:
    sweep = sweep_with(3)
    sweep.skip_controls(1)
    begun = sweep.begin(3)
    for epoch in (1, 2):
        assert [report(sweep, training, epoch, val_acc=None, val_asr=None) for training in begun] == [[]] * 3
    assert goes_on(sweep, begun, 0.8, 0.9, 0.7, epoch=3) == [True, True, False]
    assert "at 75% of its epochs" in str(begun[2].record.error)


def test_what_is_reported_again_is_not_judged_again() -> None:
    sweep = sweep_with(4)
    sweep.skip_controls(1)
    begun = sweep.begin(4)
    assert goes_on(sweep, begun[:3], 0.5, 0.6, 0.7) == [True] * 3
    assert goes_on(sweep, begun[:3], 0.5, 0.6, 0.7) == [True] * 3, "the first would be stopped by now"
    assert goes_on(sweep, begun[3:], 0.65) == [True]


def test_controls_and_confirmations_are_never_stopped() -> None:
    sweep = sweep_with(3, seeds=[0, 1])
    again = record_of("k0000", CONFIRMATION, sweep.spec)
    sweep.agenda.add(TrialRecord("k0000", CONFIRMATION, again.config, again.controls))
    controls = sweep.begin(2)
    assert {training.record.role for training in controls} == {CONTROL}
    for training in controls:
        assert report(sweep, training, val_acc=0.0) == []
        sweep.finish(training)
    (confirmation,) = [t for t in sweep.begin(4) if t.record.role == CONFIRMATION][:1]
    for epoch in range(1, EPOCHS):
        assert report(sweep, confirmation, epoch, val_acc=0.0, val_asr=1.0) == []
    assert confirmation.state.status == RUNNING


def test_without_asha_nothing_is_stopped() -> None:
    sweep = sweep_with(5, search={"scheduler": "none"})
    sweep.skip_controls(1)
    assert goes_on(sweep, sweep.begin(5), 0.9, 0.8, 0.7, 0.6, 0.5) == [True] * 5


@pytest.mark.parametrize(
    ("changes", "apart"),
    [
        ({"scenarios": [{"attack": "badnets", "poison_rate": {"categorical": [0.05, 0.1]}}]}, "badnets.poison_rate"),
        ({"scenarios": TWO, "search": {"scenarios": "one"}}, "scenario"),
        ({"defense": [{"name": "none", "epochs": 4}, PRESET["defense"]], "search": {"defenses": "turns"}}, "defense"),
    ],
)
def test_only_trainings_of_one_environment_and_turn_are_compared(changes: dict[str, Any], apart: str) -> None:
    sweep = sweep_with(6, **changes)
    begun: list[Training] = []
    while len(begun) < 6:
        begun += [training for training in sweep.begin() if training.record.role != CONTROL]
    values = [training.record.searched[apart] for training in begun]
    assert values == values[:2] * 3
    assert values[0] != values[1]
    # Each of the second kind is far behind each of the first; within a kind only the third is behind two others.
    assert goes_on(sweep, begun, 0.9, 0.3, 0.8, 0.2, 0.85, 0.1) == [True, True, True, True, False, False]


def test_without_poison_attack_success_is_left_out() -> None:
    clean = [{"attack": "badnets"}, {"attack": "blend", "poison_rate": 0.0}]
    sweep = sweep_with(3, scenarios=clean)
    sweep.skip_controls(2)
    begun = sweep.begin(6)[3:]
    assert {training.run[0] for training in begun} == {"blend"}
    shown = [
        report(sweep, training, val_acc=acc, val_asr=None) for training, acc in zip(begun, (0.8, 0.7, 0.6), strict=True)
    ]
    assert [stopped == [] for stopped in shown] == [True, True, False]


def test_a_broken_constraint_alone_stops_nobody() -> None:
    limit = [{"metric": "val_min_class_acc", "min": 0.5}]
    sweep = sweep_with(4, constraints=limit, objectives=make_objectives(("val_acc", "maximize")))
    sweep.skip_controls(1)
    begun = sweep.begin(4)
    shown = [(0.9, 0.1), (0.8, 0.6), (0.95, 0.2), (0.7, 0.3)]
    stopped = [report(sweep, training, val_acc=acc, val_min_class_acc=least) != []
               for training, (acc, least) in zip(begun, shown, strict=True)]  # fmt: skip
    # The third breaks it, but is the most accurate. The fourth is less accurate than the second, and breaks it too.
    assert stopped == [False, False, False, True]


def test_a_resumed_sweep_decides_as_if_it_had_not_been_cut_off() -> None:
    def begin() -> tuple[Sweep, list[Training]]:
        sweep = sweep_with(6)
        sweep.skip_controls(1)
        begun = sweep.begin(6)
        assert goes_on(sweep, begun[:4], 0.5, 0.8, 0.4, 0.7) == [True, True, False, True]
        for epoch in (2, 3):
            report(sweep, begun[1], epoch)
        sweep.finish(begun[1])
        return sweep, begun

    whole, begun = begin()
    expected = goes_on(whole, begun[4:], 0.75, 0.6)
    assert expected == [True, False]
    cut, _ = begin()
    resumed = Sweep(cut.spec, cut.book.written())
    assert [resumed.book.records[name].status for name in ("t0001", "t0002")] == [FINISHED, PRUNED]
    begun = resumed.begin(4)
    assert [training.record.trial_id for training in begun] == ["t0000", "t0003", "t0004", "t0005"]
    assert goes_on(resumed, begun[:2], 0.5, 0.7) == [True, True], "they have passed this rung"
    assert goes_on(resumed, begun[2:], 0.75, 0.6) == expected
    assert begun[3].record.error == whole.trial(5).error


def test_races_go_on_beside_it() -> None:
    sweep = sweep_with(8, scenarios=TWO, search={"race": "bounds", "interest": 0.4})
    sweep.skip_controls(2)
    begun = sweep.begin(5)
    assert report(sweep, begun[0], val_asr=0.9) == []
    assert goes_on(sweep, begun[1:], 0.7, 0.6, 0.5, 0.4) == [True, False, False, False]
    sweep.finish(begun[0])
    assert (sweep.trial(0).ended_by, sweep.trial(2).ended_by) == ("badnets", None)
    assert sweep.finish(begun[1]) == []
    run(sweep)
    assert sweep.agenda.is_done
    assert all(trial.state.is_finished() for trial in sweep.study.get_trials())


@pytest.mark.parametrize(
    ("defense", "epochs"),
    [
        (PRESET["defense"], 4),
        ({"name": "none", "epochs": 7}, 7),
        ({"name": "abl", "isolation_epochs": 2, "finetune_epochs": 3, "unlearning_epochs": 4}, 9),
        ({"name": "bcu", "training_epochs": 2, "distillation_epochs": 3}, 5),
        ({"name": "pt", "partial_epochs": 2, "clean_epochs": 3, "finetune_epochs": 1}, 6),
        ({"name": "dlp", "supervised_epochs": 2, "unlearning_epochs": 1, "finetune_epochs": 3}, 6),
    ],
)
def test_the_epochs_of_a_plan_are_those_of_all_its_stages(defense: dict[str, Any], epochs: int) -> None:
    assert plan_epochs(record_of(spec=spec_with(defense=defense)).config) == epochs
