import errno
import fcntl
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainers.data.test_decode import encoded
from trainers.data import cached as module
from trainers.data.cache_file import SUFFIX
from trainers.data.cache_folder import CacheFolder
from trainers.data.cached import open_cached
from trainers.data.config import DataConfig
from trainers.data.decode import Decoded, decode
from trainers.data.encoded import decode_all
from trainers.data.findings import Findings
from trainers.data.image_set import pixels_fingerprint
from trainers.data.pixels import Rendering
from trainers.data.stored import CacheFile, Stored
from trainers.errors import ConfigError
from trainers.storage.files import LEFTOVER


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a host where threads decode: processes take seconds to begin."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_processes", lambda first: ThreadPoolExecutor(2))
    return CacheFolder.of_this_host().path


def images(count: int, seed: int = 0, colour: bool = True) -> list[tuple[str, bytes]]:
    shape = (count, 6, 5, 3) if colour else (count, 6, 5)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return [(f"image {number}", encoded(Image.fromarray(image))) for number, image in enumerate(pixels)]


def read(items: Any, findings: Findings | None = None, **config: Any) -> Decoded:
    return decode_all(items, DataConfig(cache="on", **config), findings or Findings())


def files(folder: Path) -> list[Path]:
    """All that lies there but locks."""
    return sorted(path for path in folder.iterdir() if path.suffix != ".lock") if folder.is_dir() else []


@pytest.mark.parametrize("colour", [True, False])
def test_images_are_those_that_memory_would_hold_and_are_decoded_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, colour: bool
) -> None:
    items = images(600, colour=colour)
    for broken in (0, 255, 256, 599):
        items[broken] = (items[broken][0], b"x")
    plain, first = decode(items), read(items, unreadable="leave_out")
    assert isinstance(first.images, Stored)
    monkeypatch.setattr(module, "decode_into", None)
    renamed = [(f"{number}.png", source) for number, (_, source) in enumerate(items)]
    again = read(renamed, unreadable="leave_out")
    for found in (first, again):
        assert (found.kept.tolist(), found.notes) == (plain.kept.tolist(), plain.notes)
        assert found.images.shape == plain.images.shape == (596, 3 if colour else 1, 6, 5)
        assert pixels_fingerprint(found.images) == pixels_fingerprint(plain.images)
    assert again.names[7] == "7.png"
    assert len(files(folder)) == 1


def test_each_rendering_and_each_content_has_a_file_of_its_own(folder: Path) -> None:
    one = images(4)
    for items in (one, one[::-1], [*one[:3], ("image 3", one[0][1])]):
        read(items)
    read(one, image_size=4)
    read(one, background="red")
    assert len(files(folder)) == 5
    assert read(one, image_size=4).images[0].equal(decode(one, Rendering(4)).images[0])


def test_processes_decode_what_threads_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    items = images(300)
    (tmp_path / "a.png").write_bytes(items[0][1])
    mixed: list[Any] = [*items, ("a file", tmp_path / "a.png")]
    assert pixels_fingerprint(read(mixed).images) == pixels_fingerprint(decode(mixed).images)


def test_images_that_take_little_memory_stay_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = images(4)
    assert not isinstance(decode_all(items, DataConfig(), Findings()).images, Stored)
    assert not isinstance(decode_all(items, DataConfig(cache="off"), Findings()).images, Stored)
    monkeypatch.setattr("trainers.data.encoded.total_memory", lambda: 8 * 4 * 3 * 6 * 5 - 1)
    assert isinstance(decode_all(items, DataConfig(), Findings()).images, Stored)
    monkeypatch.setattr("trainers.data.encoded.total_memory", lambda: 8 * 4 * 3 * 6 * 5)
    assert not isinstance(decode_all(items, DataConfig(), Findings()).images, Stored)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:60], "it is too short"),
        (lambda content: content[:-1], "its end is not that of such a file"),
        (lambda content: content[10:], "its length is not what its description says"),
        (lambda content: content.replace(b'"shape"', b'"shapf"'), "its description is damaged"),
    ],
)
def test_a_damaged_file_is_made_again_and_said(folder: Path, damage: Any, said: str) -> None:
    items, findings = images(20), Findings()
    read(items)
    (file,) = files(folder)
    content = file.read_bytes()
    file.write_bytes(damage(content))
    assert pixels_fingerprint(read(items, findings).images) == pixels_fingerprint(decode(items).images)
    assert findings.warnings == [f"The file of decoded images {file} was made again: {said}."]
    assert file.read_bytes() == content


