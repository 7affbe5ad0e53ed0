"""Image sets in folders, one folder per class."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from trainers.data.class_order import in_class_order
from trainers.data.config import DataConfig
from trainers.data.decode import image_extensions
from trainers.data.encoded import decode_all
from trainers.data.findings import Findings
from trainers.data.hold_out import hold_out
from trainers.data.image_set import ImageSet, Splits
from trainers.errors import ConfigError

NO_IMAGE = "the name does not end as that of an image"
"""Why a file is left out."""
_LAYOUT = "folder:PATH takes CLASS/* or train/CLASS/* and test/CLASS/*"


def load_folder(path: str, config: DataConfig, findings: Findings) -> Splits:
    """Read both splits; without a test folder a stratified 20% of the images, drawn by ``config.seed``, becomes one.

    The rest is as in :func:`read_folder`.
    """
    train, test = read_folder(path, config, findings)
    return hold_out(train, config.seed) if test is None else Splits(train, test)


def read_folder(path: str, config: DataConfig, findings: Findings) -> tuple[ImageSet, ImageSet | None]:
    """Read ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*`` (or ``train/CLASS/*`` alone): then there is no test
    split.

    Classes are the names of the training folders, in the order of
    :func:`trainers.data.class_order.in_class_order`. Hidden files and folders, folders inside a class and, where
    there are ``train`` and ``test``, folders beside them are ignored. So are files whose extension is that of no image
    format, which are found.

    A link that leads out of ``path`` is refused: the folder may come from somebody else, and would otherwise decide
    which files of this machine are read.

    Args:
        path: the folder.
        config: how images are read.
        findings: gets what is left out.

    Raises:
        ConfigError: no such folder, no class in it, a class without images, a class to test on that the training split
            does not have, a link that leaves the folder, or an image that cannot be read.
    """
    root = Path(path)
    if not root.is_dir():
        raise ConfigError(f"{path} is no folder; {_LAYOUT}.")
    names = {folder.name for folder in _folders(root, root)}
    has_test = {"train", "test"} <= names
    train = _classes(root / "train" if has_test or names == {"train"} else root, root, findings)
    test = _classes(root / "test", root, findings) if has_test else {}
    for name in test:
        if name not in train:
            raise ConfigError(f"{root / 'test' / name} is a class that {root / 'train'} does not have.")
    class_names = tuple(train)
    train_files, train_labels = _listed(train, class_names)
    test_files, test_labels = _listed(test, class_names)
    files = train_files + test_files
    decoded = decode_all([(str(file), file) for file in files], config, findings)
    images, labels = decoded.images, torch.cat([train_labels, test_labels])[decoded.kept]
    places = [str(files[index].relative_to(root)) for index in decoded.kept.tolist()]
    count = int((decoded.kept < len(train_files)).sum())
    train_set = ImageSet(images[:count], labels[:count], class_names, tuple(places[:count]))
    if not has_test:
        return train_set, None
    return train_set, ImageSet(images[count:], labels[count:], class_names, tuple(places[count:]))


def read_unlabelled_folder(path: str, config: DataConfig, findings: Findings) -> Tensor:
    """All images below a folder, however deep, or below its ``train`` where there are ``train`` and ``test``.

    Hidden files and folders, and links to folders, are ignored. So are files whose extension is that of no image
    format, which are found.

    Args:
        path: the folder.
        config: how images are read.
        findings: gets what is left out.

    Returns:
        uint8 (M, C, H, W), in the order of the sorted paths.

    Raises:
        ConfigError: no such folder, no image in it, a link that leaves it, or an image that cannot be read.
    """
    root = Path(path)
    if not root.is_dir():
        raise ConfigError(f"{path} is no folder; folder:PATH takes one that holds images.")
    split = root / "train" if {"train", "test"} <= {folder.name for folder in _folders(root, root)} else root
    files = _images(list(_below(split, root)), root, findings)
    if not files:
        raise ConfigError(f"{split} holds no image.")
    return decode_all([(str(file), file) for file in files], config, findings).images


def _below(folder: Path, root: Path) -> Iterator[Path]:
    for entry in _visible(folder, root):
        if entry.is_dir():
            if not entry.is_symlink():  # it may lead in a circle
                yield from _below(entry, root)
        elif entry.is_file():
            yield entry


def _classes(folder: Path, root: Path, findings: Findings) -> dict[str, list[Path]]:
    """The image files of each class in ``folder``, everything sorted."""
    by_folder = {place: [file for file in _visible(place, root) if file.is_file()] for place in _folders(folder, root)}
    if not by_folder:
        raise ConfigError(f"{folder} holds no class folder; {_LAYOUT}.")
    images = set(_images([file for files in by_folder.values() for file in files], root, findings))
    classes = {}
    for name in in_class_order(place.name for place in by_folder):
        place = folder / name
        files = by_folder[place]
        classes[place.name] = [file for file in files if file in images]
        if not classes[place.name]:
            raise ConfigError(f"The class folder {place} holds no image; {_LAYOUT}.")
    return classes


def _images(files: list[Path], root: Path, findings: Findings) -> list[Path]:
    """Those with the extension of an image; the others are left out."""
    known = image_extensions()
    for file in files:
        if file.suffix.lower() not in known:
            findings.leave_out(str(file.relative_to(root)), NO_IMAGE)
    return [file for file in files if file.suffix.lower() in known]


def _folders(folder: Path, root: Path) -> list[Path]:
    return [place for place in _visible(folder, root) if place.is_dir()]


def _visible(folder: Path, root: Path) -> list[Path]:
    """What lies in ``folder``, sorted by name, hidden entries left out and links that leave ``root`` refused."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    for entry in entries:
        if entry.is_symlink() and not entry.resolve().is_relative_to(root.resolve()):
            raise ConfigError(f"{entry} is a link that leads out of {root}; put the files themselves there.")
    return entries


def _listed(classes: dict[str, list[Path]], class_names: tuple[str, ...]) -> tuple[list[Path], Tensor]:
    """All files, class by class, and their labels: int64 (N,)."""
    files = [file for of_class in classes.values() for file in of_class]
    labels = [class_names.index(name) for name, of_class in classes.items() for _ in of_class]
    return files, torch.tensor(labels, dtype=torch.int64)
