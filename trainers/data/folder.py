"""Image sets in folders, one folder per class."""

from collections.abc import Collection
from pathlib import Path

from trainers.data.class_order import in_class_order
from trainers.data.config import DataConfig
from trainers.data.encoded import decode_all
from trainers.data.findings import Findings
from trainers.data.hold_out import hold_out, warn_of_hold_out
from trainers.data.image_set import ImageSet, Splits
from trainers.data.listed import Listed, read_listed
from trainers.data.pixels import image_extensions
from trainers.data.split_names import UNUSED, Split, measured_on, split_named, splits_in
from trainers.data.stored import Images
from trainers.data.tree import Tree, folders_in, holds_images, open_root, readable
from trainers.errors import ConfigError
from trainers.text import name_as_text

BESIDE = "beside the folders of the classes"
BESIDE_SPLITS = "beside the folders of the splits"
EMPTY = "a class folder of the test split without an image"
UNLABELLED = "of a split without class folders"
"""Why something is left out."""
_LAYOUT = "folder:PATH takes CLASS/* or train/CLASS/* and test/CLASS/* (or val)"


def load_folder(path: str, config: DataConfig, findings: Findings) -> Splits:
    """Read both splits; without a test folder a stratified 20% of the images, drawn by ``config.seed``, becomes one.

    The rest is as in :func:`read_folder`.
    """
    train, test = read_folder(path, config, findings)
    if test is not None:
        return Splits(train, test)
    if any(place.what == UNLABELLED for place in findings.left_out):
        warn_of_hold_out(findings, "no test split has class folders")
    return hold_out(train, config.seed)


def read_folder(path: str, config: DataConfig, findings: Findings) -> tuple[ImageSet, ImageSet | None]:
    """Read ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*`` (or ``train/CLASS/*`` alone): then there is no test
    split.

    Where there is no ``test``, a ``val`` (``valid``, ``validation``) is the test split; where there are both, it is
    left out. Names of splits may be in capitals. Classes are the names of the training folders, in the order of
    :func:`trainers.data.class_order.in_class_order`. Folders inside a class are read as a part of it, however deep.
    What is left out goes to ``findings``.

    A link that leads out of ``path`` is refused: the folder may come from somebody else, and would otherwise decide
    which files of this machine are read.

    Args:
        path: the folder.
        config: how images are read.
        findings: gets what is left out, and warnings.

    Raises:
        ConfigError: no such folder, no class in it, a class without training images, a split without an image, a class
            to test on that the training split does not have, two folders of one name, a link that leaves the folder,
            what looks like a split where classes are expected, or a folder or image that cannot be read.
    """
    root = open_root(path, _LAYOUT)
    with readable(path):
        tree = Tree(root, findings)
        train_folder, test_folder = _layout(root, tree)
        train = _classes(train_folder, tree)
        test = {} if test_folder is None else _classes(test_folder, tree, may_be_empty=True)
        _check_classes(train, test, train_folder, test_folder)
    class_names = tuple(train)
    listed = _listed(train_folder, train, class_names)
    tested = None if test_folder is None else _listed(test_folder, test, class_names)
    files = listed.files + (tested.files if tested else [])
    _tell_of_nested([folder for folder in (train_folder, test_folder) if folder], files, root, findings)
    return read_listed(listed, tested, class_names, root, config, findings)


def read_unlabelled_folder(path: str, config: DataConfig, findings: Findings) -> Images:
    """All images below a folder, however deep, or below its ``train`` where there are ``train`` and a split to test on.

    Links to folders are not followed. What is left out goes to ``findings``.

    Args:
        path: the folder.
        config: how images are read.
        findings: gets what is left out, and warnings.

    Returns:
        uint8 (M, C, H, W), in the order of the sorted paths.

    Raises:
        ConfigError: no such folder, no image in it, a link that leaves it, or a folder or image that cannot be read.
    """
    root = open_root(path, "folder:PATH takes one that holds images, at any depth")
    with readable(path):
        tree = Tree(root, findings)
        splits, split = _splits(folders_in(root)), root
        if "train" in splits and measured_on(splits) is not None:
            split = splits["train"]
            folders, others = tree.listed(root)
            tree.leave_out([path for path in [*folders, *others] if path != split], BESIDE_SPLITS)
        files = tree.images(split)
    if not files:
        raise ConfigError(f"{split} holds no image.")
    return decode_all([(str(file), file) for file in files], config, findings, root).images


