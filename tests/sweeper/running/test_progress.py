import io
import re
from typing import Any

import pytest
from rich.console import Console

from sweeper.preset.objectives import Constraint
from sweeper.run_folder.record import TrialRecord, control_success
from sweeper.running.progress import LiveDisplay, describe
from tests.sweeper.small import FACTS, epoch_figures, finish, make_objectives, record_of, spec_with

RUN = ("badnets", 0)


def test_an_ended_trial_is_one_line() -> None:
    record = finish(record_of())
    assert describe(record, record.rows({})) == (
        "t0000 FINISHED  vab.threshold=0.1 vab.mixing=none  badnets: acc 0.800 asr 0.100 floor 0.050"
    )


def test_a_control_says_of_what() -> None:
    record = finish(record_of("c0000", "control"), val_asr=1.0)
    line = describe(record, record.rows({}))
    assert line.startswith("c0000 FINISHED control of badnets at rate 0.1, target 0, seed 0  ")
    assert "rate 0.1, target 0 (cat), seed 0  " in describe(record, record.rows({}), ("cat", "dog"))
    aimless = finish(record_of("c0000", "control", spec_with(scenarios=[{"attack": "blend", "labels": "all_to_all"}])))
    assert "control of blend at rate 0.1, seed 0  " in describe(aimless, aimless.rows({}), ("cat", "dog"))
    assert "asr 1.000" in line


def test_a_class_that_was_searched_has_its_name() -> None:
    tact = {"attack": "tact", "target": {"int": [2, 3]}, "source": {"categorical": [1, 0]}}
    record = finish(record_of(spec=spec_with(scenarios=[tact])))
    line = describe(record, record.rows({}), ("cat", "dog", "owl", "elk"))
    assert " tact.target=2 (owl) tact.source=1 (dog)  tact: acc 0.800" in line
    assert " tact.target=2 tact.source=1  " in describe(record, record.rows({}))


def test_what_is_run_again_says_which_setting_and_seed() -> None:
    record = finish(record_of("k0003", "confirmation"))
    assert record.config
    line = describe(record, record.rows({}))
    assert line.startswith(f"k0003 FINISHED vab {record.config.setting_key} again, seed 0  ")


@pytest.mark.parametrize("status", ["PRUNED", "FAILED"])
def test_the_reason_stands_there(status: str) -> None:
    record = finish(record_of())
    record.status, record.error = status, "The loss is nan."
    line = describe(record, record.rows({}))
    assert line.startswith(f"t0000 {status}  vab.threshold=0.1")
    assert line.endswith("(The loss is nan.)")
    assert "acc" not in line


def test_what_a_trial_showed_before_it_left_its_race_stands_there() -> None:
    record = record_of(spec=spec_with(seeds=[0, 1]))
    record.add_epoch(RUN, epoch_figures(1, val_asr=0.9), FACTS)
    record.end_training(RUN, "FINISHED")
    record.ended_by = "badnets"
    record.end("PRUNED", "It is beyond the interest.")
    line = describe(record, record.rows({}))
    assert "  badnets: acc 0.800 asr 0.900 floor 0.050  (It is beyond the interest.)" in line
    assert line.count("badnets:") == 1
    out = io.StringIO()
    with LiveDisplay(Console(file=out, width=200), [], [], 3) as display:
        display.trial_ended(record, record.rows({}))
    assert "1 of 3 done, 1 trainings not needed" in out.getvalue()


def test_a_trial_that_is_told_again_counts_once() -> None:
    known, out = finish(record_of()), io.StringIO()
    with LiveDisplay(Console(file=out, width=200), [], [], 3, [known]) as display:
        display.trial_ended(known, known.rows({}))
        display.trial_ended(finish(record_of("t0001")), known.rows({}))
    assert [line.strip() for line in out.getvalue().splitlines() if " done" in line][-1].startswith("2 of 3 done")


def test_figures_that_are_undefined_are_left_out() -> None:
    record = finish(record_of(), val_asr=None)
    assert "badnets: acc 0.800 floor 0.050" in describe(record, record.rows({}))


def against_strong(record: TrialRecord) -> list[dict[str, Any]]:
    """The rows of a trial whose controls all ended, with an attack success of 0.9."""
    return record.rows(dict.fromkeys(record.controls.values(), 0.9))


