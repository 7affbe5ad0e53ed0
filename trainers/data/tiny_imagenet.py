"""Tiny ImageNet (Stanford CS231N, 2015), as its archive ``tiny-imagenet-200.zip`` unpacks."""

from collections.abc import Container
from pathlib import Path

from trainers.data.config import DataConfig
from trainers.data.findings import Findings
from trainers.data.image_set import Splits
from trainers.data.listed import Listed, read_listed
from trainers.data.tree import Tree, readable
from trainers.errors import ConfigError

FOLDER = "tiny-imagenet-200"


def load_tiny_imagenet(root: str, config: DataConfig, findings: Findings) -> Splits:
    """Read the training images of 200 classes, named by their WordNet ids, and ``val`` as the test split.

    The archive's own test images have no labels, and are not read.

    Args:
        root: the folder that holds ``tiny-imagenet-200``.
        config: how images are read.
        findings: gets what is left out, and warnings.

    Raises:
        ConfigError: files are missing or damaged, a download is asked for, or an image cannot be read.
    """
    folder = Path(root) / FOLDER
    if config.download:
        raise ConfigError(f"data.download fetches cifar10 and gtsrb; unpack {FOLDER}.zip in {root} yourself.")
    train_folder, test_folder, truth = folder / "train", folder / "val/images", folder / "val/val_annotations.txt"
    with readable(str(folder)):
        for needed in (train_folder, test_folder, truth):
            if not needed.exists():
                raise ConfigError(
                    f"There is no {needed}; set data.root to the folder in which {FOLDER}.zip was unpacked. If val "
                    f"holds a folder for each class, data.source: folder:{folder} reads it."
                )
        tree = Tree(folder, findings)
        classes = {place.name: tree.listed(place / "images")[1] for place in tree.listed(train_folder)[0]}
        class_names = tuple(classes)
        there = {file.name: file for file in tree.listed(test_folder)[1]}
        tested = _tested(truth, there, {name: number for number, name in enumerate(class_names)})
    pairs = ((file, number) for number, files in enumerate(classes.values()) for file in files)
    train = Listed.of(train_folder, pairs)
    test = Listed.of(test_folder, ((there[name], label) for name, label in tested.items()))
    train_set, test_set = read_listed(train, test, class_names, folder, config, findings)
    assert test_set is not None, "a test split was given"
    return Splits(train_set, test_set)


def _tested(truth: Path, there: Container[str], numbers: dict[str, int]) -> dict[str, int]:
    """The names of the test images and their labels, from lines of name, class and a box, divided by tabs.

    Args:
        truth: the file.
        there: names of the files of test images.
        numbers: of the classes by name.

    Raises:
        ConfigError: the file holds something else.
        OSError: it cannot be read.
    """
    found = {}
    for line in truth.read_text(encoding="utf-8", errors="replace").splitlines():
        name, class_name, *_ = [*line.split("\t"), "", ""]
        if name not in there or class_name not in numbers:
            raise ConfigError(
                f"{truth} must name a file of images and a class of train in each line, but has {line!r}."
            )
        found[name] = numbers[class_name]
    return found
