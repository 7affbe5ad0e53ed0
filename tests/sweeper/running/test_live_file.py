"""What a driver says of the trainings that run."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.live import RunningTraining, read_live
from sweeper.running import live_file
from sweeper.running.live_file import LiveFile
from tests.sweeper.small import FACTS, epoch_figures, record_of, spec_with

FIRST, SECOND = ("badnets", 0), ("badnets", 1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_file, "EVERY_S", 0.05)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_runs_is_written_and_removed_at_the_end(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    record = record_of(spec=spec_with(seeds=[0, 1]))
    folder.live.write_text("left by a driver that was killed")
    with LiveFile(folder) as live:
        assert not folder.live.exists()
        record.running.add(FIRST)
        live.trial_changed(record)
        until(lambda: read_live(folder) == [RunningTraining("t0000", *FIRST, None, 0, None)])
        record.trainings[FIRST].host = "10.0.0.1"
        record.add_epoch(FIRST, epoch_figures(1), FACTS)
        record.running.add(SECOND)
        live.epoch_ended(record)
        seen = [
            RunningTraining("t0000", *FIRST, "10.0.0.1", 1, "mix"),
            RunningTraining("t0000", *SECOND, None, 0, None),
        ]
        until(lambda: read_live(folder) == seen)
        record.end_training(FIRST, "FINISHED")
        live.epoch_ended(record)
        until(lambda: read_live(folder) == seen[1:])
        record.end("FAILED", "why")
        live.trial_ended(record, record.rows({}))
        until(lambda: read_live(folder) == [])
    assert list(tmp_path.iterdir()) == []


def test_without_news_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(live_file, "write_live", lambda _folder, running: written.append(len(running)))
    record = record_of()
    record.running.add(FIRST)
    with LiveFile(RunFolder(tmp_path)) as live:
        for _ in range(1000):  # far more events than there are turns
            live.epoch_ended(record)
        until(lambda: bool(written))
        time.sleep(0.5)
        assert len(written) < 100
        before = len(written)
        time.sleep(0.3)
        assert len(written) == before


def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[None] = []

    def full(*_: object) -> None:
        tries.append(None)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live_file, "write_live", full)
    with LiveFile(RunFolder(tmp_path / "away")) as live:
        for times in (1, 2):
            live.trial_changed(record_of())
            until(lambda times=times: len(tries) >= times)  # type: ignore[misc]
    assert len(tries) >= 2, "it goes on trying"
    assert not (tmp_path / "away").exists()
