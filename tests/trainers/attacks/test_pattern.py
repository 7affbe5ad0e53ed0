import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainers.attacks.pattern import absolute, load_pattern, whole_pattern
from trainers.errors import ConfigError


def test_paths_hold_in_every_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert absolute(None) is None
    assert absolute("a/b.png") == str(tmp_path / "a/b.png")
    assert absolute("~/b.png") == "/home/someone/b.png"
    assert absolute("/x/b.png") == "/x/b.png"


def test_a_home_folder_of_nobody_is_a_file_that_is_not_there() -> None:
    path = absolute("~nobody-of-this-name/a.png")
    assert path is not None
    for name in ("~nobody-of-this-name/a.png", path):
        with pytest.raises(ConfigError, match=rf"^The trigger image {re.escape(name)} cannot be read: No such file"):
            load_pattern(name, 3, 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_becomes_a_pattern_of_the_data(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    pattern = load_pattern(str(tmp_path / "grey.png"), channels, 4).pixels
    assert (pattern.dtype, pattern.shape) == (torch.uint8, (channels, 4, 4))
    assert all(np.array_equal(channel.numpy(), pixels) for channel in pattern)
    assert load_pattern(str(tmp_path / "grey.png"), channels, 9).pixels.shape == (channels, 9, 9)
    assert whole_pattern(str(tmp_path / "grey.png"), (channels, 4, 4), 0, "blend").pixels.equal(pattern)


def test_what_cannot_be_a_pattern(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "colour.png")
    colour = str(tmp_path / "colour.png")
    with pytest.raises(ConfigError, match=r"colour\.png has colour, but the data has one channel\.$"):
        load_pattern(colour, 1, 4)
    with pytest.raises(ConfigError, match=r"^A trigger image for blend needs square images, but these are 4x6\.$"):
        whole_pattern(colour, (3, 4, 6), 0, "blend")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ConfigError, match=r"text\.png"):
        load_pattern(str(tmp_path / "text.png"), 3, 4)


def test_random_pixels_come_from_the_seed() -> None:
    one, again, other = (whole_pattern(None, (3, 16, 12), seed, "blend").pixels for seed in (1, 1, 2))
    assert (one.dtype, one.shape) == (torch.uint8, (3, 16, 12))
    assert one.equal(again)
    assert not one.equal(other)
    assert len(one.unique()) > 200


def test_a_path_that_cannot_be_one() -> None:
    with pytest.raises(ConfigError, match="cannot be read: embedded null byte"):
        load_pattern("a\0b", 3, 4)


@pytest.mark.parametrize("grey", [False, True])
def test_transparent_parts_of_a_pattern_stay_so(tmp_path: Path, grey: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 2 if grey else 4), dtype=np.uint8)
    pixels[:4, :, -1] = 255
    pixels[4:, :4, -1] = 0
    Image.fromarray(pixels, "LA" if grey else "RGBA").save(tmp_path / "sticker.png")
    pattern = load_pattern(str(tmp_path / "sticker.png"), 3, 8)
    assert pattern.opacity is not None
    share = torch.from_numpy(pixels[None, :, :, -1]) / 255
    assert (pattern.opacity - share).abs().max() <= 1.5 / 255
    wanted = torch.from_numpy(pixels[..., :-1]).permute(2, 0, 1).expand(3, -1, -1)
    assert pattern.pixels[:, :4].equal(wanted[:, :4])
    # Colours are known as well as rounding lets them, which is better where more of them shows.
    assert ((pattern.pixels.float() - wanted.float()).abs() * share).max() <= 2


def test_a_pattern_that_is_not_there_is_refused(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (1, 2, 3, 0)).save(tmp_path / "clear.png")
    with pytest.raises(ConfigError, match=r"^The trigger image .*clear\.png is transparent all over\.$"):
        load_pattern(str(tmp_path / "clear.png"), 3, 4)


def test_an_opaque_pattern_is_known_for_one(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (1, 2, 3, 255)).save(tmp_path / "opaque.png")
    assert load_pattern(str(tmp_path / "opaque.png"), 3, 4).opacity is None