@pytest.mark.parametrize("terminal", [False, True])
def test_the_display_follows_a_sweep(terminal: bool) -> None:
    file = io.StringIO()
    display = LiveDisplay(Console(file=file, force_terminal=terminal, width=200), spec_with().objectives, [], budget=3)
    records = [record_of(name) for name in ("t0000", "t0001", "t0002")]
    with display:
        for record, status in zip(records, ("FINISHED", "PRUNED", "FAILED"), strict=True):
            display.trial_changed(record)
            record.add_epoch(RUN, epoch_figures(1), FACTS)
            display.epoch_ended(record)
            record.end(status, "[why]" if status == "FAILED" else None)
            display.trial_ended(record, against_strong(record))
        control = finish(record_of("c0000", "control"))
        display.trial_ended(control, control.rows({}))
    text = file.getvalue()
    for line in ("t0000 FINISHED", "t0001 PRUNED", "t0002 FAILED", "([why])", "c0000 FINISHED control of"):
        assert line in text
    if terminal:
        assert "1 failed" in text
        assert "3/3" in text
    else:
        assert [line.strip() for line in text.splitlines()][1::2] == [
            "1 of 3 done, best of each so far: val_acc 0.800, val_asr_excess 0.050, less than a minute left",
            "2 of 3 done, 1 trainings not needed, best of each so far: val_acc 0.800, val_asr_excess 0.050, "
            "less than a minute left",
            "3 of 3 done, 1 failed, 1 trainings not needed, best of each so far: val_acc 0.800, val_asr_excess 0.050",
        ]


def test_the_best_of_each_objective_and_what_ran_before_is_shown() -> None:
    file = io.StringIO()
    control = finish(record_of("c0000", "control"), val_asr=0.9)
    before = finish(record_of("t0000"), val_acc=0.9, val_asr=0.4)
    display = LiveDisplay(
        Console(file=file, width=200), spec_with().objectives, [], 3, [control, before, record_of("t0001")]
    )
    record = finish(record_of("t0001"), val_acc=0.7, val_asr=0.05)
    display.trial_ended(record, against_strong(record))
    assert "2 of 3 done, best of each so far: val_acc 0.900, val_asr_excess 0.000" in file.getvalue()


def test_a_trial_that_breaks_a_constraint_is_no_best() -> None:
    file = io.StringIO()
    control = finish(record_of("c0000", "control"), val_asr=0.85)
    one = spec_with(objectives=make_objectives(("val_acc", "maximize"))).objectives
    kept, broken = Constraint(metric="control_asr", min=0.8), Constraint(metric="control_asr", min=0.9)
    for constraint in (kept, broken):
        before = finish(record_of("t0000"), val_acc=0.9)
        display = LiveDisplay(Console(file=file, width=200), one, [constraint], 3, [control, before])
        record = record_of("t0001")
        record.end("FAILED", "why")
        display.trial_ended(record, record.rows({}))
    first, second = [line for line in file.getvalue().splitlines() if "of 3 done" in line]
    assert first.endswith("1 failed, best so far: val_acc 0.900")
    assert "best" not in second


def test_against_an_attack_that_fails_undefended_nobody_is_best() -> None:
    file = io.StringIO()
    control = finish(record_of("c0000", "control"), val_asr=0.3)
    display = LiveDisplay(Console(file=file, width=200), spec_with().objectives, [], 3, [control])
    record = finish(record_of())
    display.trial_ended(record, record.rows(control_success([control])))
    assert "1 of 3 done" in file.getvalue()
    assert "best" not in file.getvalue()


@pytest.mark.parametrize(("rate", "control", "role", "counts"), [
    (0.1, 0.9, "trial", True), (0.1, None, "trial", False), (0.0, None, "trial", True),
    (0.1, 0.9, "confirmation", False),
])  # fmt: skip
def test_only_trials_against_attacks_that_are_known_to_work_are_best(
    rate: float, control: float | None, role: str, counts: bool
) -> None:
    file = io.StringIO()
    display = LiveDisplay(Console(file=file, width=200), spec_with().objectives, [], 3)
    record = finish(record_of())
    record.role = role
    weak = None if control is None else control < 0.5
    rows = [row | {"poison_rate": rate, "control_asr": control, "weak_attack": weak} for row in record.rows({})]
    display.trial_ended(record, rows)
    assert ("best" in file.getvalue()) == counts


def test_a_trial_that_is_told_again_once_its_control_ended_may_be_best() -> None:
    file, record = io.StringIO(), finish(record_of())
    display = LiveDisplay(Console(file=file, width=200), spec_with().objectives, [], 3)
    for rows in (record.rows({}), against_strong(record)):
        display.trial_ended(record, rows)
    assert file.getvalue().count("1 of 3 done") == 2
    assert file.getvalue().count("best of each so far: val_acc 0.800") == 1


