from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from sweeper.running.scheduler import make_scheduler
from tests.sweeper.small import make_objectives, spec_with


def asha(direction: str = "maximize", grace: int = 2, epochs: int = 20) -> TrialScheduler:
    search = {"scheduler": "asha", "grace_epochs": grace}
    spec = spec_with(search=search, objectives=make_objectives(("val_acc", direction)))
    return make_scheduler(spec, epochs)


def report(scheduler: TrialScheduler, trial: Any, **result: Any) -> str:
    return scheduler.on_trial_result(None, trial, {"training_iteration": 1, **result})


def trials(scheduler: TrialScheduler, count: int) -> list[Any]:
    made = [SimpleNamespace(trial_id=f"r{i}", status="RUNNING") for i in range(count)]
    for trial in made:
        scheduler.on_trial_add(None, trial)
    return made


def test_by_default_nobody_is_stopped() -> None:
    assert type(make_scheduler(spec_with(), 10)) is FIFOScheduler


@pytest.mark.parametrize(("direction", "good", "bad"), [("maximize", 0.9, 0.1), ("minimize", 0.1, 0.9)])
def test_the_worse_is_stopped_at_the_rung_and_not_before(direction: str, good: float, bad: float) -> None:
    scheduler = asha(direction)
    first, second = trials(scheduler, 2)
    for epoch in (1, 2, 3):
        assert report(scheduler, first, epoch=epoch, objective=good) == TrialScheduler.CONTINUE
    assert report(scheduler, second, epoch=1, objective=bad) == TrialScheduler.CONTINUE
    assert report(scheduler, second, epoch=2, objective=bad) == TrialScheduler.STOP


def test_controls_and_warm_up_report_no_objective_and_go_on() -> None:
    scheduler = asha()
    first, control = trials(scheduler, 2)
    report(scheduler, first, epoch=5, objective=0.9)
    for iteration in range(1, 30):
        assert report(scheduler, control, training_iteration=iteration) == TrialScheduler.CONTINUE


def test_the_last_epoch_is_reached() -> None:
    scheduler = asha(epochs=20)
    (only,) = trials(scheduler, 1)
    assert {report(scheduler, only, epoch=e, objective=0.5) for e in range(1, 21)} == {TrialScheduler.CONTINUE}


@pytest.mark.parametrize(("grace", "epochs"), [(5, 3), (5, 5), (1, 1)])
def test_a_grace_longer_than_the_trial_is_cut(grace: int, epochs: int) -> None:
    assert isinstance(asha(grace=grace, epochs=epochs), AsyncHyperBandScheduler)
