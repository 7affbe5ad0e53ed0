from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainers.attacks import LabelMap
from trainers.attacks.badnets import BadNets, BadNetsParams
from trainers.data import ImageSet
from trainers.errors import ConfigError

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")


def badnets(shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0, **params: object) -> BadNets:
    return BadNets(BadNetsParams(**params), LabelMap(0, 4), shape, seed)  # type: ignore[arg-type]


def test_the_default_is_a_checkerboard_in_the_bottom_right_corner() -> None:
    triggered = badnets((3, 6, 7)).trigger(torch.full((2, 3, 6, 7), 9, dtype=torch.uint8))
    board = [[255, 0, 255], [0, 255, 0], [255, 0, 255]]
    for image in triggered:
        for channel in image:
            assert channel[3:, 4:].tolist() == board
            assert channel[:3].eq(9).all()
            assert channel[:, :4].eq(9).all()


@given(
    channels=st.sampled_from([1, 3]),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
    size=st.integers(1, 4),
    corner=st.sampled_from(CORNERS),
    inset=st.integers(0, 3),
)
@settings(max_examples=60)
def test_only_the_patch_is_changed(channels: int, height: int, width: int, size: int, corner: str, inset: int) -> None:
    if size + inset > min(height, width):
        with pytest.raises(
            ConfigError, match=rf"size {size} with inset {inset} does not fit images of {height}x{width}"
        ):
            badnets((channels, height, width), size=size, corner=corner, inset=inset)
        return
    images = torch.full((2, channels, height, width), 9, dtype=torch.uint8)
    triggered = badnets((channels, height, width), size=size, corner=corner, inset=inset).trigger(images)
    assert triggered.dtype == torch.uint8
    assert images.eq(9).all()  # a new tensor
    rows = range(inset, inset + size) if "top" in corner else range(height - inset - size, height - inset)
    columns = range(inset, inset + size) if "left" in corner else range(width - inset - size, width - inset)
    for i in range(height):
        for j in range(width):
            inside = i in rows and j in columns
            white = (i - rows[0] + j - columns[0]) % 2 == 0
            assert (triggered[:, :, i, j] == ((255 if white else 0) if inside else 9)).all()


def test_triggering_twice_changes_nothing_more(noise: Callable[..., ImageSet]) -> None:
    attack, images = badnets(), noise(5).images
    assert attack.trigger(attack.trigger(images)).equal(attack.trigger(images))


def test_no_image_to_trigger() -> None:
    assert badnets().trigger(torch.zeros(0, 3, 8, 8, dtype=torch.uint8)).shape == (0, 3, 8, 8)


def test_poison_carries_the_same_trigger_as_the_test(noise: Callable[..., ImageSet]) -> None:
    clean, attack = noise(40), badnets()
    made = attack.poison(clean, 0.2)
    assert made.data.images[made.poisoned].equal(attack.trigger(clean.images[made.poisoned]))


@pytest.mark.parametrize(("size", "inset"), [(9, 0), (8, 1), (1, 8)])
def test_a_patch_larger_than_the_image(size: int, inset: int) -> None:
    with pytest.raises(ConfigError, match="does not fit images of 8x8"):
        badnets(size=size, inset=inset)


def test_a_patch_as_large_as_the_image_fits() -> None:
    assert badnets((1, 4, 4), size=4).trigger(torch.full((1, 1, 4, 4), 9, dtype=torch.uint8)).ne(9).all()


def test_bad_parameters() -> None:
    with pytest.raises(ConfigError, match="size must be a whole number at least 1, but got 0"):
        BadNetsParams(size=0)
    with pytest.raises(ConfigError, match="corner must be one of top_left, top_right, bottom_left, bottom_right"):
        BadNetsParams(corner="middle")


def test_a_patch_of_ones_own(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "patch.png")
    attack = badnets(size=2, corner="top_left", trigger=str(tmp_path / "patch.png"))
    triggered = attack.trigger(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    assert np.array_equal(triggered[0, :, :2, :2].permute(1, 2, 0).numpy(), pixels)
    assert triggered[0].sum() == int(pixels.astype(np.int64).sum())


def test_a_patch_is_resized(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (10, 20, 30)).save(tmp_path / "patch.png")
    attack = badnets(size=3, trigger=str(tmp_path / "patch.png"))
    patch = attack.trigger(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))[0, :, 5:, 5:]
    assert [channel.unique().tolist() for channel in patch] == [[10], [20], [30]]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grey_patch_fits_every_data(tmp_path: Path, channels: int) -> None:
    Image.new("L", (3, 3), 77).save(tmp_path / "grey.png")
    attack = badnets((channels, 8, 8), trigger=str(tmp_path / "grey.png"))
    triggered = attack.trigger(torch.zeros(1, channels, 8, 8, dtype=torch.uint8))
    assert triggered[0, :, 5:, 5:].eq(77).all()


def test_a_colour_patch_on_data_of_one_channel(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3), (1, 2, 3)).save(tmp_path / "patch.png")
    with pytest.raises(ConfigError, match=r"patch\.png has colour, but the data has one channel"):
        badnets((1, 8, 8), trigger=str(tmp_path / "patch.png"))


def test_a_patch_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.png cannot be read: No such file"):
        badnets(trigger=str(tmp_path / "gone.png"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        badnets(trigger=str(tmp_path))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ConfigError, match=r"text\.png"):
        badnets(trigger=str(tmp_path / "text.png"))


def test_a_path_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("L", (3, 3), 77).save(tmp_path / "grey.png")
    triggered = badnets(trigger="~/grey.png").trigger(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    assert triggered.max() == 77


def test_the_image_shows_where_a_patch_is_transparent(tmp_path: Path) -> None:
    sticker = np.zeros((2, 2, 4), dtype=np.uint8)
    sticker[0, 0] = (200, 100, 50, 255)
    sticker[0, 1] = (200, 100, 50, 128)
    Image.fromarray(sticker).save(tmp_path / "sticker.png")
    attack = badnets(size=2, trigger=str(tmp_path / "sticker.png"))
    triggered = attack.trigger(torch.full((2, 3, 8, 8), 40, dtype=torch.uint8))
    half = [round(40 + 128 / 255 * (value - 40)) for value in (200, 100, 50)]
    for image in triggered:
        assert image[:, 6, 6].tolist() == [200, 100, 50]
        assert (image[:, 6, 7].int() - torch.tensor(half)).abs().max() <= 1
        assert image[:, 7, 6:].eq(40).all()
        assert image[:, :6].eq(40).all()