def test_a_file_of_other_images_is_made_again(folder: Path) -> None:
    items, others, findings = images(20), images(20, seed=1), Findings()
    read(items)
    (file,) = files(folder)
    read(others)
    (other,) = set(files(folder)) - {file}
    other.replace(file)
    assert open_cached(CacheFile(file, file.stem)) is None
    assert read(items, findings).images[3].equal(decode(items).images[3])
    assert findings.warnings == [f"The file of decoded images {file} was made again: it holds other images."]


def test_a_disk_without_room_is_one_sentence_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ConfigError, match=r"The cache of images .* cannot be used: No space left on device; sweeper"):
        read(images(20))
    assert files(folder) == []


def test_more_than_the_limit_is_refused(folder: Path) -> None:
    CacheFolder(folder).set_limit(20 * 90 - 1)
    with pytest.raises(ConfigError, match=r"take 0 MiB, and the cache of images .* is limited to .* --limit GIB"):
        read(images(20))
    assert [path.name for path in files(folder)] == ["limit"]


def test_what_others_decoded_is_decoded_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(images(4))
    for change in ("PIL.__version__", "PIL.features.version"):
        monkeypatch.setattr(change, "0" if change == "PIL.__version__" else lambda name: "0")
        read(images(4))
    assert len(files(folder)) == 3


def test_no_clearing_takes_a_file_away_before_it_is_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cleared, sync, map_images = [], os.fsync, module.map_images

    def clear() -> None:
        found = CacheFolder(folder).clear()
        cleared.append((len(found[0]), len(found[1]), found[2]))

    def synced(handle: int) -> None:
        clear()
        sync(handle)

    def mapped(file: CacheFile) -> Any:
        if file.path.exists():
            clear()
        return map_images(file)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(module, "map_images", mapped)
    assert read(images(20)).images[3].equal(decode(images(20)).images[3])
    assert cleared == 3 * [(0, 1, {})], "before the file is renamed, after that, and before it is mapped"


def take(folder: str, seen: Any, told: Any) -> None:
    """Read images at the same time as another process."""
    os.environ["XDG_CACHE_HOME"] = folder
    decoded, decode_into, found = 0, module.decode_into, module._found

    def counted(*given: Any) -> Decoded:
        nonlocal decoded
        decoded += 1
        return decode_into(*given)

    def looked(file: CacheFile, names: list[str], findings: Findings | None = None) -> Decoded | None:
        there = found(file, names, findings)
        if findings is None:  # the first look, before another process is waited for
            assert there is None
            seen.wait()
        return there

    module._processes = lambda first: ThreadPoolExecutor(1)  # type: ignore[assignment]
    module.decode_into, module._found = counted, looked  # type: ignore[assignment]
    kept = read(images(20)).images
    assert isinstance(kept, Stored)
    assert kept.file is not None
    told.put((decoded, kept.file.path.name, pixels_fingerprint(kept)))


def test_two_processes_that_want_the_same_images_decode_them_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    seen, told = spawn.Barrier(2), spawn.Queue()
    both = [spawn.Process(target=take, args=(str(tmp_path), seen, told)) for _ in range(2)]
    for process in both:
        process.start()
    (first, *one), (second, *other) = (told.get(timeout=500) for _ in both)
    for process in both:
        process.join()
    assert sorted((first, second)) == [0, 1]
    assert one == other
    assert one[1] == pixels_fingerprint(decode(images(20)).images)
    (file,) = (path for path in tmp_path.rglob("*") if path.suffix == SUFFIX)
    assert file.name == one[0]


