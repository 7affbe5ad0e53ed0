import errno
import io
import os
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainers.data import decode as module
from trainers.data.decode import NoImage, decode
from trainers.data.pixels import Rendering, image_extensions, read_pixels
from trainers.data.progress import listening
from trainers.errors import ConfigError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def named(*images: bytes) -> list[tuple[str, bytes]]:
    return [(f"image {number}", data) for number, data in enumerate(images)]


def random_pixels(height: int, width: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_pixels_and_order_are_kept_over_many_blocks_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    pixels = [random_pixels(60, 70, seed) for seed in range(600)]  # 12 kB each, enough for threads
    images = decode(named(*(encoded(Image.fromarray(p)) for p in pixels))).all_images()
    assert images.dtype == torch.uint8
    assert images.equal(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))


def test_progress_is_of_images_that_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of those that wait for a thread."""
    fill, blocks, free, told = module._fill, 8, threading.Semaphore(0), []
    images = named(*[encoded(Image.new("RGB", (4, 4), RED))] * (256 * blocks))
    monkeypatch.setattr(module, "_WAITING", 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)

    class Items(list[tuple[str, bytes]]):
        """Of which some blocks are handed out before a thread may begin."""

        def __iter__(self) -> Iterator[tuple[str, bytes]]:
            for number, item in enumerate(super().__iter__()):
                if number == 256 * 4:
                    free.release(blocks)
                yield item

    def waits(*given: Any) -> module.Notes:
        free.acquire()
        notes = fill(*given)
        finished.append(given[0] + len(given[1]))
        return notes

    def hear(done: int, total: int) -> None:
        assert total == 256 * blocks
        assert done <= finished[-1]
        told.append(done)

    finished: list[int] = []
    monkeypatch.setattr(module, "_fill", waits)
    with listening(hear):
        decode(Items(images))
    assert told == [256 * (block + 1) for block in range(blocks)]
    free.release()
    decode(images[:1])
    assert len(told) == blocks, "nobody listens any more"


def test_files_are_read_like_bytes(tmp_path: Path) -> None:
    image = Image.fromarray(random_pixels(6, 6, 0))
    image.save(tmp_path / "a.webp", lossless=True)
    assert decode([("a", tmp_path / "a.webp")]).all_images().equal(decode(named(encoded(image))).all_images())


def test_one_channel_only_if_every_image_has_one() -> None:
    grey, black_and_white = Image.new("L", (4, 4), 200), Image.new("1", (4, 4), 1)
    sixteen_bits = Image.fromarray(np.full((4, 4), 0x80FF, dtype=np.uint16))
    single = decode(named(encoded(grey), encoded(black_and_white), encoded(sixteen_bits))).all_images()
    assert single.shape == (3, 1, 4, 4)
    assert single[:, 0, 0, 0].tolist() == [200, 255, 0x80]
    # The last of many blocks decides as well as the first.
    mixed = decode(named(*[encoded(grey)] * 600, encoded(Image.new("RGB", (4, 4), RED)))).all_images()
    assert mixed.shape == (601, 3, 4, 4)
    assert mixed[0, :, 0, 0].tolist() == [200, 200, 200]
    assert mixed[-1, :, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("at", [0, 3, 255, 256, 599])
def test_one_coloured_image_makes_all_of_them_rgb_and_loses_none(at: int) -> None:
    images = [encoded(Image.new("L", (4, 4), number % 200 + 1)) for number in range(600)]
    images[at] = encoded(Image.new("RGB", (4, 4), RED))
    found = decode(named(*images)).all_images()
    assert found.shape == (600, 3, 4, 4)
    assert found[at, :, 0, 0].tolist() == [255, 0, 0]
    grey = [number % 200 + 1 for number in range(600)]
    for channel in range(3):
        values = found[:, channel, 3, 3].tolist()
        assert values[:at] + values[at + 1 :] == grey[:at] + grey[at + 1 :]


def test_exif_orientation_is_respected() -> None:
    image = Image.new("RGB", (8, 4), RED)
    image.paste(BLUE, (0, 0, 8, 2))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned = decode(named(encoded(image, "PNG", exif=exif))).all_images()
    assert turned.shape == (1, 3, 8, 4)
    assert turned[0, :, 0, 3].tolist() == list(BLUE)
    assert turned[0, :, 0, 0].tolist() == list(RED)


def test_resizing_averages_instead_of_picking_pixels() -> None:
    checkers = np.zeros((32, 16), dtype=np.uint8)
    checkers[::2, ::2] = checkers[1::2, 1::2] = 255
    images = decode(
        named(encoded(Image.fromarray(checkers)), encoded(Image.new("L", (4, 4), 7))), Rendering(4)
    ).all_images()
    assert images.shape == (2, 1, 4, 4)
    assert ((images[0] > 100) & (images[0] < 155)).all()
    assert (images[1] == 7).all()


def test_an_image_that_is_wide_or_high_enough_is_resized_too() -> None:
    shapes = [(4, 8), (8, 4), (4, 4), (3, 5)]
    assert decode(named(*(encoded(Image.new("L", shape, 9)) for shape in shapes)), Rendering(4)).all_images().shape == (
        4,
        1,
        4,
        4,
    )


@pytest.mark.parametrize(("size", "threads"), [(100, 1), (8191, 1), (8192, 3), (50_000, 3)])
def test_threads_are_for_images_that_are_worth_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, threads: int
) -> None:
    """As bytes, or as a file of so many bytes; what a file holds after its image does not matter."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    pools: list[int] = []
    monkeypatch.setattr(module, "ThreadPoolExecutor", lambda count: pools.append(count) or ThreadPoolExecutor(count))
    content = encoded(Image.new("L", (4, 4), 5)).ljust(size, b"\0")
    (tmp_path / "a.png").write_bytes(content)
    for source in (content, tmp_path / "a.png"):
        assert decode([("a", source)]).all_images().unique().tolist() == [5]
    assert pools == [threads] * 2


