"""Image sets in folders, one folder per class."""

import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from trainers.data.decode import decode, image_extensions
from trainers.data.hold_out import hold_out
from trainers.data.image_set import ImageSet, Splits
from trainers.errors import ConfigError
from trainers.text import name_as_text, printable

log = logging.getLogger(__name__)

_LAYOUT = "folder:PATH takes CLASS/* or train/CLASS/* and test/CLASS/*"


def load_folder(path: str, image_size: int | None, seed: int) -> Splits:
    """Read both splits; without a test folder a stratified 20% of the images, drawn by ``seed``, becomes one.

    The rest is as in :func:`read_folder`.
    """
    train, test = read_folder(path, image_size)
    return hold_out(train, seed) if test is None else Splits(train, test)


def read_folder(path: str, image_size: int | None) -> tuple[ImageSet, ImageSet | None]:
    """Read ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*`` (or ``train/CLASS/*`` alone): then there is no test
    split.

    Classes are the sorted names of the training folders. Hidden files and folders, folders inside a class and, where
    there are ``train`` and ``test``, folders beside them are ignored. So are files whose extension is that of no image
    format, which are told of in a warning.

    A link that leads out of ``path`` is refused: the folder may come from somebody else, and would otherwise decide
    which files of this machine are read.

    Args:
        path: the folder.
        image_size: height and width in pixels to resize to; None: as they are.

    Raises:
        ConfigError: no such folder, no class in it, a class without images, a class to test on that the training split
            does not have, a link that leaves the folder, or an image that cannot be read.
    """
    root = Path(path)
    if not root.is_dir():
        raise ConfigError(f"{path} is no folder; {_LAYOUT}.")
    names = {folder.name for folder in _folders(root, root)}
    has_test = {"train", "test"} <= names
    train = _classes(root / "train" if has_test or names == {"train"} else root, root)
    test = _classes(root / "test", root) if has_test else {}
    for name in test:
        if name not in train:
            raise ConfigError(f"{root / 'test' / name} is a class that {root / 'train'} does not have.")
    class_names = tuple(train)
    train_files, train_labels = _listed(train, class_names)
    test_files, test_labels = _listed(test, class_names)
    images = decode([(str(file), file) for file in train_files + test_files], image_size)
    places = [str(file.relative_to(root)) for file in train_files + test_files]
    count = len(train_files)
    train_set = ImageSet(images[:count], train_labels, class_names, tuple(places[:count]))
    if not has_test:
        return train_set, None
    return train_set, ImageSet(images[count:], test_labels, class_names, tuple(places[count:]))


def read_unlabelled_folder(path: str, image_size: int | None) -> Tensor:
    """All images below a folder, however deep, or below its ``train`` where there are ``train`` and ``test``.

    Hidden files and folders, and links to folders, are ignored. So are files whose extension is that of no image
    format, which are told of in a warning.

    Args:
        path: the folder.
        image_size: height and width in pixels to resize to; None: as they are.

    Returns:
        uint8 (M, C, H, W), in the order of the sorted paths.

    Raises:
        ConfigError: no such folder, no image in it, a link that leaves it, or an image that cannot be read.
    """
    root = Path(path)
    if not root.is_dir():
        raise ConfigError(f"{path} is no folder; folder:PATH takes one that holds images.")
    split = root / "train" if {"train", "test"} <= {folder.name for folder in _folders(root, root)} else root
    files = _images(list(_below(split, root)), root)
    if not files:
        raise ConfigError(f"{split} holds no image.")
    return decode([(str(file), file) for file in files], image_size)


def _below(folder: Path, root: Path) -> Iterator[Path]:
    for entry in _visible(folder, root):
        if entry.is_dir():
            if not entry.is_symlink():  # it may lead in a circle
                yield from _below(entry, root)
        elif entry.is_file():
            yield entry


def _classes(folder: Path, root: Path) -> dict[str, list[Path]]:
    """The image files of each class in ``folder``, everything sorted."""
    by_folder = {place: [file for file in _visible(place, root) if file.is_file()] for place in _folders(folder, root)}
    if not by_folder:
        raise ConfigError(f"{folder} holds no class folder; {_LAYOUT}.")
    images = set(_images([file for files in by_folder.values() for file in files], folder))
    classes = {}
    for place, files in by_folder.items():
        name = name_as_text(place.name)
        classes[name] = [file for file in files if file in images]
        if not classes[name]:
            raise ConfigError(f"The class folder {place} holds no image; {_LAYOUT}.")
    return classes


def _images(files: list[Path], folder: Path) -> list[Path]:
    """Those with the extension of an image; the user is told of the others."""
    others = [file for file in files if file.suffix.lower() not in image_extensions()]
    if others:
        log.warning(
            "%d of %d files of %s are left out, since their names do not end as those of images do: %s%s",
            len(others), len(files), folder, printable(str(others[0].relative_to(folder))),
            " and so on" if len(others) > 1 else "",
        )  # fmt: skip
    return [file for file in files if file.suffix.lower() in image_extensions()]


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
