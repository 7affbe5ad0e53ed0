"""The thread that writes MLflow, with a store that can be held up, and with a real one in a file."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from mlflow import MlflowClient

from sweeper.report.plots import draw_trial
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord
from sweeper.tracking import background
from sweeper.tracking import sweep_run as tracking
from sweeper.tracking.background import BackgroundTracker
from sweeper.tracking.sweep_run import WHOLE_SWEEP, Tracker
from tests.sweeper.small import FACTS, epoch_figures, finish, fresh_store, record_of, sweep_with

RUN = ("badnets", 0)
SOON = 60.0
"""Seconds after which a test that waits for another thread gives up."""


class HeldUp:
    """Stands in for a tracker whose store answers only while ``answers`` is set, or not at all while ``away`` is."""

    shown_uri, parent = "sqlite:///store", "parent"

    def __init__(self) -> None:
        self.answers, self.asked, self.away = Event(), Event(), Event()
        self.answers.set()
        self.sent: list[tuple[Any, ...]] = []
        self.threads: set[Thread] = set()
        self.broken: set[str] = set()
        self.requests = 0
        self._kept: dict[str, Callable[[], None]] = {}

    @property
    def behind(self) -> list[str]:
        return sorted(self._kept)

    @property
    def rest_s(self) -> float | None:
        return SOON if self._kept else None

    def catch_up(self) -> None:
        kept, self._kept = self._kept, {}
        for name, note in kept.items():
            self._ask(name, note)

    def epoch_ended(self, record: TrialRecord) -> None:
        self._ask(record.trial_id, lambda: self.sent.append((record.trial_id, len(record.epochs.get(RUN, {})))))

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        figures = [(row["val_asr"], row["control_asr"]) for row in rows]
        self._ask(record.trial_id, lambda: self.sent.append((record.trial_id, record.status, *figures)))

    def sweep_ended(self, artifacts: Sequence[Path], metrics: dict[str, float], status: str) -> None:
        self.catch_up()
        self._ask(WHOLE_SWEEP, lambda: self.sent.append((WHOLE_SWEEP, artifacts, metrics, status)))

    def _ask(self, name: str, note: Callable[[], None]) -> None:
        self.threads.add(threading.current_thread())
        self.requests += 1
        self.asked.set()
        assert self.answers.wait(SOON)
        if name in self.broken:
            raise ZeroDivisionError("a fault of http://me:secret@host/x")
        if self.away.is_set():
            self._kept[name] = note
        else:
            note()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


@pytest.fixture
def store() -> Iterator[HeldUp]:
    held_up = HeldUp()
    yield held_up
    held_up.answers.set()


@pytest.fixture
def tracker(store: HeldUp, folder: RunFolder) -> BackgroundTracker:
    return BackgroundTracker(store, folder)  # type: ignore[arg-type]


def hold_up(store: HeldUp, tracker: BackgroundTracker) -> None:
    """Let the thread wait for an answer, with a trial of no interest."""
    store.answers.clear()
    store.asked.clear()
    tracker.epoch_ended(record_of("t9999"))
    assert store.asked.wait(SOON)


def end(tracker: BackgroundTracker, folder: RunFolder, record: TrialRecord, **figures: Any) -> None:
    """As the ledger does, which keeps no epochs of an ended trial."""
    finish(record, **figures)
    folder.write_record(record)
    rows = record.rows(dict.fromkeys(record.controls.values(), 0.97))
    tracker.trial_ended(record, rows)
    record.epochs.clear()
    record.facts.clear()


def close(tracker: BackgroundTracker) -> None:
    tracker.sweep_ended([], {}, "FINISHED")


def test_a_store_that_does_not_answer_holds_up_nobody_and_has_everything_in_the_end(
    store: HeldUp, tracker: BackgroundTracker, folder: RunFolder
) -> None:
    hold_up(store, tracker)
    running = record_of("t0001")
    for name in ("t0000", "t0002"):
        tracker.trial_changed(record_of(name))
        end(tracker, folder, record_of(name))
    tracker.trial_changed(running)
    running.add_epoch(RUN, epoch_figures(1), FACTS)
    tracker.epoch_ended(running)
    assert store.sent == [], "the store has not answered yet, and all calls have returned"
    assert tracker.behind == ["t0000", "t0002"]
    store.answers.set()
    tracker.sweep_ended([folder.trials], {"hypervolume": 0.5}, "KILLED")
    ended = ("FINISHED", (0.1, 0.97))
    assert store.sent == [
        ("t9999", 0), ("t0000", *ended), ("t0002", *ended), ("t0001", 1),
        (WHOLE_SWEEP, [folder.trials], {"hypervolume": 0.5}, "KILLED"),
    ]  # fmt: skip
    assert tracker.behind == []
    (thread,) = store.threads
    assert thread is not threading.current_thread()
    assert thread.daemon, "a store that never answers does not keep the program from ending"


def test_of_a_trial_only_the_newest_state_waits(store: HeldUp, tracker: BackgroundTracker, folder: RunFolder) -> None:
    hold_up(store, tracker)
    running, over = record_of("t0000"), record_of("t0001")
    for record in (over, running):
        tracker.trial_changed(record)
        for epoch in range(1, 40):
            record.add_epoch(RUN, epoch_figures(epoch), FACTS)
            tracker.epoch_ended(record)
    end(tracker, folder, over)
    tracker.epoch_ended(over)  # a late report does not take the place of the end
    store.answers.set()
    close(tracker)
    assert store.sent[1:-1] == [("t0001", "FINISHED", (0.1, 0.97)), ("t0000", 39)]


def test_ended_trials_that_wait_hold_no_curves(store: HeldUp, tracker: BackgroundTracker, folder: RunFolder) -> None:
    hold_up(store, tracker)
    for number in range(20):
        record = record_of(f"t{number:04d}")
        tracker.epoch_ended(record)
        end(tracker, folder, record)
    assert set(tracker._waiting.values()) == {None}
    assert len(tracker._control_asr) == 1, "the trials share their control"
    store.answers.set()
    close(tracker)
    assert [sent[1:] for sent in store.sent[1:-1]] == [("FINISHED", (0.1, 0.97))] * 20


def test_attack_success_of_a_control_is_that_of_the_newest_rows(
    store: HeldUp, tracker: BackgroundTracker, folder: RunFolder
) -> None:
    """The control of a trial that was interrupted may end after it."""
    hold_up(store, tracker)
    record = finish(record_of())
    folder.write_record(record)
    tracker.trial_ended(record, record.rows({}))
    end(tracker, folder, record_of("c0000", "control"))
    store.answers.set()
    close(tracker)
    assert store.sent[1:-1] == [("t0000", "FINISHED", (0.1, 0.97)), ("c0000", "FINISHED", (0.1, 0.97))]


def test_a_refused_proposal_is_sent_too(store: HeldUp, tracker: BackgroundTracker, folder: RunFolder) -> None:
    record = TrialRecord("t0007", "trial", None, {}, {"vab.mix_epochs": 0})
    record.end("FAILED", "must not both be 0")
    folder.write_record(record)
    tracker.trial_ended(record, record.rows({}))
    close(tracker)
    assert store.sent[:-1] == [("t0007", "FAILED", (None, None))]


def test_a_trial_whose_end_is_not_on_the_disk_is_sent_as_it_is_there(
    store: HeldUp, tracker: BackgroundTracker, folder: RunFolder
) -> None:
    record = record_of()
    folder.write_record(record)
    finish(record)
    tracker.trial_ended(record, record.rows({}))
    close(tracker)
    assert store.sent[:-1] == [("t0000", 0)]


@pytest.mark.parametrize("back", [True, False])
def test_what_a_store_that_is_away_missed_is_sent_at_the_end_if_it_is_back(
    store: HeldUp, tracker: BackgroundTracker, folder: RunFolder, back: bool
) -> None:
    """In between it is not asked for each trial again: here its pause is longer than the test."""
    store.away.set()
    for name in ("t0000", "t0001", "t0002"):
        end(tracker, folder, record_of(name))
        assert store.asked.wait(SOON)
    assert tracker.behind == ["t0000", "t0001", "t0002"]
    assert store.requests == 1
    if back:
        store.away.clear()
    close(tracker)
    assert tracker.behind == ([] if back else ["t0000", "t0001", "t0002", WHOLE_SWEEP])
    assert [sent[0] for sent in store.sent] == (["t0000", "t0001", "t0002", WHOLE_SWEEP] if back else [])


def test_a_store_that_fails_once_while_the_rest_is_sent_gets_all_of_it(
    store: HeldUp, tracker: BackgroundTracker, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_up(store, tracker)
    for name in ("t0000", "t0001"):
        end(tracker, folder, record_of(name))
    store.away.set()
    catch_up = store.catch_up

    def be_back() -> None:
        store.away.clear()
        catch_up()

    monkeypatch.setattr(store, "catch_up", be_back)
    store.answers.set()
    close(tracker)
    assert [sent[0] for sent in store.sent] == ["t9999", "t0000", "t0001", WHOLE_SWEEP]


def test_what_cannot_be_sent_is_named_and_the_rest_is_sent(
    store: HeldUp, tracker: BackgroundTracker, folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    store.broken = {"t0000", WHOLE_SWEEP}
    with caplog.at_level(logging.WARNING):
        end(tracker, folder, record_of("t0000"))
        tracker.trial_ended(finish(record_of("t0001")), [])  # has no record
        end(tracker, folder, record_of("t0002"))
        close(tracker)
    assert tracker.behind == ["t0000", "t0001", WHOLE_SWEEP]
    assert [sent[0] for sent in store.sent] == ["t0002"]
    told = [message for message in caplog.messages if message.startswith("MLflow")]
    assert told == [
        "MLflow sqlite:///store: t0000: a fault of http://host/x",
        "MLflow sqlite:///store: t0001: its record cannot be read",
        f"MLflow sqlite:///store: {WHOLE_SWEEP}: a fault of http://host/x",
    ]


def test_what_is_sent_later_is_no_longer_named(store: HeldUp, tracker: BackgroundTracker, folder: RunFolder) -> None:
    record = record_of()
    store.broken = {"t0000"}
    tracker.epoch_ended(record)
    assert store.asked.wait(SOON)
    hold_up(store, tracker)  # so the thread is done with the trial
    store.broken.clear()
    end(tracker, folder, record)
    store.answers.set()
    close(tracker)
    assert tracker.behind == []


def test_ctrl_c_ends_the_wait_for_a_store_that_does_not_answer(
    store: HeldUp, tracker: BackgroundTracker, folder: RunFolder
) -> None:
    store.answers.clear()
    for name in ("t0000", "t0001"):
        end(tracker, folder, record_of(name))
        assert store.asked.wait(SOON)

    def interrupt(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, interrupt), signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            close(tracker)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert tracker.behind == ["t0000", "t0001", WHOLE_SWEEP], "with what is under way"
    store.answers.set()
    assert tracker._ended.wait(SOON)
    assert [sent[0] for sent in store.sent] == ["t0000"], "what was under way is the last that is sent"


def test_in_haste_the_rest_is_left(
    store: HeldUp, tracker: BackgroundTracker, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "HASTE_S", 0.0)
    monkeypatch.setattr(background, "WAIT_S", 0.0)
    hold_up(store, tracker)
    for name in ("t0000", "t0001"):
        end(tracker, folder, record_of(name))
    tracker.make_haste()
    close(tracker)
    assert tracker.behind == ["t0000", "t0001", WHOLE_SWEEP]
    store.answers.set()
    assert tracker._ended.wait(SOON)
    assert [sent[0] for sent in store.sent] == ["t9999"], "what was under way is the last that is sent"


@pytest.mark.parametrize("hurried", [True, False])
def test_in_haste_the_sweep_itself_is_closed_first_and_the_trials_follow_while_there_is_time(
    store: HeldUp, tracker: BackgroundTracker, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, hurried: bool
) -> None:
    monkeypatch.setattr(background, "HASTE_S", SOON)
    hold_up(store, tracker)
    for name in ("t0000", "t0001"):
        end(tracker, folder, record_of(name))
    wait = tracker._ended.wait

    def answer(timeout: float | None = None) -> bool:
        """From when the end is waited for."""
        store.answers.set()
        return wait(timeout)

    monkeypatch.setattr(tracker._ended, "wait", answer)
    if hurried:
        tracker.make_haste()
    close(tracker)
    trials = ["t0000", "t0001"]
    assert [sent[0] for sent in store.sent[1:]] == ([WHOLE_SWEEP, *trials] if hurried else [*trials, WHOLE_SWEEP])
    assert tracker.behind == []


def test_a_sweep_that_cannot_be_closed_in_haste_is_named(
    store: HeldUp, tracker: BackgroundTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "HASTE_S", 0.0)
    monkeypatch.setattr(background, "WAIT_S", 0.0)
    hold_up(store, tracker)
    tracker.make_haste()
    close(tracker)
    assert tracker.behind == [WHOLE_SWEEP]


def test_a_record_may_change_while_it_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each figure that the thread reads, the main thread adds an epoch, and at some another training begins."""
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_REQUESTS", 0.0)
    record = record_of()
    for epoch in (1, 2, 3):
        record.add_epoch(RUN, epoch_figures(epoch), FACTS)
    make_metric, read = tracking.Metric, Event()
    added = iter(range(4, 1000))

    def changing(*given: Any) -> Any:
        read.set()
        epoch = next(added)
        record.add_epoch(RUN, epoch_figures(epoch), FACTS)
        record.add_epoch(("badnets", epoch), epoch_figures(1), FACTS)
        return make_metric(*given)

    monkeypatch.setattr(tracking, "Metric", changing)
    uri, folder = fresh_store(tmp_path / "mlflow.db"), RunFolder.create(tmp_path / "run")
    tracker = BackgroundTracker(Tracker(uri, folder, sweep_with(), lambda *_: []), folder)
    tracker.epoch_ended(record)
    tracker.sweep_ended([], {}, "KILLED")
    assert read.is_set()
    assert tracker.behind == []
    (run,) = runs_of(uri).values()
    history = MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, "loss")
    assert [metric.step for metric in history] == [1, 2, 3]


