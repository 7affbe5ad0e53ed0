import errno
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
    (folder / f"{LEFTOVER}killed{SUFFIX}").write_bytes(b"half")
    gone, stay = cache.clear()
    assert ([kept.path for kept in gone], [kept.path for kept in stay]) == ([others[1]], [opened])
    assert kept[0].equal(decode(images(20, seed=0)).images[0]), "it is still mapped"
    del kept
    cache.clear()
    assert [path.name for path in files(folder)] == ["limit"]
