"""One short fault of each kind; the long ones are in benchmarks/faults.py."""

import signal
import tempfile
from collections.abc import Iterator
from os import kill
from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.faults import Sweep, agree, fill_disk, server_stopped, small_disk
from sweeper.results import as_rows
from tests.sweeper.small import fresh_store

pytestmark = pytest.mark.ray

SHORT = {
    "defense": {**faults.PRESET["defense"], "suppression_epochs": 4},
    "search": {"sampler": "random", "trials": 2, "workers": 1},
    "seeds": [0],
}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that PostgreSQL's own user may enter, and a home of its own, since Ray writes a token there."""
    with tempfile.TemporaryDirectory(prefix="sweeper-faults-") as folder:
        monkeypatch.setenv("HOME", folder)
        for key, value in SHORT.items():
            monkeypatch.setitem(faults.PRESET, key, value)
        fresh_store(Path(folder) / "mlflow.db")
        yield Path(folder)


def test_a_killed_worker_and_a_killed_driver_cost_no_trial(place: Path) -> None:
    sweep = Sweep(place, changes={"state_every_s": 0.2}).start()
    sweep.wait_for("states/t0000/run-0.1.safetensors")
    workers = sweep.workers()
    assert workers
    for pid in workers:
        kill(pid, signal.SIGKILL)
    sweep.wait_for("states/t0001/owner.json")
    sweep.kill()
    half = sweep.folder.read_records()
    assert (half["t0000"].status, half["t0000"].attempt, half["t0001"].open) == ("FINISHED", 2, True)
    (sweep.folder.records / ".beside-t0009-x.json").write_text("half")
    code, shown = sweep.start("resume").end()
    assert code == 0, shown
    assert set(agree(sweep.folder, sweep.store).values()) == {"FINISHED"}
    rows = {row["trial_id"]: row for row in as_rows(sweep.folder.read_trials())}
    assert set(rows) == {"c0000", "t0000", "t0001"}
    assert (rows["t0000"]["attempt"], rows["t0001"]["attempt"]) == (2, 2)
    assert not sweep.folder.states.exists()
    assert not list(sweep.folder.records.glob(".*"))


def test_what_a_stopped_server_misses_is_filled_in(place: Path) -> None:
    try:
        status = server_stopped(place)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert set(status.values()) == {"FINISHED"}


def test_a_full_disk_is_said_plainly_and_loses_nothing(place: Path) -> None:
    try:
        with small_disk(place) as disk:
            sweep = fill_disk(disk, f"sqlite:///{place / 'mlflow.db'}")
            assert sweep.folder.read_records()["c0000"].status == "FINISHED"
    except PermissionError as error:
        pytest.skip(str(error))
