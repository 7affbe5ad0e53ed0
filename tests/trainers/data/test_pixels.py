"""What becomes of the pixels of a file: transparency, depth, orientation."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainers.data.pixels import Pixels, Rendering, colour, read_pixels
from trainers.errors import ConfigError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6
"""Kinds of pixels, as PNG numbers them."""


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(kind: int, depth: int, row: bytes, width: int, transparent: bytes = b"") -> bytes:
    """A PNG of one row, written by hand: Pillow writes few of the depths that it reads."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0))
    known = chunk(b"tRNS", transparent) if transparent else b""
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + head + known + pixels + chunk(b"IEND", b"")


def sixteen(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def read(content: bytes, **how: Any) -> Pixels:
    return read_pixels(content, Rendering(**how))


def over(colours: Sequence[int], alpha: int, background: Sequence[int]) -> list[int]:
    """Porter and Duff's "over" on an opaque background."""
    share = alpha / 255
    return [round(share * c + (1 - share) * b) for c, b in zip(colours, background, strict=True)]


@pytest.mark.parametrize("background", ["white", "black", "#204080"])
@pytest.mark.parametrize("alpha", [0, 10, 128, 254])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_parts_show_the_background(background: str, alpha: int, kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = Image.new("RGBA", (4, 4), (*GREEN, alpha))
    pixels = read(encoded(image, kind, **options), background=background)
    assert pixels.transparent
    assert pixels.values.shape == (4, 4, 3)
    assert np.abs(pixels.values[2, 2].astype(int) - over(GREEN, alpha, colour(background))).max() <= 1


@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(0, 255), st.tuples(*[st.integers(0, 255)] * 3), st.booleans())
def test_any_colour_over_any_background(
    shown: tuple[int, int, int], alpha: int, behind: tuple[int, int, int], grey: bool
) -> None:
    image = Image.new("LA", (1, 1), (shown[0], alpha)) if grey else Image.new("RGBA", (1, 1), (*shown, alpha))
    pixels = read(encoded(image), background="#{:02x}{:02x}{:02x}".format(*behind))
    wanted = over([shown[0]] * 3 if grey else shown, alpha, behind)
    assert np.abs(np.broadcast_to(pixels.values[0, 0], 3).astype(int) - wanted).max() <= 1
    assert pixels.transparent == (alpha < 255)


def test_what_lies_below_transparent_pixels_is_never_seen() -> None:
    """Emoji hide streaks of colour there."""
    streaks = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    streaks[..., 3] = 0
    assert (read(encoded(Image.fromarray(streaks))).values == 255).all()


def test_shapes_drawn_in_alpha_alone_are_seen() -> None:
    drawn = np.zeros((8, 8, 4), dtype=np.uint8)
    drawn[2:6, 2:6, 3] = 255
    values = read(encoded(Image.fromarray(drawn))).values
    assert (values[2:6, 2:6] == 0).all()
    assert values.mean() > 128
    assert (read(encoded(Image.fromarray(drawn)), background="black").values == 0).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "PA", "1", "CMYK"])
def test_opaque_images_are_as_they_are(mode: str) -> None:
    shade = 255 if mode == "1" else 204  # of the palette that Pillow takes
    source = Image.new("RGB", (4, 4), (shade,) * 3).convert({"LA": "L", "PA": "P"}.get(mode, mode))
    pixels = read(encoded(source.convert(mode), "TIFF" if mode in ("CMYK", "PA") else "PNG"), background="red")
    assert not pixels.transparent
    assert np.abs(pixels.values.astype(int) - shade).max() <= 1
    assert pixels.values.ndim == (2 if mode in ("L", "LA", "1") else 3)


