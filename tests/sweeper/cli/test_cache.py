"""``cache``; what it lists and removes is in tests/trainers/data/test_cached.py."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sweeper.cli.calls import call, sentence
from tests.trainers.data.test_cached import images, read
from trainers.data import cached
from trainers.data.stored import Stored


def test_files_are_listed_with_sizes_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cached, "_processes", lambda first: ThreadPoolExecutor(1))
    folder = tmp_path / "robustness-sweeper" / "images"
    assert call("cache").output == f"{folder}: 0 files, 0 MiB of 100.0 GiB.\n"
    kept = read(images(20)).images
    read(images(10, colour=False))
    assert isinstance(kept, Stored)
    assert kept.file is not None
    (folder / "stray.images").write_bytes(b"x")
    said = call("cache", "--limit", "2.5").output
    assert f"20 of 5x6, in colour ({kept.file.path.name})" in said
    assert "10 of 5x6, grey (" in said
    assert "stray.images: it is too short" in said
    assert said.endswith(f"{folder}: 3 files, 0 MiB of 2.5 GiB.\n")
    said = call("cache", "--clear").output
    assert "Removed 2 files of 0 MiB." in said
    assert "1 file in use: not removed." in said
    assert [path.name for path in folder.glob("*.images")] == [kept.file.path.name]


@pytest.mark.parametrize("limit", ["inf", "1e308"])
def test_a_limit_that_is_no_number_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "--limit must be a number of GiB, but got" in sentence(call("cache", "--limit", limit))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_is_said_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "robustness-sweeper" / "images"
    (folder / "stray.images").mkdir(parents=True)
    said = call("cache", "--clear").output
    assert "Removed 0 files of 0 MiB." in said
    assert f"{folder / 'stray.images'} could not be removed: Is a directory." in said
    assert "in use" not in said


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "robustness-sweeper/images cannot be written: Not a directory." in sentence(call("cache", "--limit", "1"))