class Changing:
    """Images of which one is another from the second time on that they are gone through."""

    def __init__(self, items: list[tuple[str, bytes]], later: bytes):
        self._items, self._later, self._times = items, later, 0

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        self._times += 1
        changed = [*self._items[:-1], (self._items[-1][0], self._later)]
        yield from self._items if self._times == 1 else changed


@pytest.mark.parametrize("unreadable", ["refuse", "leave_out"])
def test_an_image_that_breaks_after_the_cache_was_begun_leaves_nothing(folder: Path, unreadable: str) -> None:
    said = {"refuse": r"Cannot read the image image 299: ", "leave_out": r"The images changed while they were read"}
    with pytest.raises(ConfigError, match=said[unreadable]):
        read(Changing(images(300), b"x"), unreadable=unreadable)
    assert files(folder) == []


def test_images_that_change_while_they_are_read_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="The images changed while they were read; run the command again"):
        read(Changing(images(20), images(1, seed=9)[0][1]))
    assert files(folder) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        ConfigError, match=r"The cache of images .* cannot be used: Not a directory; .*data\.cache: off"
    ):
        read(images(4))


def test_what_was_not_used_for_longest_goes_first_and_what_is_open_stays(folder: Path) -> None:
    kept = read(images(20, seed=0)).images
    for seed in (1, 2):
        read(images(20, seed=seed))
    assert isinstance(kept, Stored)
    assert kept.file is not None
    opened, cache = kept.file.path, CacheFolder(folder)
    others = [path for path in files(folder) if path != opened]
    for age, path in ((300, opened), (200, others[0]), (100, others[1])):
        os.utime(path, (1e9 - age, 1e9 - age))
    assert [kept.path for kept in cache.kept()] == [opened, *others]
    cache.set_limit(sum(kept.nbytes for kept in cache.kept()) - 1)
    assert [kept.path for kept in cache.kept()] == [opened, others[1]]
    leftovers = [folder / f"{LEFTOVER}killed{SUFFIX}", folder / f"{LEFTOVER}limit-1"]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    gone, stay, failed = cache.clear()
    assert {kept.path for kept in gone} == {*leftovers, others[1]}
    assert ([kept.path for kept in stay], failed) == ([opened], {})
    assert kept[0].equal(decode(images(20, seed=0)).images[0]), "it is still mapped"
    del kept
    cache.clear()
    assert [path.name for path in files(folder)] == ["limit"]


def test_a_file_that_is_being_made_is_no_damaged_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    decode_into = module.decode_into

    def watched(*given: Any) -> Decoded:
        (found,) = CacheFolder(folder).kept()
        shown.append(found.shown())
        return decode_into(*given)

    monkeypatch.setattr(module, "decode_into", watched)
    read(images(20))
    (folder / f"{LEFTOVER}killed{SUFFIX}").write_bytes(b"half")
    shown += [kept.shown() for kept in CacheFolder(folder).kept() if kept.path.name.startswith(LEFTOVER)]
    assert [text.partition(": ")[2] for text in shown] == ["being made", "left by a process that was ended"]


def test_what_cannot_be_removed_is_told_with_the_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(images(20))
    (file,) = files(folder)

    def refuse(self: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert CacheFolder(folder).clear() == ([], [], {file: "Read-only file system"})
        CacheFolder(folder).make_room(10**15)
    flock = fcntl.flock

    def over_nfs(opened: Any, operation: int) -> None:
        if operation & fcntl.LOCK_EX and fcntl.fcntl(opened, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(opened, operation)

    monkeypatch.setattr(fcntl, "flock", over_nfs)
    assert [kept.path for kept in CacheFolder(folder).clear()[0]] == [file]
