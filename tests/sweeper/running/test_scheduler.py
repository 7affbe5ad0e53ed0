"""What Ray is told at each epoch of a sweep with asha, and what the record holds by then."""

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from ray.tune.schedulers import TrialScheduler

from sweeper.run_folder.record import PRUNED, RUNNING, Training, TrialRecord
from sweeper.running.callback import LedgerCallback
from sweeper.running.scheduler import EarlyStoppingScheduler
from sweeper.running.searcher import SweepSearcher
from tests.sweeper.small import FACTS, Watcher, end_training, epoch_figures, spec_with, start

MakeSearcher = Callable[..., tuple[SweepSearcher, optuna.Study]]
GO_ON, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


class Told(Watcher):
    """Counts the epochs of which followers are told."""

    def __init__(self) -> None:
        self.epochs: list[str] = []

    def epoch_ended(self, record: TrialRecord) -> None:
        self.epochs.append(record.trial_id)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def searcher(make_searcher: MakeSearcher, told: Told) -> SweepSearcher:
    """With the trainings of four trials as Ray's 1 to 4; the control has ended."""
    search = {"sampler": "random", "trials": 4, "scheduler": "asha"}
    made, _ = make_searcher(spec_with(search=search), followers=[told])
    assert start(made, *"01234") == ["c0000", "t0000", "t0001", "t0002", "t0003"]
    end_training(made, "0")
    return made


def report(searcher: SweepSearcher, ray_id: str, epoch: int, acc: float | None = 0.8, **more: Any) -> str:
    """What Ray does with a report of an epoch, in its order."""
    scheduler, trial = EarlyStoppingScheduler(searcher.agenda, searcher), SimpleNamespace(trial_id=ray_id)
    figures = list(epoch_figures(epoch, val_acc=acc).items())
    result = {"scenario": "badnets", "seed": 0, "figures": figures, "facts": list(FACTS.items()), **more}
    decision = scheduler.on_trial_result(None, trial, result)
    if decision == GO_ON:
        searcher.on_trial_result(ray_id, result)
    LedgerCallback(searcher.ledger).on_trial_result(0, [], trial, result)
    if decision == STOP:
        searcher.on_trial_complete(ray_id, result | {"done": True})
    return decision


def training_of(searcher: SweepSearcher, ray_id: str) -> Training:
    training = searcher.ledger.of(ray_id)
    assert training is not None
    return training


def test_one_that_falls_behind_stops_at_that_report_and_its_record_holds_it(
    searcher: SweepSearcher, told: Told
) -> None:
    trainings = {ray_id: training_of(searcher, ray_id) for ray_id in "1234"}
    states = searcher.ledger.states_of(trainings["3"])
    assert states.exists()
    for ray_id in "123":
        assert report(searcher, ray_id, 1, None) == GO_ON, "while there is no model"
    assert [report(searcher, ray_id, 3, acc) for ray_id, acc in zip("123", (0.8, 0.9, 0.7), strict=True)] == [
        GO_ON, GO_ON, STOP,
    ]  # fmt: skip
    record = trainings["3"].record
    assert (record.status, trainings["3"].state.status) == (PRUNED, PRUNED)
    written = searcher.ledger.folder.read_records()["t0002"]
    assert (written.status, sorted(written.epochs["badnets", 0])) == (PRUNED, [1, 3])
    assert "was stopped by asha at 75% of its epochs" in str(written.error)
    assert not states.exists()
    assert told.epochs == ["t0000", "t0001", "t0002", "t0000", "t0001"], "each epoch once, and the end for the last"
    assert trainings["4"].state.status == RUNNING
    assert searcher.ledger.of("3") is None
    assert not searcher.stopper("3", {}), "Ray may give the id to another training"


def test_what_runs_beside_it_stops_at_its_own_next_report(make_searcher: MakeSearcher) -> None:
    search = {"sampler": "random", "trials": 3, "scheduler": "asha", "race": "off"}
    searcher, _ = make_searcher(spec_with(scenarios=[{"attack": "badnets"}, {"attack": "blend"}], search=search))
    start(searcher, "c", "d")
    for ray_id in "cd":
        end_training(searcher, ray_id)
    names = start(searcher, *"012345")
    assert names == ["t0000", "t0001", "t0002"] * 2
    assert [report(searcher, ray_id, 3, acc) for ray_id, acc in zip("012", (0.9, 0.8, 0.7), strict=True)] == [
        GO_ON, GO_ON, STOP,
    ]  # fmt: skip
    assert [searcher.stopper(ray_id, {}) for ray_id in "345"] == [False, False, True]


def test_reports_of_scores_and_of_trainings_that_nobody_knows_go_on(searcher: SweepSearcher) -> None:
    scheduler = EarlyStoppingScheduler(searcher.agenda, searcher)
    assert scheduler.on_trial_result(None, SimpleNamespace(trial_id="1"), {"scores": "..."}) == GO_ON
    unknown = {"figures": [("epoch", 3)], "facts": []}
    assert scheduler.on_trial_result(None, SimpleNamespace(trial_id="theirs"), unknown) == GO_ON
    assert training_of(searcher, "1").record.epochs == {}


def test_the_searcher_hears_of_no_report_that_stops(searcher: SweepSearcher) -> None:
    """Ray does not tell it; what it needs comes with the end."""
    for ray_id, acc in zip("123", (0.8, 0.9, 0.7), strict=True):
        report(searcher, ray_id, 3, acc)
    assert searcher.stopper.reason is None
    assert start(searcher, "5") == ["None"], "four trials are all, and three of them run"


def test_ray_may_pickle_it(searcher: SweepSearcher) -> None:
    """The agenda, with its study, could not be."""
    assert len(pickle.dumps(EarlyStoppingScheduler(searcher.agenda, searcher))) < 200
