"""GTSRB, the German Traffic Sign Recognition Benchmark (Stallkamp et al., "Man vs. computer: Benchmarking machine
learning algorithms for traffic sign recognition", 2012), where and as torchvision stores it.
"""

import csv
import tempfile
from collections.abc import Container
from pathlib import Path

from trainers.data.config import DataConfig
from trainers.data.findings import Findings
from trainers.data.image_set import Splits
from trainers.data.listed import Listed, read_listed
from trainers.data.tree import Tree, readable
from trainers.errors import ConfigError
from trainers.storage.files import LEFTOVER

TRAIN, TEST, TRUTH = "GTSRB/Training", "GTSRB/Final_Test/Images", "GT-final_test.csv"
"""Where torchvision stores the images of the splits, and the labels of the test split, below ``gtsrb``."""


def load_gtsrb(root: str, config: DataConfig, findings: Findings) -> Splits:
    """Read the training and test images of 43 signs, whose names are the numbers of the classes.

    Args:
        root: the folder that holds, or after the download will hold, ``gtsrb``.
        config: how images are read, of any size in the files, and whether GTSRB is downloaded if it is not there.
        findings: gets what is left out, and warnings.

    Raises:
        ConfigError: files are missing or damaged, the download fails, or an image cannot be read.
    """
    folder = Path(root) / "gtsrb"
    train_folder, test_folder, truth = folder / TRAIN, folder / TEST, folder / TRUTH
    with readable(str(folder)):
        if config.download and not folder.exists():
            _download(folder)
        _check_complete(folder)
        tree = Tree(folder, findings)
        places = _by_number(tree.listed(train_folder)[0])
        classes = {number: tree.listed(place)[1] for number, place in places.items()}
        class_names = tuple(classes)
        there = {file.name: file for file in tree.listed(test_folder)[1]}
        tested = _tested(truth, there, class_names)
    pairs = ((file, label) for label, files in enumerate(classes.values()) for file in files)
    train = Listed.of(train_folder, (pair for pair in pairs if pair[0].suffix == ".ppm"))
    test = Listed.of(test_folder, ((there[name], label) for name, label in tested.items()))
    train_set, test_set = read_listed(train, test, class_names, folder, config, findings)
    assert test_set is not None, "a test split was given"
    return Splits(train_set, test_set)


def _download(folder: Path) -> None:
    """Fetch GTSRB, checked by torchvision against the digests of the published archives, whole or not at all.

    Raises:
        ConfigError: it cannot be fetched.
    """
    from torchvision.datasets import GTSRB  # imports its models and torch's compiler: seconds for every command

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # torchvision unpacks where it downloads to, and takes what is half unpacked for whole.
        with tempfile.TemporaryDirectory(prefix=f"{LEFTOVER}gtsrb-", dir=folder.parent) as beside:
            for split in ("train", "test"):
                GTSRB(beside, split, download=True)
            Path(beside, folder.name).rename(folder)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"Cannot download GTSRB to {folder}: {str(error).rstrip('.')}.") from error


def _check_complete(folder: Path) -> None:
    """See that all parts are there.

    Raises:
        ConfigError: one is not.
        OSError: it cannot be seen.
    """
    if not folder.exists():
        raise ConfigError(
            f"There is no {folder}; set data.root to the folder above gtsrb, or data.download: true to download GTSRB."
        )
    for needed in (TRAIN, TEST, TRUTH):
        if not (folder / needed).exists():
            raise ConfigError(
                f"{folder} is incomplete: there is no {needed} in it. Add it, or remove the whole folder, after which "
                "data.download: true downloads GTSRB anew."
            )


def _by_number(places: list[Path]) -> dict[str, Path]:
    """The folders of classes by their numbers, as text without zeros in front, in the order of the numbers.

    Raises:
        ConfigError: a name is no number, or two are the same.
    """
    for place in places:
        if not place.name.isdecimal():
            raise ConfigError(f"{place} must be named by the number of its class, as 00000 is.")
    found: dict[str, Path] = {}
    for place in sorted(places, key=lambda place: int(place.name)):
        number = _number(place.name)
        if number in found:
            raise ConfigError(f"{found[number]} and {place} are of the same class; put the images into one of the two.")
        found[number] = place
    return found


def _number(text: str) -> str:
    return text.lstrip("0") or "0"


def _tested(truth: Path, there: Container[str], class_names: tuple[str, ...]) -> dict[str, int]:
    """The names of the test images and their labels.

    Args:
        truth: the table of them.
        there: names of the files of test images.
        class_names: the numbers of the classes.

    Raises:
        ConfigError: the file holds something else.
        OSError: it cannot be read.
    """
    labels = {number: label for label, number in enumerate(class_names)}
    tested = {}
    try:
        with truth.open(encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(file, delimiter=";", skipinitialspace=True):
                name, number = str(row.get("Filename")), str(row.get("ClassId"))
                if name not in there or _number(number) not in labels:
                    raise ConfigError(
                        f"{truth} must name a file of {TEST} and a class of {TRAIN} in each row, but has Filename "
                        f"{name!r} and ClassId {number!r}."
                    )
                tested[name] = labels[_number(number)]
    except csv.Error as error:
        raise ConfigError(f"{truth} is damaged: {error}.") from error
    return tested
