"""The settings that say which images a sweep works on."""

from dataclasses import dataclass

from trainers.params import Parameters, param


@dataclass(frozen=True)
class DataConfig(Parameters):
    """Which images a sweep works on."""

    source: str = param("shapes", doc="shapes, cifar10, parquet:PATH or folder:PATH")
    train_size: int | None = param(None, ge=2, doc="images in the training split; null: all there are")
    test_size: int | None = param(None, ge=2, doc="images in the test split; null: all there are")
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
    seed: int = param(0, ge=0, doc="of the subsets, of a test split cut from the rest, and of the images of shapes")
    root: str = param("~/.cache/robustness-sweeper", doc="the folder that holds cifar-10-batches-py, for cifar10")
    download: bool = param(False, doc="fetch cifar10 into root if it is not there")
