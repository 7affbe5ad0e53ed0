"""GTSRB, the German Traffic Sign Recognition Benchmark (Stallkamp et al., "Man vs. computer: Benchmarking machine
learning algorithms for traffic sign recognition", 2012), where and as torchvision stores it.
"""

import csv
from pathlib import Path

from trainers.data.config import DataConfig
from trainers.data.findings import Findings
from trainers.data.image_set import Splits
from trainers.data.listed import Listed, read_listed
from trainers.data.tree import Tree, readable
from trainers.errors import ConfigError

TRAIN, TEST, TRUTH = "GTSRB/Training", "GTSRB/Final_Test/Images", "GT-final_test.csv"
"""Where torchvision stores the images of the splits, and the labels of the test split, below ``gtsrb``."""


def load_gtsrb(root: str, config: DataConfig, findings: Findings) -> Splits:
    """Read the training and test images of 43 signs, whose names are the numbers of the classes.

    Args:
        root: the folder that holds, or after the download will hold, ``gtsrb``.
        config: how images are read, of any size in the files, and whether missing files are downloaded.
        findings: gets what is left out, and warnings.

    Raises:
        ConfigError: files are missing or damaged, the download fails, or an image cannot be read.
    """
    folder = Path(root) / "gtsrb"
    if config.download:
        _download(root, folder)
    train_folder, test_folder, truth = folder / TRAIN, folder / TEST, folder / TRUTH
    for needed in (train_folder, test_folder, truth):
        if not needed.exists():
            raise ConfigError(
                f"There is no {needed}; set data.root to the folder above gtsrb, or data.download: true to download "
                "GTSRB."
            )
    with readable(str(folder)):
        tree = Tree(folder, findings)
        classes = {place.name: tree.listed(place)[1] for place in tree.listed(train_folder)[0]}
        tested = _tested(truth, len(classes))
    pairs = ((file, number) for number, files in enumerate(classes.values()) for file in files)
    train = Listed.of(train_folder, (pair for pair in pairs if pair[0].suffix == ".ppm"))
    test = Listed.of(test_folder, ((test_folder / name, label) for name, label in tested.items()))
    class_names = tuple(name.lstrip("0") or "0" for name in classes)
    train_set, test_set = read_listed(train, test, class_names, folder, config, findings)
    assert test_set is not None, "a test split was given"
    return Splits(train_set, test_set)


def _download(root: str, folder: Path) -> None:
    """Fetch what is missing, checked by torchvision against the digests of the published archives.

    Raises:
        ConfigError: it cannot be fetched.
    """
    from torchvision.datasets import GTSRB  # imports its models and torch's compiler: seconds for every command

    try:
        for split in ("train", "test"):
            GTSRB(root, split, download=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"Cannot download GTSRB to {folder}: {str(error).rstrip('.')}.") from error


def _tested(truth: Path, classes: int) -> dict[str, int]:
    """The names of the test images and their labels.

    Raises:
        ConfigError: the file holds something else.
        OSError: it cannot be read.
    """
    with truth.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.DictReader(file, delimiter=";", skipinitialspace=True)
        found = {str(row.get("Filename")): str(row.get("ClassId")) for row in rows}
    for name, label in found.items():
        if Path(name).name != name or not label.isdecimal() or int(label) >= classes:
            raise ConfigError(
                f"{truth} must name a file and a class from 0 to {classes - 1} in each row, but has Filename {name!r} "
                f"and ClassId {label!r}."
            )
    return {name: int(label) for name, label in found.items()}
