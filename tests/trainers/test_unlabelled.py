"""Images without labels, and what is wrong with them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from trainers.data import DataConfig, ImageSet, Splits
from trainers.defenses.base import Unlabelled
from trainers.errors import ConfigError
from trainers.unlabelled import HeldOut, check_unlabelled, unlabelled_images, with_elsewhere

Noise = Callable[..., ImageSet]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Six images of 8x8."""
    for number in range(6):
        path = tmp_path / "images" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 200)).save(path)
    return f"folder:{tmp_path / 'images'}"


def test_each_source(noise: Noise, folder: str) -> None:
    clean = noise(5).images
    held_out = HeldOut(clean, 255 - clean)
    splits = with_elsewhere(Splits(noise(8), noise(4), noise(5)), [folder, "clean"], DataConfig())
    assert set(splits.elsewhere) == {folder}
    assert unlabelled_images("clean", splits, held_out).equal(clean)
    assert unlabelled_images("poisoned", splits, held_out).equal(255 - clean)
    assert unlabelled_images(folder, splits, None)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    check_unlabelled(Unlabelled(folder, 6), splits)
    check_unlabelled(Unlabelled("clean", 5), splits)


def test_images_from_elsewhere_have_a_part_in_the_fingerprint(noise: Noise, folder: str) -> None:
    splits = Splits(noise(8), noise(4))
    before = with_elsewhere(splits, [folder], DataConfig()).fingerprint
    assert before.startswith(splits.fingerprint)
    Image.new("RGB", (8, 8), (99, 0, 200)).save(f"{folder.removeprefix('folder:')}/3.png")
    assert with_elsewhere(splits, [folder], DataConfig()).fingerprint not in (before, splits.fingerprint)


def test_images_from_elsewhere_are_resized_as_the_data_is(noise: Noise, folder: str) -> None:
    splits = with_elsewhere(Splits(noise(8, size=16), noise(4, size=16)), [folder], DataConfig(image_size=16))
    check_unlabelled(Unlabelled(folder, None), splits)
    assert unlabelled_images(folder, splits, None).shape == (6, 3, 16, 16)


@pytest.mark.parametrize("source", ["clean", "poisoned"])
def test_nothing_was_held_out(noise: Noise, source: str) -> None:
    with pytest.raises(ConfigError, match=f"unlabelled: {source} needs held-out images, but there are none"):
        check_unlabelled(Unlabelled(source, None), Splits(noise(8), noise(4)))


@pytest.mark.parametrize(
    ("size", "channels", "hint"), [(16, 3, "; data.image_size resizes both."), (8, 1, "8x8 with 1 channel.")]
)
def test_images_of_another_size(noise: Noise, folder: str, size: int, channels: int, hint: str) -> None:
    splits = Splits(noise(8, size=size, channels=channels), noise(4, size=size, channels=channels))
    with pytest.raises(ConfigError) as caught:
        check_unlabelled(Unlabelled(folder, None), with_elsewhere(splits, [folder], DataConfig()))
    text = str(caught.value)
    assert f"are 8x8 with 3 channels, but training images are {size}x{size} with {channels} channel" in text
    assert text.endswith(hint)


@pytest.mark.parametrize("source", ["dirty", "cifar10", ""])
def test_an_unknown_source(noise: Noise, source: str) -> None:
    with pytest.raises(ConfigError, match=f"must be clean, poisoned, parquet:PATH or folder:PATH, but got '{source}'"):
        with_elsewhere(Splits(noise(8), noise(4)), [source], DataConfig())


def test_more_than_there_are(noise: Noise) -> None:
    with pytest.raises(ConfigError, match="unlabelled_count must be at most 5, as many as there are, but got 6"):
        check_unlabelled(Unlabelled("clean", 6), Splits(noise(8), noise(4), noise(5)))


def test_what_is_odd_about_images_from_elsewhere_is_said_with_their_source(noise: Noise, tmp_path: Path) -> None:
    test = noise(4)
    for number, image in enumerate([test.images[2], noise(1, seed=9).images[0]]):
        Image.fromarray(image.permute(1, 2, 0).squeeze().numpy()).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "2.png").touch()
    source = f"folder:{tmp_path}"
    splits = Splits(noise(8, seed=1), test)
    with pytest.raises(ConfigError, match=r"2\.png: it is empty"):
        with_elsewhere(splits, [source], DataConfig())
    made = with_elsewhere(splits, [source], DataConfig(unreadable="leave_out"))
    assert len(made.elsewhere[source]) == 2
    assert made.findings.lines() == [
        f"Left out, the name does not end as that of an image (in {source}): notes.txt.",
        f"Left out, the image cannot be read (in {source}): 2.png.",
        f"Warning: 1 of 2 images of {source} are test images too.",
    ]
