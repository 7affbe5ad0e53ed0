"""Images without labels, and what is wrong with them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from trainers.data import ImageSet, Splits
from trainers.defenses.base import Unlabelled
from trainers.errors import ConfigError
from trainers.unlabelled import HeldOut, check_unlabelled, unlabelled_images

Noise = Callable[..., ImageSet]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Six images of 8x8 in two classes."""
    for number in range(6):
        path = tmp_path / "images" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 200)).save(path)
    return f"folder:{tmp_path / 'images'}"


def test_each_source(noise: Noise, folder: str) -> None:
    clean = noise(5).images
    held_out = HeldOut(clean, 255 - clean)
    assert unlabelled_images("clean", held_out).equal(clean)
    assert unlabelled_images("poisoned", held_out).equal(255 - clean)
    assert unlabelled_images(folder, None).shape == (6, 3, 8, 8)
    check_unlabelled(Unlabelled(folder, 6), Splits(noise(8), noise(4)))
    check_unlabelled(Unlabelled("clean", 5), Splits(noise(8), noise(4), noise(5)))


@pytest.mark.parametrize("source", ["clean", "poisoned"])
def test_nothing_was_held_out(noise: Noise, source: str) -> None:
    with pytest.raises(ConfigError, match=f"unlabelled: {source} takes images that were held out, and there are none"):
        check_unlabelled(Unlabelled(source, None), Splits(noise(8), noise(4)))


@pytest.mark.parametrize(("size", "channels"), [(16, 3), (8, 1)])
def test_images_of_another_size(noise: Noise, folder: str, size: int, channels: int) -> None:
    splits = Splits(noise(8, size=size, channels=channels), noise(4, size=size, channels=channels))
    wanted = f"{size}x{size} with {channels} channel"
    with pytest.raises(
        ConfigError, match=rf"images of folder:.* are 8x8 with 3 channels, but those to train on {wanted}"
    ):
        check_unlabelled(Unlabelled(folder, None), splits)


@pytest.mark.parametrize("source", ["dirty", "cifar10", ""])
def test_an_unknown_source(noise: Noise, source: str) -> None:
    with pytest.raises(ConfigError, match=f"must be clean, poisoned, parquet:PATH or folder:PATH, but got '{source}'"):
        check_unlabelled(Unlabelled(source, None), Splits(noise(8), noise(4)))


def test_more_than_there_are(noise: Noise) -> None:
    with pytest.raises(ConfigError, match="unlabelled_count must be at most 5, as many as there are, but got 6"):
        check_unlabelled(Unlabelled("clean", 6), Splits(noise(8), noise(4), noise(5)))
    assert torch.is_tensor(unlabelled_images("clean", HeldOut(noise(5).images, noise(5).images)))
