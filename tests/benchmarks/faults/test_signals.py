"""Every process of a sweep gets SIGTERM, as from systemd and Slurm."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.faults import Sweep, agree

pytestmark = [pytest.mark.ray, pytest.mark.long]


def test_sigterm_to_every_process_costs_no_trial(place: Path) -> None:
    sweep = Sweep(place).start()
    sweep.wait_for("states/t0001-0/began.1.txt")
    members = sweep.members()
    assert len(members) > 5, "Ray's processes are among them"
    asked = time.monotonic()
    for _ in range(2):  # timeout sends it twice
        for member in members:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGTERM)
    code, shown = sweep.end()
    assert time.monotonic() - asked < 20
    assert code == 0, shown
    assert "Not all trials ran: the sweep was interrupted. Ended trials are kept; to continue: sweeper resume" in shown
    assert "Traceback" not in shown
    records = sweep.folder.read_records()
    (cut,) = records["t0001"].trainings.values()
    assert (records["t0000"].status, records["t0001"].interrupted, cut.attempt) == ("FINISHED", True, 1)
    code, shown = sweep.start("resume").end()
    assert code == 0, shown
    assert set(agree(sweep.folder, sweep.store).values()) == {"FINISHED"}
    assert [training.attempt for training in sweep.folder.read_records()["t0000"].trainings.values()] == [1]
    left = [member for member in members if Path(f"/proc/{member}").exists()]
    assert left == []