def runs_of(uri: str) -> dict[str, Any]:
    """MLflow's runs of trials, by trial id."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id])
    return {run.data.tags["trial_id"]: run for run in runs if "trial_id" in run.data.tags}


def contents(uri: str) -> dict[str, Any]:
    """All that MLflow holds of a sweep, without ids and times of its own."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("small")
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        tags = {k: v for k, v in run.data.tags.items() if k != "mlflow.parentRunId"}
        histories = {
            name: [(m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
            if name != "hypervolume"  # stands at the time of sending
        }
        trial = tags.get("trial_id", WHOLE_SWEEP)
        files = sorted(file.path for file in client.list_artifacts(run.info.run_id))
        ended = None if trial == WHOLE_SWEEP else run.info.end_time
        found[trial] = (run.info.status, ended, tags, run.data.params, run.data.metrics, histories, files)
    return found


def test_mlflow_holds_the_same_as_without_the_thread(tmp_path: Path) -> None:
    control, trial, failed, running = (
        finish(record_of("c0000", "control"), val_asr=0.9), finish(record_of("t0000")), record_of("t0001"),
        record_of("t0002"),
    )  # fmt: skip
    failed.end("FAILED", "The loss is nan.")
    running.add_epoch(RUN, epoch_figures(1), FACTS)
    asr = dict.fromkeys(control.controls.values(), 0.9)
    held = []
    for kind in ("plain", "thread"):
        folder = RunFolder.create(tmp_path / kind / "run")
        uri = fresh_store(tmp_path / kind / "mlflow.db")
        (folder.path / "frontier.png").write_bytes(b"x")
        plain = Tracker(uri, folder, sweep_with(), draw_trial)
        tracker = plain if kind == "plain" else BackgroundTracker(plain, folder)
        assert (tracker.shown_uri, tracker.parent) == (plain.shown_uri, plain.parent)
        for record in (control, trial, failed):
            folder.write_record(record)
            begun = replace(record, status="RUNNING", epochs={}, facts={}, error=None)
            tracker.trial_changed(begun)
            for epoch in (1, 2):
                if record.epochs:
                    begun.add_epoch(RUN, epoch_figures(epoch), FACTS)
                    begun.epochs[RUN][epoch] = record.epochs[RUN][epoch]
                tracker.epoch_ended(begun)
            tracker.trial_ended(record, record.rows(asr))
        tracker.epoch_ended(running)
        tracker.sweep_ended([folder.path / "frontier.png"], {"hypervolume": 0.5}, "FINISHED")
        assert tracker.behind == []
        held.append(contents(uri))
    assert set(held[0]) == {"c0000", "t0000", "t0001", "t0002", WHOLE_SWEEP}
    assert held[0]["t0000"][-1] == ["curves.png"]
    assert held[0] == held[1]


def test_the_working_folder_may_change_while_the_thread_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is another while Ray is started, and run folders are often given by relative paths."""
    uri, drawn = fresh_store(tmp_path / "mlflow.db"), []
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.create(Path("run"))
    folder.write_sweep(sweep_with())

    def draw(record: TrialRecord, where: RunFolder, _: Path) -> list[Path]:
        drawn.append((record.trial_id, where.sweep.exists()))
        return []

    tracker = BackgroundTracker(Tracker(uri, folder, sweep_with(), draw), folder)
    (tmp_path / "elsewhere").mkdir()
    folder.write_record(finish(record_of()))
    artifact = folder.sweep
    monkeypatch.chdir(tmp_path / "elsewhere")
    record = finish(record_of())
    tracker.trial_ended(record, record.rows({}))
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        end_it = background.Event.wait

        def away(event: Event, timeout: float | None = None) -> bool:
            patch.chdir(tmp_path / "elsewhere")
            return end_it(event, timeout)

        patch.setattr(background.Event, "wait", away)
        tracker.sweep_ended([artifact], {}, "FINISHED")
    assert tracker.behind == []
    assert drawn == [("t0000", True)]
    client = MlflowClient(tracking_uri=uri)
    assert [file.path for file in client.list_artifacts(tracker.parent)] == ["sweep.yaml"]
