"""What a defense keeps on the device, as far as it can be said before anything is built."""

from dataclasses import dataclass

from trainers.data.image_set import ImageSet
from trainers.models import ModelConfig


@dataclass(frozen=True)
class DataSize:
    """The data of a training, by number and shape.

    Args:
        images: training images.
        shape: channels, height and width of an image.
        classes: classes.
        tested: images of a half of the test set, which the monitor looks at.
        unlabelled: unlabelled images that the defense gets.
    """

    images: int
    shape: tuple[int, int, int]
    classes: int
    tested: int = 0
    unlabelled: int = 0

    @classmethod
    def of(cls, data: ImageSet, tested: int = 0, unlabelled: int = 0) -> "DataSize":
        """The size of a training set, with that of what else is looked at."""
        channels, height, width = data.images.shape[1:]
        return cls(len(data), (channels, height, width), data.num_classes, tested, unlabelled)

    @property
    def pixels(self) -> int:
        """Pixel values of an image; also its bytes as uint8."""
        channels, height, width = self.shape
        return channels * height * width


@dataclass(frozen=True)
class Trained:
    """A network that a defense trains.

    Args:
        model: the network.
        moments: numbers that the optimiser keeps for each weight that it trains: 1 for SGD with momentum, 2 for Adam.
        certain_pass: images that go forward and backward at once in any case.
        largest_pass: images that do so at most.
        largest_step: images of a step at most, in all of its passes.
        frozen: parts whose weights are not trained, as ``frozen_parts`` of the parameters names them.
        averaged: whether an average of the weights is kept beside them.
    """

    model: ModelConfig
    moments: int
    certain_pass: int
    largest_pass: int
    largest_step: int
    frozen: str = "none"
    averaged: bool = False


@dataclass(frozen=True)
class Footprint:
    """What a defense keeps on the device.

    Args:
        networks: the networks that it trains; all of them stay there.
        copies: how many times the training images lie there at most, in bytes of uint8.
    """

    networks: tuple[Trained, ...]
    copies: int = 1
