"""What Ray Tune calls, on trainings that the ledger knows and on others."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import PRUNED, Training, TrialRecord
from sweeper.running.callback import LedgerCallback
from sweeper.running.ledger import Ledger
from sweeper.running.stopper import SweepStopper
from tests.sweeper.small import FACTS, Watcher, epoch_figures, record_of


class Counting(Watcher):
    """Counts starts and epochs."""

    def __init__(self) -> None:
        self.starts = self.epochs = 0

    def trial_changed(self, record: TrialRecord) -> None:
        self.starts += 1

    def epoch_ended(self, record: TrialRecord) -> None:
        self.epochs += 1


def test_starts_and_reports_reach_the_ledger(tmp_path: Path) -> None:
    counting, record = Counting(), record_of()
    ledger = Ledger(RunFolder(tmp_path), {}, [counting])
    ledger.hand_out("ours", Training(record, ("badnets", 0)))
    callback = LedgerCallback(ledger)
    result = {"scenario": "badnets", "seed": 0, "figures": epoch_figures(3), "facts": FACTS}
    for name in ("ours", "theirs"):
        trial = SimpleNamespace(trial_id=name)
        callback.on_trial_start(0, [], trial)
        callback.on_trial_result(0, [], trial, result)
    assert (counting.starts, counting.epochs) == (1, 1)
    assert record.final(("badnets", 0))["epoch"] == 3
    ledger.take_back("ours")
    callback.on_trial_start(0, [], SimpleNamespace(trial_id="ours"))
    callback.on_trial_result(0, [], SimpleNamespace(trial_id="ours"), result | {"figures": epoch_figures(4)})
    assert (counting.starts, counting.epochs) == (1, 1), "it does not run any more"


def test_of_a_training_whose_trial_left_its_race_nothing_more_is_told(tmp_path: Path) -> None:
    """Ray may start it late, and lets it report once more before it stops it."""
    counting, record = Counting(), record_of()
    ledger = Ledger(RunFolder(tmp_path), {}, [counting])
    ledger.hand_out("ours", Training(record, ("badnets", 0)))
    ledger.end(record, PRUNED, "t0003 is at least as good, whatever the missing trainings give")
    callback, trial = LedgerCallback(ledger), SimpleNamespace(trial_id="ours")
    callback.on_trial_start(0, [], trial)
    for more in ({"figures": epoch_figures(1), "facts": FACTS}, {"scores": pa.table({"suspicion": [0.1]})}):
        callback.on_trial_result(0, [], trial, {"scenario": "badnets", "seed": 0, **more})
    assert (counting.starts, counting.epochs, record.epochs) == (0, 0, {})
    assert not ledger.folder.scores.exists()


def test_ray_pickles_nothing_of_the_sweep(tmp_path: Path) -> None:
    ledger = Ledger(RunFolder(tmp_path), {})
    for ours in (LedgerCallback(ledger), SweepStopper(None, lambda: ledger.broken is not None)):
        assert vars(pickle.loads(pickle.dumps(ours))) == {}  # noqa: S301
