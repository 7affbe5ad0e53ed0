"""The smallest of the driver's measurements; figures that mean something come from the benchmark."""

from pathlib import Path
from threading import Thread

import pytest

from benchmarks import driver
from benchmarks.driver import Spent
from sweeper.run_folder.folder import RunFolder
from sweeper.running import searcher
from sweeper.running.progress import LiveDisplay
from sweeper.search.agenda import Agenda
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
def test_a_sweep_of_trainings_that_compute_nothing(
    tmp_path: Path, ray_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = [(Agenda, "_ask"), (Agenda, "_tell"), (Agenda, "next"), (Agenda, "ended"), (RunFolder, "write_record"),
               (searcher, "new_attempt"), (RunFolder, "write_tables"), (Tracker, "_follow"),
               (LiveDisplay, "trial_ended"), (BackgroundTracker, "epoch_ended"), (BackgroundTracker, "trial_ended"),
               (BackgroundTracker, "sweep_ended")]  # fmt: skip
    for owner, name in changed:
        monkeypatch.setattr(owner, name, getattr(owner, name))  # as they were, afterwards
    monkeypatch.setenv("HOME", str(ray_home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    found = driver.measure(driver.Load(2, seeds=2, epochs=2, workers=1, sampler="random"), tmp_path)
    assert (found["trials"], found["trainings"]) == (2, 2 * 2 + 2)
    assert set(found["driver's ms a training"]) == {
        "agenda", "asking the study", "attempts", "display", "handing over to MLflow's thread", "records", "tables",
        "telling the study",
    }  # fmt: skip
    assert found["MLflow's thread"]["ms a training"] > 0
    assert found["driver's ms of CPU a training, with those of Ray Tune"] > 0
    memory = found["driver's MiB"]
    assert 0 < memory["programs loaded"] <= memory["first end"] <= memory["peak"]
    assert len(memory["fifth by fifth"]) == 5
    assert (tmp_path / "run" / "report.html").exists()