def test_sizes_that_differ_are_named() -> None:
    items = named(encoded(Image.new("L", (4, 4))), encoded(Image.new("L", (4, 4))), encoded(Image.new("L", (6, 5))))
    with pytest.raises(ConfigError, match=r"image 0 is 4 x 4 and image 2 is 6 x 5; data\.image_size"):
        decode(items).all_images()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_images_are_named(kind: str) -> None:
    whole = encoded(Image.fromarray(random_pixels(64, 64, 0)), kind)
    with pytest.raises(ConfigError, match="Cannot read the image image 1: "):
        decode(named(whole, whole[: len(whole) // 2])).all_images()


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read the image image 0: it is in no known image format"):
        decode(named(b"hello"), Rendering(8)).all_images()
    with pytest.raises(ConfigError, match=r"Cannot read the image gone: .*No such file"):
        decode([("gone", tmp_path / "gone.png")], Rendering(8)).all_images()
    with pytest.raises(ConfigError, match="no image"):
        decode([]).all_images()


def test_postscript_is_never_handed_to_ghostscript() -> None:
    with pytest.raises(ConfigError, match="no known image format"):
        decode(named(encoded(Image.new("RGB", (8, 8)), "EPS"))).all_images()
    assert ".eps" not in image_extensions()
    assert ".iim" not in image_extensions()
    assert {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif"} <= image_extensions()


def test_postscript_within_another_format_is_not_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An IPTC file of compression 5 holds an image of any format, which Pillow opens whatever it is."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def field(record: int, number: int, content: bytes) -> bytes:
        return bytes([0x1C, record, number]) + struct.pack(">H", len(content)) + content

    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    head = [(60, b"\x01\x00"), (20, b"\x08"), (30, b"\x08"), (120, b"\x05")]
    holding = b"".join(field(3, number, content) for number, content in head) + field(8, 10, page) + bytes(5)
    with pytest.raises(ConfigError, match="no known image format"):
        decode(named(holding), Rendering(8)).all_images()
    with pytest.raises(OSError, match="Unable to locate Ghostscript"):
        Image.open(io.BytesIO(page)).load()
    assert not (tmp_path / "started").exists()


def test_all_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    good = encoded(Image.new("RGB", (8, 8)))
    with pytest.raises(ConfigError) as caught:
        decode(named(b"x", good, b"y", good, b"z")).all_images()
    wanted = (
        "Cannot read the image image 0: it is in no known image format. 2 more of 5 cannot be read: image 2, image 4."
    )
    assert str(caught.value) == wanted
    with pytest.raises(
        ConfigError, match=r"9 more of 10 cannot be read: image 1, image 2, image 3, image 4, \.\.\.\.$"
    ):
        decode(named(*[b"x"] * 10)).all_images()
    with pytest.raises(ConfigError, match=r"image 1: .* known image format\. 1 more of 3 cannot be read: image 2\.$"):
        decode(named(good, b"y", b"z")).all_images()
    with pytest.raises(ConfigError, match="but image 1 is 8 x 8 and image 2 is 4 x 4"):
        decode(named(b"x", good, encoded(Image.new("RGB", (4, 4))))).all_images()


def test_the_first_that_cannot_be_read_is_named_whichever_thread_was_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second block is done long before the first one."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def slow(source: Any, how: Rendering) -> Any:
        if source == b"early":
            time.sleep(0.5)
        return read_pixels(source, how)

    monkeypatch.setattr(module, "read_pixels", slow)
    large = encoded(Image.new("L", (4, 4))).ljust(9000, b"\0")
    items = [large] * 300
    items[5], items[260] = b"early", b"late"
    with pytest.raises(ConfigError, match=r"the image image 5: .* 1 more of 300 cannot be read: image 260\.$"):
        decode(named(*items)).all_images()


def test_what_is_broken_is_known_and_the_rest_keeps_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several blocks and threads, the first and the last of all among the broken ones."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    items = [encoded(Image.new("L", (4, 4), number % 251)).ljust(9000, b"\0") for number in range(600)]
    wrong = {0, 1, 255, 256, 300, 599}
    for index in wrong:
        items[index] = b""
    decoded = decode(named(*items))
    assert set(decoded.broken) == wrong
    assert set(decoded.broken.values()) == {"it is empty"}
    kept = [number for number in range(600) if number not in wrong]
    assert decoded.kept.tolist() == kept
    assert decoded.images[:, 0, 3, 3].tolist() == [number % 251 for number in kept]


def test_where_nothing_can_be_read_there_is_no_image() -> None:
    decoded = decode(named(b"x", b""))
    assert (len(decoded.images), len(decoded.kept), len(decoded.broken)) == (0, 0, 2)


def test_a_file_that_goes_away_is_named(tmp_path: Path) -> None:
    """It was listed a moment ago."""
    (tmp_path / "a.png").write_bytes(encoded(Image.new("L", (4, 4))))
    items: list[tuple[str, bytes | Path]] = [("gone", tmp_path / "gone.png"), ("a", tmp_path / "a.png")]
    decoded = decode(items)
    assert (decoded.broken, decoded.kept.tolist()) == ({0: "No such file or directory"}, [1])


def test_damaged_metadata_is_nothing_to_speak_of(recwarn: pytest.WarningsRecorder) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12garbage"
    assert len(decode(named(encoded(Image.new("RGB", (4, 4)), "JPEG", exif=exif))).all_images()) == 1
    assert len(recwarn) == 0


# Pillow warns above its limit and raises above twice the limit.
@pytest.mark.parametrize("limit", [200, 100])
def test_decompression_bombs_are_refused(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    small, large = encoded(Image.new("L", (8, 8))), encoded(Image.new("L", (16, 16)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ConfigError, match=r"image 1: .*decompression bomb"):
        decode(named(small, large), Rendering(8)).all_images()


def test_more_than_memory_holds_is_refused() -> None:
    items = [("vast", encoded(Image.new("L", (4000, 4000))))] * 10_000_000  # 480 TB, above any address space
    with pytest.raises(ConfigError, match=r"10000000 images of 4000 x 4000 do not fit into memory; data\.image_size"):
        decode(items).all_images()


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (MemoryError(), "there is not enough memory"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
@pytest.mark.parametrize("at", [0, 300])
def test_what_this_machine_cannot_do_is_no_broken_image(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, said: str, at: int
) -> None:
    def fails(source: Any, how: Rendering) -> Any:
        if source == b"this one":
            raise failure
        return read_pixels(source, how)

    monkeypatch.setattr(module, "read_pixels", fails)
    items = [encoded(Image.new("L", (4, 4)))] * 301
    items[at] = b"this one"
    with pytest.raises(ConfigError) as caught:
        decode(named(*items))
    assert str(caught.value) == (
        f"Cannot read the image image {at}: {said}. It is this machine that fails, so the image is not left out."
    )


def test_errors_of_the_system_that_an_image_causes_are_its_own(tmp_path: Path) -> None:
    """A broken file may name a place beyond any that a file can have."""
    far = tmp_path / "far.tif"
    far.write_bytes(b"II+\0\x08\0\0\0" + struct.pack("<Q", 1 << 62) + bytes(64))
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop.png").symlink_to("loop.png")
    places = [far, tmp_path, tmp_path / "file" / "x.png", tmp_path / "loop.png"]
    decoded = decode([(str(place), place) for place in places])
    codes = (errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
    assert decoded.broken == {number: os.strerror(code) for number, code in enumerate(codes)}


def test_an_image_that_is_not_there_is_broken_with_a_reason_of_its_own() -> None:
    good = encoded(Image.new("L", (4, 4), 7))
    decoded = decode([("a", NoImage("its row is empty")), ("b", good), ("c", NoImage("it is lost"))])
    assert (decoded.broken, decoded.kept.tolist()) == ({0: "its row is empty", 2: "it is lost"}, [1])
    assert decoded.images[:, 0, 0, 0].tolist() == [7]
