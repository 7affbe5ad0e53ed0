import io

from rich.console import Console

from sweeper.run_folder.record import REPLICATE, TrialRecord
from sweeper.running.replicates_display import ReplicatesDisplay
from tests.sweeper.small import epoch_figures, finish, record_of


def replicate(trial_id: str = "r0000") -> TrialRecord:
    record = record_of("t0000")
    return TrialRecord(trial_id, REPLICATE, record.config, {}, config_id="abc")


def shown(terminal: bool) -> tuple[ReplicatesDisplay, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=300, color_system=None)
    return ReplicatesDisplay(console, "test_asr_excess", {"abc": "vab abc"}, least=4), text


def test_a_line_for_each_replicate_that_ended() -> None:
    display, text = shown(terminal=False)
    with display:
        display.trial_changed(replicate())
        done = finish(replicate(), test_acc=0.75, test_asr=0.2, test_asr_floor=0.05)
        display.trial_ended(done, done.rows({}))
        cut_off = replicate("r0001")
        cut_off.end("FAILED", "Not finished: the user ended it.", interrupted=True)
        display.trial_ended(cut_off, cut_off.rows({}))
        display.say("  vab abc, replicate 1: 0.150")
    assert text.getvalue().splitlines() == [
        "r0000 FINISHED vab abc, seed 0  badnets: acc 0.750 test_asr_excess 0.150",
        "r0001 interrupted vab abc, seed 0    (Not finished: the user ended it.)",
        "  vab abc, replicate 1: 0.150",
    ]


def test_on_a_terminal_a_bar_over_what_is_needed_at_least() -> None:
    display, text = shown(terminal=True)
    with display:
        running = replicate()
        running.running.add(("badnets", 0))
        display.trial_changed(running)
        running.add_epoch(("badnets", 0), epoch_figures(1), {})
        display.epoch_ended(running)
        assert display._progress is not None
        assert display._progress.tasks[0].description == "r0000 epoch 1"
        done = finish(replicate())
        display.trial_ended(done, done.rows({}))
        display.needs(7)
        assert display._progress is not None
        (task,) = display._progress.tasks
        assert (task.completed, task.total) == (1, 8)
    assert "waiting" in text.getvalue()