def _layout(root: Path, tree: Tree) -> tuple[Path, Path | None]:
    """The folders that hold the classes of the training and of the test split; what lies beside them is left out."""
    folders, files = tree.listed(root)
    splits = _splits(folders)
    if "train" not in splits or (len(splits) == 1 and len(folders) > 1):
        for folder in folders:
            if splits_in(folder.name) and folders_in(folder) and not holds_images(folder):
                raise ConfigError(
                    f"{folder} looks like a split, as it holds folders and no image. Call the splits train and test (or"
                    f" val; train may be alone, with nothing beside it), or give one of them: folder:{folder}."
                )
        return root, None
    tree.leave_out([path for path in [*folders, *files] if path not in splits.values()], BESIDE_SPLITS)
    labelled = {split: folder for split, folder in splits.items() if split == "train" or folders_in(folder)}
    measured = measured_on(labelled)
    for split, folder in splits.items():
        if split not in labelled:
            tree.leave_out([folder], UNLABELLED)
        elif split not in ("train", measured):
            tree.leave_out([folder], UNUSED)
    return splits["train"], None if measured is None else splits[measured]


def _splits(folders: list[Path]) -> dict[Split, Path]:
    """The folders that are named as splits are."""
    splits: dict[Split, Path] = {}
    for folder in folders:
        split = split_named(folder.name)
        if split is None:
            continue
        if split in splits:
            raise ConfigError(f"{splits[split]} and {folder} are both named as a {split} split is; rename one of them.")
        splits[split] = folder
    return splits


def _classes(folder: Path, tree: Tree, may_be_empty: bool = False) -> dict[str, list[Path]]:
    """The image files of each class in ``folder``, everything sorted; classes without one are refused or left out."""
    places, files = tree.listed(folder)
    if not places:
        images = sum(file.suffix.lower() in image_extensions() for file in files)
        raise ConfigError(f"{folder} holds {f'{images} images, but ' if images else ''}no class folder; {_LAYOUT}.")
    tree.leave_out(files, BESIDE)
    by_name = _by_name(places)
    classes = {name: tree.images(by_name[name]) for name in in_class_order(by_name)}
    empty = [place for name, place in by_name.items() if not classes[name]]
    if empty and not may_be_empty:
        reason = tree.reason_below(empty[0])
        hint = "" if reason is None else f" (what it holds is left out: {reason})"
        raise ConfigError(f"The class folder {empty[0]} holds no image{hint}; {_LAYOUT}.")
    tree.leave_out(empty, EMPTY)
    return {name: files for name, files in classes.items() if files}


def _by_name(places: list[Path]) -> dict[str, Path]:
    """The class folders by the names of their classes.

    Raises:
        ConfigError: two folders have names that people cannot tell apart.
    """
    by_name: dict[str, Path] = {}
    for place in places:
        name = name_as_text(place.name)
        if name in by_name:
            raise ConfigError(
                f"{by_name[name]} and {place} have the same name, with accents written as characters of their own in "
                "one of them; put the images into one of the two."
            )
        by_name[name] = place
    return by_name


def _check_classes(train: Collection[str], test: Collection[str], folder: Path, test_folder: Path | None) -> None:
    """See that there are two classes or more, and none to test on that is not trained.

    Raises:
        ConfigError: there are not.
    """
    if len(train) == 1:
        place = folder / next(iter(train))
        deeper = folders_in(place) and not holds_images(place)
        hint = f"; if its folders are the classes, give folder:{place}" if deeper else ""
        raise ConfigError(f"{folder} holds one class folder, {place.name}, but at least two are needed{hint}.")
    for name in test:
        if test_folder is not None and name not in train:
            like = next((known for known in train if known.casefold() == name.casefold()), None)
            hint = "" if like is None else f" (it has {like})"
            raise ConfigError(f"{test_folder / name} is a class that {folder} does not have{hint}.")


def _tell_of_nested(folders: list[Path], files: list[Path], root: Path, findings: Findings) -> None:
    """Warn of images that lie deeper than in a class folder, as they may have been meant otherwise.

    Args:
        folders: which hold the class folders.
        files: all images.
        root: that places are written relative to.
        findings: gets the warning.
    """
    nested = [file for file in files if file.parent.parent not in folders]
    if nested:
        findings.warn(
            f"{len(nested):,} of {len(files):,} images lie in folders within class folders, e.g. "
            f"{nested[0].parent.relative_to(root)}; they belong to these classes."
        )


def _listed(folder: Path, classes: dict[str, list[Path]], class_names: tuple[str, ...]) -> Listed:
    """All files of a split, class by class."""
    return Listed.of(folder, ((file, class_names.index(name)) for name, files in classes.items() for file in files))
