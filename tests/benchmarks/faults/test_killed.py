"""Worker and driver are killed."""

import signal
from os import kill
from pathlib import Path

import pytest

from benchmarks.faults import Sweep, agree
from sweeper.run_folder.tables import as_rows

pytestmark = [pytest.mark.ray, pytest.mark.long]


def test_a_killed_worker_and_a_killed_driver_cost_no_trial(place: Path) -> None:
    sweep = Sweep(place, changes={"state_every_s": 0.2}).start()
    sweep.wait_for("states/t0000-0/run-0.1.safetensors")
    workers = sweep.workers()
    assert workers
    for pid in workers:
        kill(pid, signal.SIGKILL)
    sweep.wait_for("states/t0001-0/began.1.txt")
    sweep.kill()
    half = sweep.folder.read_records()
    (training,) = half["t0000"].trainings.values()
    assert (half["t0000"].status, training.attempt, half["t0001"].open) == ("FINISHED", 2, True)
    (sweep.folder.records / ".beside-t0009-x.json").write_text("half")
    code, shown = sweep.start("resume").end()
    assert code == 0, shown
    assert set(agree(sweep.folder, sweep.store).values()) == {"FINISHED"}, shown
    rows = {row["trial_id"]: row for row in as_rows(sweep.folder.read_trials())}
    assert set(rows) == {"c0000", "t0000", "t0001"}
    assert (rows["t0000"]["attempt"], rows["t0001"]["attempt"]) == (2, 2)
    assert not sweep.folder.states.exists()
    assert not list(sweep.folder.records.glob(".*"))
