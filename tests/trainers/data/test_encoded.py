import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainers.data.test_pixels import GREY_ALPHA, RGB, png, sixteen
from trainers.data.config import DataConfig
from trainers.data.encoded import UNREADABLE, decode_all
from trainers.data.findings import Findings
from trainers.errors import ConfigError


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed: int, width: int = 8, height: int = 8) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def found(*images: bytes, **config: Any) -> Findings:
    """What is found in a data set of these images, called 0, 1, ..."""
    findings = Findings()
    decode_all([(str(number), image) for number, image in enumerate(images)], DataConfig(**config), findings)
    return findings


def test_ordinary_images_are_nothing_to_speak_of() -> None:
    assert found(*(encoded(noise(seed), kind) for seed, kind in enumerate(("PNG", "JPEG", "WEBP")))) == Findings()


def test_few_images_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        found(encoded(noise(0)), b"x", b"")
    assert str(caught.value) == (
        "Cannot read the image 1: it is in no known image format. 1 more of 3 cannot be read: 2. data.unreadable: "
        "leave_out (of train: --unreadable leave_out) goes on without them."
    )


def test_many_images_that_cannot_be_read_are_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    images = [encoded(noise(number)) for number in range(240)]
    for number in range(0, 34, 2):
        images[number] = b"x" if number else b""
    with pytest.raises(
        ConfigError, match=r"16 more of 240 cannot be read: 2, 4, 6, 8, \.\.\.\. All are listed in "
    ) as caught:
        found(*images)
    (file,) = tmp_path.iterdir()
    assert str(file) in str(caught.value)
    rows = list(csv.reader(file.read_text().splitlines()))
    assert rows[:2] == [["place", "reason"], ["0", "it is empty"]]
    assert [row[0] for row in rows[1:]] == [str(number) for number in range(0, 34, 2)]


def test_what_cannot_be_read_may_be_left_out_and_is_counted() -> None:
    findings = Findings()
    items: list[tuple[str, bytes | Path]] = [("/a/b", encoded(noise(0))), ("/a/c", b""), ("/a/d", encoded(noise(1)))]
    decoded = decode_all(items, DataConfig(unreadable="leave_out"), findings, Path("/a"))
    assert decoded.kept.tolist() == [0, 2]
    assert findings.lines() == [f"Left out, {UNREADABLE}: c."]


def test_something_must_be_readable() -> None:
    with pytest.raises(ConfigError, match=r"Cannot read the image 0: .* 1 more of 2 cannot be read: 1\.$"):
        found(b"x", b"y", unreadable="leave_out")


def test_transparent_images_are_counted_with_the_background() -> None:
    clear = noise(0).convert("RGBA")
    clear.putalpha(100)
    findings = found(encoded(noise(1)), encoded(clear), background="navy")
    assert findings.warnings == ["1 of 2 images have transparent parts, behind which data.background (navy) shows."]
    assert findings.table() is None


def test_constant_images_are_counted_and_a_background_may_be_why() -> None:
    white_on_white = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    white_on_white.paste((255, 255, 255, 255), (2, 2, 6, 6))
    findings = found(encoded(noise(0)), encoded(Image.new("RGB", (8, 8), (9, 200, 7))))
    assert findings.warnings == ["1 of 2 images show one colour all over."]
    findings = found(encoded(noise(0)), encoded(white_on_white))
    assert findings.warnings[1] == "1 of 2 images show one colour all over; another data.background may show more."
    assert found(encoded(white_on_white), encoded(noise(0)), background="black").warnings[1:] == []


def test_twelve_of_sixteen_bits_are_told_of_with_a_remedy() -> None:
    images = [
        encoded(Image.fromarray(np.random.default_rng(seed).integers(0, 4096, (64, 64), dtype=np.uint16)))
        for seed in range(3)
    ]
    (warning,) = found(*images).warnings
    assert warning == (
        "3 images of 16 bits have values from 0 to 4095 of 65535, so that they are nearly black; data.max_value: 4095 "
        "makes 4095 white."
    )
    assert found(*images, max_value=4095) == Findings()
    (warning,) = found(*images, max_value=1000).warnings
    assert warning.startswith("3 of 3 images have values above data.max_value (1000), which become white as it does")


def test_the_range_is_that_of_the_whole_set() -> None:
    dark = encoded(Image.fromarray(np.arange(0, 6400, 100, dtype=np.uint16).reshape(8, 8)))
    bright = encoded(Image.fromarray(np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)))
    assert found(dark, bright) == Findings()


def test_eight_bits_may_be_used_in_part_too() -> None:
    (warning,) = found(encoded(Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)))).warnings
    assert warning.startswith("The largest value of all images is 15 of 255, so that they are nearly black")
    assert warning.endswith("data.max_value: 15 makes it white.")


def test_images_that_are_squeezed_are_counted() -> None:
    """From twice as wide as high on."""
    images = [
        encoded(noise(seed, width, height)) for seed, (width, height) in enumerate(((16, 8), (8, 16), (15, 8), (8, 8)))
    ]
    (warning,) = found(*images, image_size=8).warnings
    assert warning == (
        "2 of 4 images are at least twice as wide as high, or as high as wide; data.image_size makes them square."
    )


def test_films_are_counted() -> None:
    film = encoded(noise(0), "GIF", save_all=True, append_images=[noise(1)])
    assert found(film, encoded(noise(2))).warnings == [
        "1 of 2 images have several frames or pages; the first of each is read."
    ]


def of_16_bits(largest: int, hot: bool = False) -> bytes:
    """A grey image with values from 0 to ``largest``, and a hot pixel or none."""
    values = np.linspace(0, largest, 64).round().astype(np.uint16).reshape(8, 8)
    if hot:
        values[0, 0] = 65535
    return encoded(Image.fromarray(values))


def test_one_hot_pixel_hides_no_twelve_bits() -> None:
    images = [of_16_bits(4095), of_16_bits(3000), of_16_bits(4000, hot=True)]
    assert found(*images).warnings == [
        "2 of 3 images of 16 bits have values from 0 to 4095 of 65535, so that they are nearly black; data.max_value: "
        "4095 makes 4095 white, and what is larger in the other 1 as well."
    ]
    assert found(*images[1:]) == Findings(), "half of them are not most"


def test_black_images_say_nothing_of_the_range() -> None:
    black = of_16_bits(0)
    (warning,) = found(of_16_bits(4095), black, black, of_16_bits(4095)).warnings[1:]
    assert warning.startswith("2 images of 16 bits have values from 0 to 4095")
    assert found(black, of_16_bits(65535)).warnings == ["1 of 2 images show one colour all over."]


def test_only_what_can_be_scaled_is_advised() -> None:
    """Grey of 16 bits with transparency cannot, and of colours whose upper bits are all 0 no value is known."""
    grey = png(GREY_ALPHA, 16, sixteen(0x0FFF, 0xFFFF, 0x0100, 0xFFFF), 2)
    colours = png(RGB, 16, sixteen(*[0x00FF] * 3, *[0x0001] * 3), 2)
    assert found(grey).warnings == []
    assert found(colours).warnings == ["1 of 1 images show one colour all over."]
    deep = png(RGB, 16, sixteen(*[0x0FFF] * 3, *[0x0001] * 3), 2)
    (warning,) = found(deep, grey, grey, colours).warnings[1:]
    assert warning.startswith("1 images of 16 bits have values from 0 to 4095 of 65535")
