import os
import stat
from pathlib import Path

import pytest

from trainers.storage.files import remove_leftovers, replacing, write_text, write_with


def test_text_is_written_as_utf8_and_replaces_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "below" / "deeper" / "a.txt"
    write_text(file, "first and longer")
    write_text(file, "Δ ü")
    assert file.read_bytes() == "Δ ü".encode()
    assert [f.name for f in file.parent.iterdir()] == ["a.txt"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")
    with replacing(file) as beside:
        assert beside.parent == tmp_path
        assert beside.suffix == ".json"  # some writers choose their format by it
        assert beside != file
        beside.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_write_that_fails_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")

    def write_half(beside: Path) -> None:
        beside.write_bytes(b"ha")
        raise error

    with pytest.raises(error):
        write_with(file, write_half)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_first_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_with(tmp_path / "a.bin", lambda beside: 1 / 0)
    assert os.listdir(tmp_path) == []


def test_a_writer_may_itself_replace_the_file(tmp_path: Path) -> None:
    def write(beside: Path) -> None:
        other = beside.with_name("other")
        other.write_text("whole")
        other.replace(beside)

    write_with(tmp_path / "a.txt", write)
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_who_may_read_the_file_is_for_the_users_mask_to_say(tmp_path: Path, mask: int) -> None:
    # A temporary file is private by default; runs are looked at by other users and containers.
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "whole.json").write_text("{}")
    (tmp_path / ".hidden").write_text("")
    with replacing(tmp_path / "new.json") as beside:
        left = beside.with_name(beside.name + "-of-another")
        left.write_text("ha")
    (tmp_path / "new.json").unlink()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "whole.json"]
    remove_leftovers(tmp_path / "gone")


def test_a_name_that_is_no_text_is_written_as_its_escape(tmp_path: Path) -> None:
    """Such as that of a class folder in another encoding, which would end a sweep when its report is written."""
    write_text(tmp_path / "file", "caf\udce9 \xb1")
    assert (tmp_path / "file").read_bytes() == "caf\\udce9 \xb1".encode()
