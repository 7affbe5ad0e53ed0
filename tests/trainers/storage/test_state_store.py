"""States of attempts that may overlap."""

import time

import pytest

from trainers.storage.files import remove_tree
from trainers.storage.object_store import Place
from trainers.storage.state import save_state
from trainers.storage.state_store import StateStore, SupersededError, attempts, crash_reason, host_of, new_attempt


def begun(folder: Place) -> StateStore:
    store = StateStore(folder, 0, new_attempt(folder))
    store.begin("host")
    return store


def files(folder: Place) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def test_a_store_without_states_makes_its_folder_when_it_is_needed(any_place: Place) -> None:
    store = StateStore(any_place / "states")
    assert store.load(0) is None
    assert not store.folder.exists()
    store.save(0, {"x": 1})
    assert store.load(0) == {"x": 1}
    assert store.path(0) != store.path(1)
    assert store.load(1) is None


def test_a_state_is_due_at_stage_ends_and_after_a_while(any_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    store = StateStore(any_place, every_s=60)
    assert store.due(stage_ended=True)
    now = 159.0
    assert not store.due(stage_ended=False)
    now = 160.0
    assert store.due(stage_ended=False)
    store.save(0, {})
    assert not store.due(stage_ended=False)


def test_attempts_are_counted_and_the_latest_state_counts(any_place: Place) -> None:
    assert attempts(any_place) == 0
    for number in (1, 2, 3):
        store = begun(any_place)
        assert store.attempt == attempts(any_place) == number
        assert store.load(0) == (None if number == 1 else {"by": number - 1})
        store.save(0, {"by": number})
        assert store.load(0) == {"by": number}
    began = {f"began.{number}.txt" for number in (1, 2, 3)}
    assert set(files(any_place)) == {"owner.txt", *began, "run-0.3.safetensors"}  # what was overtaken is gone


def test_an_attempt_goes_on_from_its_own_state_and_never_from_one_of_a_later_attempt(any_place: Place) -> None:
    """Its own number is among those that count, the next one is not."""
    for number in (1, 2, 3):
        save_state(any_place / f"run-0.{number}.safetensors", {"by": number})
    assert [StateStore(any_place, attempt=number).load(0) for number in (1, 2, 3)] == [{"by": n} for n in (1, 2, 3)]
    (any_place / "run-0.2.safetensors").unlink()
    assert StateStore(any_place, attempt=2).load(0) == {"by": 1}


def test_the_tenth_attempt_comes_after_the_ninth(any_place: Place) -> None:
    for number in range(1, 10):
        begun(any_place).save(0, {"by": number})
    store = begun(any_place)
    save_state(any_place / "run-0.2.safetensors", {"by": 2})  # one that was overtaken, and wrote late
    assert (store.attempt, store.load(0)) == (10, {"by": 9})
    store.save(0, {"by": 10})
    assert store.load(0) == {"by": 10}
    assert {name for name in files(any_place) if name.startswith("run-")} == {"run-0.10.safetensors"}


def test_runs_whose_numbers_begin_alike_are_kept_apart(any_place: Place) -> None:
    store = begun(any_place)
    store.save(10, {"run": 10})
    assert store.load(1) is None
    store.save(1, {"run": 1})
    assert (store.load(1), store.load(10)) == ({"run": 1}, {"run": 10})


def test_an_attempt_without_a_state_leaves_that_of_an_earlier_one(any_place: Place) -> None:
    begun(any_place).save(1, {"x": 1})
    begun(any_place)
    store = begun(any_place)
    assert (store.load(1), store.load(0)) == ({"x": 1}, None)
    store.path(1).write_bytes(b"damaged")
    assert store.load(1) == {"x": 1}


def test_who_was_overtaken_writes_nothing(any_place: Place) -> None:
    first = begun(any_place)
    first.save(0, {"by": 1})
    second = begun(any_place)
    second.save(0, {"by": 2})
    before = files(any_place)
    for write in (lambda: first.save(0, {"late": 1}), lambda: first.note_crash("late")):
        with pytest.raises(SupersededError, match="Attempt 1 was cut off, and another went on"):
            write()
    assert files(any_place) == before
    assert (second.load(0), crash_reason(any_place, 2)) == ({"by": 2}, None)


def test_who_comes_back_after_the_trial_has_ended_writes_nothing(any_place: Place) -> None:
    store = begun(any_place / "t0000")
    remove_tree(any_place / "t0000")  # as the driver does
    with pytest.raises(SupersededError):
        store.save(0, {})
    assert not (any_place / "t0000").exists()


def test_a_state_written_while_being_overtaken_is_nobodys_loss(
    any_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between asking who the owner is and writing, a successor may come."""
    first, second = begun(any_place), None
    first.save(0, {"by": 1})
    second = begun(any_place)
    second.save(0, {"by": 2})
    monkeypatch.setattr(first, "check_owner", lambda: None)
    first.save(0, {"late": 1})
    assert second.load(0) == {"by": 2}
    assert begun(any_place).load(0) == {"by": 2}


def test_each_attempt_says_for_itself_where_it_ran_and_why_it_crashed(any_place: Place) -> None:
    begun(any_place).note_crash("MemoryError: no more")
    assert (host_of(any_place, 1), crash_reason(any_place, 1)) == ("host", "MemoryError: no more")
    assert new_attempt(any_place) == 2
    assert (host_of(any_place, 2), crash_reason(any_place, 2)) == (None, None)


def test_who_comes_too_late_to_begin_does_not(any_place: Place) -> None:
    late = StateStore(any_place, attempt=new_attempt(any_place))
    begun(any_place)
    before = files(any_place)
    with pytest.raises(SupersededError):
        late.begin("another")
    assert files(any_place) == before
