"""The settings that say which images a sweep works on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.data.pixels import BILINEAR, INTERPOLATIONS, WHITE, Rendering, colour
from trainers.errors import ConfigError
from trainers.params import Parameters, param

SOURCES = "shapes, cifar10, gtsrb, tiny_imagenet, parquet:PATH or folder:PATH"
"""What ``data.source`` takes."""
RENDERED = ("image_size", "background", "max_value", "interpolation")
"""Keys that say how pixels are made of what a file holds."""
REFUSE, LEAVE_OUT = "refuse", "leave_out"
AUTO, ON, OFF = "auto", "on", "off"
LEAVE_OUT_KEY = "data.unreadable: leave_out (of train: --unreadable leave_out)"
"""How a message writes the setting that goes on without what cannot be used."""


@dataclass(frozen=True)
class DataConfig(Parameters):
    """Which images a sweep works on."""

    source: str = param("shapes", doc=SOURCES)
    train_size: int | None = param(None, ge=2, doc="images in the training split; null: all there are")
    test_size: int | None = param(None, ge=2, doc="images in the test split; null: all there are")
    imbalance: float | None = param(
        None,
        ge=1,
        doc="cut the training split to a long tail: images of the first class for each one of the last, falling "
        "exponentially in between; train_size counts images before this cut; null: no cut",
    )
    held_out_size: int | None = param(
        None, ge=1, doc="images set aside from the training split, which a defense may have without labels; null: none"
    )
    image_column: str | None = param(
        None, doc="column of the images in parquet:PATH; null: img or image, or the only one that holds images"
    )
    label_column: str | None = param(
        None, doc="column of the labels in parquet:PATH; null: label, or the only one that is a ClassLabel or named so"
    )
    image_size: int | None = param(None, ge=4, doc="resize to this height and width; null: as they are")
    interpolation: str | None = param(
        None, choices=(*INTERPOLATIONS, None), doc="how they are resized; null: as those of the weights, or bilinear"
    )
    background: str = param(WHITE, doc="colour behind transparent parts: a name, e.g. white, or '#rrggbb' in quotes")
    max_value: float | None = param(
        None, gt=0, doc="pixel value that becomes 255, e.g. 4095 for 12 bits in files of 16; null: 255 or 65535"
    )
    unreadable: str = param(
        REFUSE,
        choices=(REFUSE, LEAVE_OUT),
        doc="what to do where an image cannot be read or a row has no label; left out, they are counted",
    )
    cache: str = param(
        AUTO,
        choices=(AUTO, ON, OFF),
        doc="decode images once, into a file that all trainings of a host share (sweeper cache); auto: where they take "
        "more than an eighth of the memory; shapes and cifar10 are always in memory",
    )
    seed: int = param(0, ge=0, doc="of the subsets, of a test split cut from the rest, and of the images of shapes")
    root: str = param(
        "~/.cache/robustness-sweeper",
        doc="the folder that holds cifar-10-batches-py, gtsrb or tiny-imagenet-200, for the source of that name",
    )
    download: bool = param(False, doc="fetch cifar10 or gtsrb into root if it is not there")

    def __post_init__(self) -> None:
        """Make paths absolute, since workers run in other folders; ``~`` stays, the home folder of each host."""
        super().__post_init__()
        kind, colon, path = self.source.partition(":")
        if kind in ("folder", "parquet") and path:
            object.__setattr__(self, "source", f"{kind}{colon}{_absolute(path)}")
        object.__setattr__(self, "root", _absolute(self.root))

    @classmethod
    def check(cls, name: str, value: Any) -> Any:
        """As in the base class; a background must be a colour too. YAML reads ``on`` and ``off`` as true and false."""
        if name == "cache" and isinstance(value, bool):
            value = ON if value else OFF
        if name == "background" and value is None:
            raise ConfigError("background must be text, but got None; in YAML a colour such as '#ff0000' needs quotes.")
        value = super().check(name, value)
        if name == "background":
            colour(value)
        return value

    @property
    def rendering(self) -> Rendering:
        """How pixels are made of what a file holds."""
        return Rendering(self.image_size, self.background, self.max_value, self.interpolation or BILINEAR)


def _absolute(path: str) -> str:
    return path if path.startswith("~") else str(Path(path).absolute())