@pytest.mark.filterwarnings("error")
def test_colours_of_a_palette_may_be_transparent() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([*BLUE, *RED])
    palette.putpixel((1, 0), 1)
    for transparency, wanted in ((b"\x00\xff", [255, 255, 255]), (b"\x80\xff", [127, 127, 255]), (0, [255, 255, 255])):
        values = read(encoded(palette, transparency=transparency)).values
        assert values[0].tolist() == [wanted, list(RED)]
    assert read(encoded(palette, "GIF", transparency=0)).values[0].tolist() == [[255, 255, 255], list(RED)]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (png(GREY, 8, bytes([9, 50]), 2, sixteen(9)), [100, 50]),
        (png(GREY, 1, bytes([0b01000000]), 2, sixteen(0)), [100, 255]),
        (png(GREY, 1, bytes([0b01000000]), 2, sixteen(1)), [0, 100]),
        (png(GREY, 2, bytes([0b01100000]), 2, sixteen(1)), [100, 170]),
        (png(GREY, 4, bytes([0x5C]), 2, sixteen(5)), [100, 204]),
        (png(GREY, 16, sixteen(0x0102, 0x0103), 2, sixteen(0x0102)), [100, 1]),
        (png(RGB, 8, bytes([1, 2, 3, 50, 50, 50]), 2, sixteen(1, 2, 3)), [100, 50]),
        (png(RGB, 16, sixteen(0x0A00, 0, 0, 0x3200, 0x3200, 0x3200), 2, sixteen(0x0A00, 0, 0)), [100, 50]),
        (png(GREY_ALPHA, 16, sixteen(7, 0, 0x3200, 0xFFFF), 2), [100, 50]),
        (png(RGB_ALPHA, 16, sixteen(7, 7, 7, 0, *[0x3200] * 3, 0xFFFF), 2), [100, 50]),
    ],
    ids=["L", "1 black", "1 white", "2 bits", "4 bits", "16 bits", "RGB", "RGB 16", "LA 16", "RGBA 16"],
)
def test_one_value_may_be_transparent_at_any_depth(content: bytes, wanted: list[int]) -> None:
    pixels = read(content, background="#646464")
    assert pixels.transparent
    assert pixels.values[0].reshape(2, -1)[:, 0].tolist() == wanted


def test_grey_stays_grey_on_a_grey_background_alone() -> None:
    content = encoded(Image.new("LA", (4, 4), (90, 0)))
    assert read(content, background="#808080").values.tolist() == [[128] * 4] * 4
    assert read(content, background="red").values[0, 0].tolist() == list(RED)


def test_transparency_turns_with_the_image() -> None:
    image = Image.new("RGBA", (2, 1), (*BLUE, 255))
    image.putpixel((1, 0), (*BLUE, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    pixels = read(encoded(image, exif=exif))
    assert pixels.size == (1, 2)
    assert pixels.values[:, 0].tolist() == [list(BLUE), [255, 255, 255]]


@pytest.mark.parametrize("name", ["white", "#ff0000", "#f00", "Navy", "rgb(1, 2, 3)"])
def test_colours_that_are_known(name: str) -> None:
    assert len(colour(name)) == 3


@pytest.mark.parametrize("name", ["no-colour", "", "ff0000", "#ff000080", "#12"])
def test_colours_that_are_none(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"background must be the name of a colour, e\.g\. white, or '#rrggbb', but got"
    ):
        colour(name)


def test_of_sixteen_bits_the_upper_eight_are_kept_unless_a_maximum_is_stated() -> None:
    grey = encoded(Image.fromarray(np.array([[0, 15, 2048, 4095]], dtype=np.uint16)))
    pixels = read(grey)
    assert (pixels.values.tolist(), pixels.deep) == ([[0, 0, 8, 15]], (0, 4095))
    assert read(grey, max_value=4095).values.tolist() == [[0, 1, 128, 255]]
    assert read(grey, max_value=2048).values.tolist() == [[0, 2, 255, 255]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("alpha", [False, True])
def test_colour_of_sixteen_bits_is_scaled_from_all_of_them(kind: str, alpha: bool) -> None:
    """Pillow itself reads the upper 8 alone."""
    values = [0x0123, 0x0456, 0x0FFF, 0x0001, 0x0800, 0x0000]
    if kind == "PNG":
        row = sixteen(*values[:3], 0xFFFF, *values[3:], 0xFFFF) if alpha else sixteen(*values)
        content = png(RGB_ALPHA if alpha else RGB, 16, row, 2)
    else:
        content = tiff(values, alpha)
    wanted = [round(value * 255 / 4095) for value in values]
    assert read(content, max_value=4095).values.reshape(-1).tolist() == wanted
    plain = read(content)
    assert plain.values.reshape(-1).tolist() == [value >> 8 for value in values]
    assert plain.deep == (0, 0x0FFF)


def tiff(values: list[int], alpha: bool) -> bytes:
    """A TIFF of two pixels of 16 bits, the small end first."""
    samples = 4 if alpha else 3
    pixels = [*values[:3], 0xFFFF, *values[3:], 0xFFFF] if alpha else values
    data = struct.pack(f"<{len(pixels)}H", *pixels)
    bits = struct.pack(f"<{samples}H", *[16] * samples)
    entries = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, samples, 8), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 8 + len(bits)), (277, 3, 1, samples), (278, 3, 1, 1), (279, 4, 1, len(data))]
    entries += [(338, 3, 1, 2)] if alpha else []
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(bits) + len(data)) + bits + data + table


