"""The smallest of the driver's measurements; figures that mean something come from the benchmark."""

from pathlib import Path
from threading import Thread

import pytest

from benchmarks import driver
from benchmarks.driver import Spent
from sweeper.run_folder.folder import RunFolder
from sweeper.running import searcher
from sweeper.running.progress import LiveDisplay
from sweeper.running.searcher import SweepSearcher
from sweeper.tracking.background import BackgroundTracker
from sweeper.tracking.sweep_run import Tracker
from tests.sweeper.small import fresh_store


def test_what_a_function_calls_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(driver.time, "perf_counter", lambda: now[0])

    class Work:
        def inner(self) -> None:
            now[0] += 2.0

        def outer(self) -> None:
            now[0] += 1.0
            self.inner()
            now[0] += 4.0

    spent = Spent()
    spent.watch(Work, "inner", "inner")
    spent.watch(Work, "outer", "outer")
    Work().outer()
    Work().inner()
    assert spent.seconds == {"outer": 5.0, "inner": 4.0}


def test_what_two_threads_do_at_once_is_counted_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(driver.time, "perf_counter", lambda: now[0])

    class Work:
        def other(self) -> None:
            now[0] += 2.0

        def outer(self) -> None:
            now[0] += 1.0
            thread = Thread(target=self.other)
            thread.start()
            thread.join()

    spent = Spent()
    spent.watch(Work, "other", "other")
    spent.watch(Work, "outer", "outer")
    Work().outer()
    assert spent.seconds == {"outer": 3.0, "other": 2.0}


@pytest.mark.ray
def test_a_sweep_of_trials_that_train_nothing(tmp_path: Path, ray_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [(SweepSearcher, "_ask"), (SweepSearcher, "_tell"), (RunFolder, "write_record"),
               (searcher, "new_attempt"), (RunFolder, "write_tables"), (Tracker, "_follow"),
               (LiveDisplay, "trial_ended"), (BackgroundTracker, "epoch_ended"), (BackgroundTracker, "trial_ended"),
               (BackgroundTracker, "sweep_ended")]  # fmt: skip
    for owner, name in changed:
        monkeypatch.setattr(owner, name, getattr(owner, name))  # as they were, afterwards
    monkeypatch.setenv("HOME", str(ray_home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    found = driver.measure(4, 0.0, 1, "random", tmp_path)
    assert found["trials"] == 4
    assert set(found["driver's ms a trial"]) == {
        "asking the study", "attempts", "display", "handing over to MLflow's thread", "records", "tables",
        "telling the study",
    }  # fmt: skip
    assert found["MLflow's thread"]["ms a trial"] > 0
    assert found["driver's ms of CPU a trial, with those of Ray Tune"] > 0
    memory = found["driver's MiB"]
    assert 0 < memory["programs loaded"] <= memory["first trial"] <= memory["peak"]
    assert len(memory["fifth by fifth"]) == 5
    assert (tmp_path / "run" / "report.html").exists()
