"""What Ray Tune calls, on trials that the ledger knows and on others."""

import pickle
from pathlib import Path
from types import SimpleNamespace

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord
from sweeper.running.callback import LedgerCallback
from sweeper.running.ledger import Ledger
from sweeper.running.stopper import SweepStopper
from tests.sweeper.small import FACTS, Watcher, epoch_figures, record_of


class Counting(Watcher):
    """Counts starts and epochs."""

    def __init__(self) -> None:
        self.starts = self.epochs = 0

    def trial_started(self, record: TrialRecord) -> None:
        self.starts += 1

    def epoch_ended(self, record: TrialRecord) -> None:
        self.epochs += 1


def test_starts_and_reports_reach_the_ledger(tmp_path: Path) -> None:
    counting, record = Counting(), record_of()
    ledger = Ledger(RunFolder(tmp_path), {}, [counting])
    ledger.hand_out("ours", record)
    callback = LedgerCallback(ledger)
    result = {"scenario": "badnets", "seed": 0, "figures": epoch_figures(3), "facts": FACTS}
    for name in ("ours", "theirs"):
        trial = SimpleNamespace(trial_id=name)
        callback.on_trial_start(0, [], trial)
        callback.on_trial_result(0, [], trial, result)
    assert (counting.starts, counting.epochs) == (1, 1)
    assert record.final(("badnets", 0))["epoch"] == 3


def test_ray_pickles_nothing_of_the_sweep(tmp_path: Path) -> None:
    ledger = Ledger(RunFolder(tmp_path), {})
    for ours in (LedgerCallback(ledger), SweepStopper(None, lambda: ledger.broken is not None)):
        assert vars(pickle.loads(pickle.dumps(ours))) == {}  # noqa: S301
