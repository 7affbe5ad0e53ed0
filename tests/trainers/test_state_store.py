"""States of attempts that may overlap."""

import shutil
import time
from pathlib import Path

import pytest

from trainers.state_store import StateStore, SupersededError, attempts, crash_reason


def begun(folder: Path) -> StateStore:
    store = StateStore(folder, 0)
    store.begin()
    return store


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_store_without_states_makes_its_folder_when_it_is_needed(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "states")
    assert store.load(0) is None
    assert not store.folder.exists()
    store.save(0, {"x": 1})
    assert store.load(0) == {"x": 1}
    assert store.path(0) != store.path(1)
    assert store.load(1) is None


def test_a_state_is_due_at_stage_ends_and_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    store = StateStore(tmp_path, every_s=60)
    assert store.due(stage_ended=True)
    now = 159.0
    assert not store.due(stage_ended=False)
    now = 160.0
    assert store.due(stage_ended=False)
    store.save(0, {})
    assert not store.due(stage_ended=False)


def test_attempts_are_counted_and_the_latest_state_counts(tmp_path: Path) -> None:
    assert attempts(tmp_path) == 0
    for number in (1, 2, 3):
        store = begun(tmp_path)
        assert store.attempt == attempts(tmp_path) == number
        assert store.load(0) == (None if number == 1 else {"by": number - 1})
        store.save(0, {"by": number})
        assert store.load(0) == {"by": number}
    assert set(files(tmp_path)) == {"owner.json", "run-0.3.safetensors"}  # what was overtaken is gone


def test_an_attempt_without_a_state_leaves_that_of_an_earlier_one(tmp_path: Path) -> None:
    begun(tmp_path).save(1, {"x": 1})
    begun(tmp_path)
    store = begun(tmp_path)
    assert (store.load(1), store.load(0)) == ({"x": 1}, None)
    store.path(1).write_bytes(b"damaged")
    assert store.load(1) == {"x": 1}


def test_who_was_overtaken_writes_nothing(tmp_path: Path) -> None:
    first = begun(tmp_path)
    first.save(0, {"by": 1})
    second = begun(tmp_path)
    second.save(0, {"by": 2})
    before = files(tmp_path)
    for write in (lambda: first.save(0, {"late": 1}), lambda: first.note_crash("late")):
        with pytest.raises(SupersededError, match="Attempt 1 was cut off, and another went on"):
            write()
    assert files(tmp_path) == before
    assert (second.load(0), crash_reason(tmp_path)) == ({"by": 2}, None)


def test_who_comes_back_after_the_trial_has_ended_writes_nothing(tmp_path: Path) -> None:
    store = begun(tmp_path / "t0000")
    shutil.rmtree(tmp_path / "t0000")  # as the driver does
    with pytest.raises(SupersededError):
        store.save(0, {})
    assert not (tmp_path / "t0000").exists()


def test_a_state_written_while_being_overtaken_is_nobodys_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between asking who the owner is and writing, a successor may come."""
    first, second = begun(tmp_path), None
    first.save(0, {"by": 1})
    second = begun(tmp_path)
    second.save(0, {"by": 2})
    monkeypatch.setattr(first, "check_owner", lambda: None)
    first.save(0, {"late": 1})
    assert second.load(0) == {"by": 2}
    assert begun(tmp_path).load(0) == {"by": 2}


def test_why_an_attempt_crashed_is_forgotten_by_the_next(tmp_path: Path) -> None:
    begun(tmp_path).note_crash("MemoryError: no more")
    assert crash_reason(tmp_path) == "MemoryError: no more"
    begun(tmp_path)
    assert crash_reason(tmp_path) is None
