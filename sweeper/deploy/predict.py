"""Classifies images with a trained model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from trainers.data.decode import decode
from trainers.data.findings import Findings
from trainers.data.tree import Tree, readable
from trainers.errors import ConfigError
from trainers.storage.saved_model import SavedModel


def image_paths(paths: Iterable[Path], findings: Findings) -> list[Path]:
    """The images to classify: ``paths`` themselves, and in place of a folder all images in it and below.

    Args:
        paths: of images and folders.
        findings: gets what is left out of folders.

    Raises:
        ConfigError: a folder holds no image or cannot be read, or a link leads out of it.
    """
    images = []
    for path in paths:
        if not path.is_dir():
            images.append(path)
            continue
        with readable(str(path)):
            inside = Tree(path, findings).images(path)
        if not inside:
            raise ConfigError(f"{path} holds no images.")
        images += inside
    return images


def classify(
    model: SavedModel, paths: Sequence[Path], resize: bool, unreadable: Callable[[str], object]
) -> Iterator[tuple[Path, str, float]]:
    """Class and probability of each image that can be read.

    Args:
        model: a trained classifier.
        paths: of images.
        resize: whether to resize images to what the model takes, also if those that it was trained on were not.
        unreadable: told a sentence about each of the others.

    Raises:
        ConfigError: an image does not fit the model.
    """
    channels, height, width = model.image_shape
    how = replace(model.rendering, image_size=height if resize else model.rendering.image_size)
    for path in paths:
        try:
            image = decode([(str(path), path)], how).all_images()
        except ConfigError as error:
            unreadable(str(error))
            continue
        assert isinstance(image, Tensor), "it is decoded into memory"
        if image.shape[1] == 1 and channels == 3:
            image = image.expand(-1, 3, -1, -1)
        if tuple(image.shape[1:]) != model.image_shape:
            given = f"{image.shape[3]} x {image.shape[2]} with {image.shape[1]} channels"
            hint = "; --resize resizes it" if image.shape[1] == channels and height == width else ""
            wanted = f"{width} x {height} with {channels} channels"
            raise ConfigError(f"The model takes images of {wanted}, but {path} is {given}{hint}.")
        value, label = model.probabilities(image).max(1)
        yield path, model.class_names[int(label)], float(value)
