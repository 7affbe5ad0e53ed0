"""Classifies images with a trained model."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from trainers.data.decode import decode
from trainers.errors import ConfigError
from trainers.saved_model import SavedModel

AT_ONCE = 500


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
    for start in range(0, len(paths), AT_ONCE):
        some = paths[start : start + AT_ONCE]
        images = decode([(str(path), path) for path in some], height if resize else None)
        if images.shape[1] == 1 and channels == 3:
            images = images.expand(-1, 3, -1, -1)
        if tuple(images.shape[1:]) != model.image_shape:
            found = f"{images.shape[3]} x {images.shape[2]} with {images.shape[1]} channels"
            hint = "; --resize resizes them" if images.shape[1] == channels and height == width else ""
            wanted = f"{width} x {height} with {channels} channels"
            raise ConfigError(f"The model takes images of {wanted}, but {some[0]} is {found}{hint}.")
        values, labels = model.probabilities(images).max(1)
        for path, label, value in zip(some, labels.tolist(), values.tolist(), strict=True):
            yield path, model.class_names[label], value