def test_grey_of_sixteen_bits_with_transparency_cannot_be_scaled() -> None:
    with pytest.raises(ValueError, match="store them as RGBA"):
        read(png(GREY_ALPHA, 16, sixteen(7, 0), 1), max_value=4095)


def test_eight_bits_are_scaled_by_a_maximum_of_theirs_alone() -> None:
    """Digits may be stored as 0 to 16."""
    grey, colours = encoded(Image.new("L", (2, 2), 8)), encoded(Image.new("RGBA", (2, 2), (16, 8, 0, 255)))
    assert read(grey, max_value=16).values[0, 0] == 128
    assert read(colours, max_value=16).values[0, 0].tolist() == [255, 128, 0]
    assert read(colours, max_value=8).deep == (0, 16)
    assert read(grey, max_value=4095).values[0, 0] == 8
    assert read(encoded(Image.new("1", (2, 2), 1)), max_value=16).values[0, 0] == 255


def test_the_background_is_not_scaled() -> None:
    clear = encoded(Image.new("RGBA", (2, 2), (8, 8, 8, 0)))
    assert read(clear, max_value=16, background="#404040").values[0, 0].tolist() == [64, 64, 64]


def test_values_without_a_known_range_are_refused_unless_a_maximum_is_stated() -> None:
    for values in (np.full((4, 4), 0.5, np.float32), *(np.full((4, 4), v, np.int32) for v in (1 << 16, 70_000))):
        content = encoded(Image.fromarray(values), "TIFF")
        with pytest.raises(ValueError, match=r"^its values .*data\.max_value"):
            read(content)
        assert read(content, max_value=2 * float(values[0, 0])).values[0, 0] == 128


@pytest.mark.parametrize("values", [np.full((4, 4), -1, np.int32), np.full((4, 4), np.nan, np.float32)])
def test_values_that_are_no_brightness_are_refused(values: Any) -> None:
    with pytest.raises(ValueError, match=r"its values lie in .*, but must lie in 0\.\.10 \(data\.max_value\)"):
        read(encoded(Image.fromarray(values), "TIFF"), max_value=10)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_or_pages_the_first_is_read(kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = read(encoded(first, kind, save_all=True, append_images=[second], **options))
    assert pixels.frames
    assert pixels.values[0, 0].tolist() == list(RED)
    assert not read(encoded(first, kind, **options)).frames


def test_a_second_frame_that_is_broken_does_not_matter() -> None:
    whole = encoded(
        Image.new("RGB", (64, 64), RED), "GIF", save_all=True, append_images=[Image.effect_noise((64, 64), 9)]
    )
    pixels = read(whole[: len(whole) - 900])
    assert pixels.values[5, 5].tolist() == list(RED)


def test_unusual_colour_spaces_are_converted() -> None:
    red = Image.new("RGB", (8, 8), RED)
    assert np.abs(read(encoded(red.convert("CMYK"), "JPEG")).values[3, 3].astype(int) - RED).max() <= 3
    assert read(encoded(red.convert("P"))).values[3, 3].tolist() == list(RED)
