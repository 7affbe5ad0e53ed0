from collections.abc import Sequence
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.exceptions import StorageInternalError

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import FAILED, FINISHED, PRUNED, Training, TrialRecord
from sweeper.running import ledger as module
from sweeper.running.ledger import Ledger
from tests.sweeper.small import FACTS, Watcher, epoch_figures, finish, record_of, spec_with

RUN = ("badnets", 0)


class Listening(Watcher):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def trial_changed(self, record: TrialRecord) -> None:
        self.told.append(("started", record.trial_id))

    def epoch_ended(self, record: TrialRecord) -> None:
        self.told.append(("epoch", record.trial_id, record.final(RUN)["epoch"]))

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        self.told.append(("ended", record.trial_id, record.status, rows[0]["val_asr"], rows[0]["control_asr"]))


@pytest.fixture
def follower() -> Listening:
    return Listening()


@pytest.fixture
def ledger(tmp_path: Path, follower: Listening) -> Ledger:
    return Ledger(RunFolder(tmp_path), {}, [follower])


def test_it_is_known_whether_this_program_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As opposed to Ray: a disk or an object store may take long."""
    seen: dict[str, bool] = {}

    def full(*_: Any) -> None:
        seen["tables"] = ledger.is_writing
        raise OSError(ENOSPC, "No space left on device")

    def slow(_: Path) -> None:
        seen["states"] = ledger.is_writing

    ledger, record = Ledger(RunFolder(tmp_path), {}, []), record_of()
    monkeypatch.setattr(module, "remove_tree", slow)
    ledger.folder.record_written = lambda: seen.__setitem__("record", ledger.is_writing)
    training = Training(record, RUN)
    training.record.end_training(RUN, FINISHED)
    ledger.update(record)
    ledger.end(record, FINISHED)
    assert not ledger.is_writing
    ledger.announce(record)
    ledger.release(training)
    assert not ledger.is_writing
    monkeypatch.setattr(ledger.folder, "write_tables", full)
    ledger.write_tables()
    assert seen == {"record": True, "states": True, "tables": True}
    assert not ledger.is_writing, "after an error too"
    assert "No space left" in str(ledger.broken)


def report(epoch: int, **figures: Any) -> dict[str, Any]:
    return {"scenario": RUN[0], "seed": RUN[1], "figures": epoch_figures(epoch, **figures), "facts": FACTS}


def test_what_happens_to_a_trial_is_written_down_and_told_in_its_order(ledger: Ledger, follower: Listening) -> None:
    control, trial = record_of("c0000", "control"), record_of()
    for record, asr in ((control, 0.97), (trial, 0.2)):
        training = Training(record, RUN)
        ledger.add(record)
        ledger.hand_out(f"ray-{record.trial_id}", training)
        ledger.changed(training)
        ledger.reported(training, report(1, val_asr=asr))
        record.end_training(RUN, FINISHED)
        ledger.update(record)
        assert ledger.folder.read_records()[record.trial_id].trainings[RUN].status == FINISHED
        assert ledger.folder.read_records()[record.trial_id].open, "the trial has not ended yet"
        ledger.end(record, FINISHED)
        assert ledger.folder.read_records()[record.trial_id].status == FINISHED
        ledger.announce(record)
    assert follower.told == [
        ("started", "c0000"), ("epoch", "c0000", 1), ("ended", "c0000", FINISHED, 0.97, 0.97),
        ("started", "t0000"), ("epoch", "t0000", 1), ("ended", "t0000", FINISHED, 0.2, 0.97),
    ]  # fmt: skip
    assert ledger.of("ray-t0000") is training
    assert ledger.of("a trial of somebody else") is None
    ledger.take_back("ray-t0000")
    assert ledger.of("ray-t0000") is None
    assert ledger.of("ray-c0000") is not None
    ledger.write_tables()
    assert ledger.folder.read_trials()["val_asr"].tolist() == [0.97, 0.2]


def test_scores_of_samples_are_kept_and_are_no_epoch(ledger: Ledger, follower: Listening) -> None:
    record = record_of()
    ledger.add(record)
    scores = pa.table({"suspicion": [0.1, 0.9]})
    ledger.reported(Training(record, RUN), {"scenario": "badnets", "seed": 0, "scores": scores})
    assert pq.read_table(ledger.folder.scores_of("t0000", "badnets", 0)) == scores
    assert follower.told == []


def test_a_trial_that_was_interrupted_goes_on_with_the_time_at_which_it_began(tmp_path: Path) -> None:
    before, ended = record_of(), finish(record_of("t0001"))
    before.began_at = 17.0
    before.end(FAILED, "Not finished: the sweep was interrupted.", interrupted=True)
    ledger = Ledger(RunFolder(tmp_path), {record.trial_id: record for record in (before, ended)})
    assert (list(ledger.records), list(ledger.interrupted)) == (["t0001"], ["t0000"])
    again = record_of()
    ledger.add(again)
    assert again.began_at == 17.0
    assert [record.trial_id for record in ledger.running()] == ["t0000"]


def test_curves_of_ended_trials_are_there_until_they_are_put_away_and_stay_in_the_table(tmp_path: Path) -> None:
    """The agenda reads them when a sweep goes on."""
    ended, cut = finish(record_of("t0000")), finish(record_of("t0001"))
    cut.end(FAILED, "Not finished: the sweep was interrupted.", interrupted=True)
    ledger = Ledger(RunFolder(tmp_path), {record.trial_id: record for record in (ended, cut)})
    assert sorted(ledger.records["t0000"].epochs[RUN]) == [1, 2, 3]
    ledger.put_away_ended()
    assert (sorted(ended.epochs[RUN]), sorted(cut.epochs[RUN])) == ([3], [1, 2, 3])
    ledger.write_tables()
    assert pq.read_table(ledger.folder.curves)["epoch"].to_pylist() == [1, 2, 3] * 2


def test_states_of_a_training_that_may_go_on_are_kept(ledger: Ledger) -> None:
    """Those of one that has ended go as soon as no worker runs it, though its trial goes on."""
    over, left, cut = (record_of(f"t000{n}", spec=spec_with(seeds=[0, 1])) for n in range(3))
    trainings = [Training(record, run) for record in (over, left, cut) for run in record.trainings]
    for record in (over, left, cut):
        ledger.add(record)
    for training in trainings:
        ledger.states_of(training).mkdir(parents=True)
    trainings[0].record.end_training(trainings[0].run, FINISHED)
    ledger.end(left, PRUNED, "t0003 is at least as good, whatever the missing trainings give")
    ledger.end(cut, FAILED, "Not finished: the sweep was interrupted.", interrupted=True)
    assert len(list(ledger.folder.states.glob("*"))) == 6, "workers may still write there"
    for training in trainings:
        ledger.release(training)
    assert sorted(path.name for path in ledger.folder.states.glob("*")) == ["t0000-1", "t0002-0", "t0002-1"]


def test_where_nothing_can_be_written_states_stay(ledger: Ledger) -> None:
    """The end of the training may not have been written either."""
    training = Training(record_of(), RUN)
    ledger.states_of(training).mkdir(parents=True)
    ledger.give_up(OSError(ENOSPC, "No space left on device"))
    training.record.end_training(RUN, FINISHED)
    ledger.release(training)
    assert ledger.states_of(training).exists()


def test_an_error_of_writing_is_noted_and_not_raised(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would take it for an error of a training."""
    full = OSError(ENOSPC, "No space left on device")

    def write(*_: Any) -> None:
        raise full

    for name in ("write_record", "write_scores", "write_tables"):
        monkeypatch.setattr(ledger.folder, name, write)
    record = record_of()
    training = Training(record, RUN)
    for call in (
        lambda: ledger.add(record),
        lambda: ledger.reported(training, {"scores": None}),
        ledger.write_tables,
        lambda: ledger.update(record),
        lambda: ledger.end(record, FINISHED),
    ):
        ledger.broken = None
        call()
        assert ledger.broken is full
    assert (ledger.records["t0000"], record.status) == (record, FINISHED)


@pytest.mark.parametrize("error", [OSError(ENOSPC, "No space left on device"), StorageInternalError("disk is full")])
def test_the_first_error_of_the_disk_or_the_study_is_noted(ledger: Ledger, error: Exception) -> None:
    with ledger.guard():
        raise error
    with ledger.guard():
        raise OSError("another")
    assert ledger.broken is error
    with pytest.raises(ZeroDivisionError), ledger.guard():
        raise ZeroDivisionError


def test_tables_take_a_twentieth_of_the_time_at_most(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    now, writes = [1000.0], []

    def slowly(*_: Any) -> None:
        writes.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ledger.folder, "write_tables", slowly)
    record = finish(record_of())
    for moment in (1000.0, 1010.0, 1041.9, 1042.1):  # written at 1002, after 2 s: the next is due 40 s later
        now[0] = moment
        ledger.announce(record)
    assert writes == [1000.0, 1042.1]
