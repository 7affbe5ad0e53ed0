"""Classifies images with a trained model."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from trainers.data.decode import decode
from trainers.errors import ConfigError
from trainers.storage.saved_model import SavedModel


def classify(model: SavedModel, paths: Sequence[Path], resize: bool) -> Iterator[tuple[Path, str, float]]:
    """Class and probability of each image.

    Args:
        model: a trained classifier.
        paths: of images.
        resize: whether to resize images to what the model takes.

    Raises:
        ConfigError: an image cannot be read, or does not fit the model.
    """
    channels, height, width = model.image_shape
    for path in paths:
        image = decode([(str(path), path)], height if resize else None)
        if image.shape[1] == 1 and channels == 3:
            image = image.expand(-1, 3, -1, -1)
        if tuple(image.shape[1:]) != model.image_shape:
            given = f"{image.shape[3]} x {image.shape[2]} with {image.shape[1]} channels"
            hint = "; --resize resizes it" if image.shape[1] == channels and height == width else ""
            wanted = f"{width} x {height} with {channels} channels"
            raise ConfigError(f"The model takes images of {wanted}, but {path} is {given}{hint}.")
        value, label = model.probabilities(image).max(1)
        yield path, model.class_names[int(label)], float(value)
