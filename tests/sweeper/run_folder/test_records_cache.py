"""Records that are read again only if they changed."""

import os
from pathlib import Path
from typing import Any

import pytest

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.records_cache import RecordsCache
from tests.sweeper.small import finish, record_of


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    for number in range(5):
        folder.write_record(record_of(f"t{number:04d}"))
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the records that are read."""
    seen: list[str] = []
    read = RunFolder.read_record

    def noted(self: RunFolder, trial_id: str) -> Any:
        seen.append(trial_id)
        return read(self, trial_id)

    monkeypatch.setattr(RunFolder, "read_record", noted)
    return seen


def test_only_what_changed_is_read_again(folder: RunFolder, reads: list[str]) -> None:
    cache = RecordsCache(folder)
    assert list(cache.read()) == [f"t{number:04d}" for number in range(5)]
    assert len(reads) == 5
    reads.clear()
    folder.write_record(finish(record_of("t0003")))
    folder.write_record(record_of("t0005"))
    known = cache.read()
    assert sorted(reads) == ["t0003", "t0005"]
    assert known["t0003"].status == "FINISHED"
    assert list(known["t0003"].epochs["badnets", 0]) == [3], "curves would fill the memory"
    reads.clear()
    assert cache.read() == known
    assert reads == []


def test_a_file_of_the_same_time_and_size_is_another_one(folder: RunFolder, reads: list[str]) -> None:
    """As on file systems that know whole seconds."""
    path = folder.records / "t0001.json"
    os.utime(path, (1000, 1000))
    cache = RecordsCache(folder)
    cache.read()
    reads.clear()
    beside = folder.records / ".other"
    beside.write_bytes(path.read_bytes())
    os.utime(beside, (1000, 1000))
    beside.replace(path)
    cache.read()
    assert reads == ["t0001"]


def test_what_vanishes_or_is_damaged_is_left_out(folder: RunFolder, reads: list[str]) -> None:
    cache = RecordsCache(folder)
    cache.read()
    (folder.records / "t0000.json").unlink()
    (folder.records / "t0001.json").write_text('{"trial_id": "t00')
    (folder.records / ".beside-t0002-1.json").write_text("")
    (folder.records / "notes.txt").write_text("x")
    assert list(cache.read()) == ["t0002", "t0003", "t0004"]
    reads.clear()
    cache.read()
    assert reads == [], "a damaged record is read once"
    folder.write_record(record_of("t0001"))
    assert list(cache.read()) == ["t0001", "t0002", "t0003", "t0004"]


def test_a_folder_that_vanishes_holds_none(folder: RunFolder) -> None:
    cache = RecordsCache(folder)
    cache.read()
    folder.records.rename(folder.path / "away")
    assert cache.read() == {}