def test_an_interrupted_trial_has_not_failed() -> None:
    file = io.StringIO()
    display = LiveDisplay(Console(file=file, width=200), spec_with().objectives, [], 3)
    record = record_of()
    record.end("FAILED", "Not finished: the sweep was interrupted.", interrupted=True)
    display.trial_ended(record, record.rows({}))
    assert file.getvalue().startswith("t0000 interrupted")
    assert "failed" not in file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_what_runs_what_waits_and_what_has_finished_of_open_trials(terminal: bool) -> None:
    file, spec = io.StringIO(), spec_with(seeds=[0, 1])
    display = LiveDisplay(Console(file=file, force_terminal=terminal, width=200), spec.objectives, [], budget=2)
    first, second = record_of("t0000", spec=spec), record_of("t0001", spec=spec)
    with display:
        for record in (first, second):
            record.running.add(RUN)
            display.trial_changed(record)
            record.add_epoch(RUN, epoch_figures(1), FACTS)
            display.epoch_ended(record)
            if record is first:
                record.end_training(RUN, "FINISHED")
    text = file.getvalue()
    if terminal:
        assert "trials, 1 of 4 trainings, less than a minute left" in text
        assert "1 running; 2 trials open; t0001 epoch 1" in text
    else:
        assert text == "  t0000: 1 of 2 trainings, less than a minute left\n", "said once"


def lines_that_stay(display: LiveDisplay, out: io.StringIO) -> list[str]:
    """The last lines of a terminal, without its codes."""
    with display:
        display._refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    return [line.rstrip() for line in text.splitlines()][-3:]


@pytest.mark.parametrize("width", [200, 60])
def test_on_a_terminal_three_lines_stay(width: int) -> None:
    """One trial has finished, one has left its race, and one runs on two hosts."""
    out, spec = io.StringIO(), spec_with(seeds=[0, 1])
    display = LiveDisplay(Console(file=out, force_terminal=True, width=width), spec.objectives, [], budget=4)
    done, left, runs = (record_of(f"t000{number}", spec=spec) for number in range(3))
    display.trial_ended(finish(done, val_asr=0.13, seconds=3600.0), against_strong(done))
    left.add_epoch(RUN, epoch_figures(1, val_asr=0.9), FACTS)
    left.end_training(RUN, "FINISHED")
    left.ended_by = "badnets"
    left.end("PRUNED", "It is beyond the interest.")
    display.trial_ended(left, left.rows({}))
    for seed, host in ((0, "10.0.0.1"), (1, "10.0.0.2")):
        runs.running.add(("badnets", seed))
        runs.trainings["badnets", seed].host = host
        runs.add_epoch(("badnets", seed), epoch_figures(seed + 4), FACTS)
    display.epoch_ended(runs)
    bar, frontier, doing = lines_that_stay(display, out)
    assert "2/4" in bar
    assert frontier == "Best accuracy by val_asr_excess: <= 0.05: -, <= 0.1: 0.800, <= 0.2: 0.800"[: width - 1] + (
        "" if width > 75 else "…"
    )
    whole = (
        "2 running on 10.0.0.1 (1), 10.0.0.2 (1); 1 trial open; 1 training not needed; 0.67 h saved; t0002 epoch 4, "
        "t0002 epoch 5"
    )
    assert doing == (whole if width > len(whole) else f"{whole[: width - 1]}…")


def test_the_time_of_controls_is_not_that_of_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control takes 1000 s, then a trial 90 s; two more are to come."""
    now = iter([1000.0, 1090.0])
    monkeypatch.setattr("sweeper.running.progress.time.monotonic", lambda: next(now))
    file = io.StringIO()
    display = LiveDisplay(Console(file=file, width=200), spec_with().objectives, [], budget=3)
    control, record = record_of("c0000", "control"), record_of()
    display.trial_changed(control)
    display.trial_ended(finish(control), control.rows({}))
    display.trial_changed(record)
    display.trial_ended(finish(record), record.rows({}))
    assert "about 3 min left" in file.getvalue()


def test_a_control_whose_attack_fails_is_called_weak() -> None:
    for success, weak in ((0.79, True), (0.8, False)):
        control = finish(record_of("c0000", "control"), val_asr=success)
        assert (", a weak attack" in describe(control, control.rows(control_success([control])))) == weak


def test_a_trial_that_was_never_started_may_end() -> None:
    written = io.StringIO()
    display = LiveDisplay(Console(file=written), spec_with().objectives, [], budget=1)
    record = record_of(spec=spec_with(seeds=[0, 1]))
    record.status = "FAILED"
    with display:
        display.trial_ended(record, record.rows({}))
    assert f"{record.trial_id} FAILED" in written.getvalue()
