"""Image sets in Parquet files, as the Hugging Face Hub lays them out."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from trainers.data.config import DataConfig
from trainers.data.decode import NoImage
from trainers.data.encoded import check_split, decode_all
from trainers.data.findings import Findings
from trainers.data.hold_out import hold_out, warn_of_hold_out
from trainers.data.image_set import ImageSet, Splits
from trainers.data.parquet_classes import classes_of, leave_out_unlabelled
from trainers.data.parquet_table import FileLabels, count_rows, read_images, read_labels
from trainers.data.split_names import UNUSED, Split, measured_on, splits_in
from trainers.data.stored import Images, part
from trainers.data.tree import BROKEN_LINK, HIDDEN, LINK, SPECIAL, readable
from trainers.errors import ConfigError

NO_LABELS = "no image has a label"
NOT_TRAINING = "not of the training split, whose images alone are used without labels"
"""Why a file is left out."""
_LAYOUT = "parquet:PATH takes a file, a folder or a glob"


def load_parquet(path: str, config: DataConfig, findings: Findings) -> Splits:
    """Read both splits; without files of both, a stratified 20% of the images, drawn by the seed, is the test split.

    The rest is as in :func:`read_parquet`.
    """
    train, test = read_parquet(path, config, findings)
    if test is not None:
        return Splits(train, test)
    if any(place.what == NO_LABELS for place in findings.left_out):
        warn_of_hold_out(findings, "no test file has labels")
    return hold_out(train, config.seed)


def read_parquet(path: str, config: DataConfig, findings: Findings) -> tuple[ImageSet, ImageSet | None]:
    """Read Parquet files as `trainers.data.parquet_table` describes them.

    A file belongs to the training split if its name has the word ``train``, to the test split if it has ``test``, and
    to a validation split if it has ``validation``, ``valid`` or ``val``; a name with none of these is read from the
    folders below ``path`` that the file lies in, the nearest first. A file without any label (no such column, or null
    and -1 alone) that is not of the training split is left out. Without a test split the validation split is one; with
    both, the validation split is left out. Unless there are a training and such a split, all files are put together
    and there is no test split.

    Labels that are text, or true and false, are the names of their classes, which are ordered as
    :func:`trainers.data.class_order.in_class_order` says. Of labels that are whole numbers, a class that no file names
    is called by its number, and the numbers may start anywhere. Rows without a label, or without one image, are refused
    or left out as ``config.unreadable`` says.

    Args:
        path: a file, a folder (all ``*.parquet`` below it that are not hidden) or a glob.
        config: the columns, and how images are read.
        findings: gets what is left out.

    Raises:
        ConfigError: no file there, a file or an image that cannot be read, a column that is missing, of the wrong type
            or not the only one that could be meant, a row without a label, a label that is negative or without a name,
            files that disagree on the column, the kind of labels or the class names, a class without a training image,
            or a split without an image. Rows are counted from 0.
    """
    root, files = _find(path, findings)
    kinds = {file: _kind(file.relative_to(root)) for file in files}
    labels_of = {file: read_labels(file, config.label_column) for file in files}
    files = _with_labels(files, kinds, labels_of, root, findings)
    measured = measured_on(kinds[file] for file in files)
    has_both = measured is not None and any(kinds[file] == "train" for file in files)
    if has_both:
        _check_named(files, kinds, path)
        _leave_out([file for file in files if kinds[file] not in ("train", measured)], root, UNUSED, findings)
        files = [file for kind in ("train", measured) for file in files if kinds[file] == kind]
    known = [labels_of[file] for file in files if len(labels_of[file].values)]
    if not known:
        raise ConfigError(f"The Parquet files of {path} hold no rows.")
    leave_out_unlabelled(known, config.unreadable, findings)
    in_train = [labels_of[file].values for file in files if kinds[file] == "train" or not has_both]
    num_train = sum(len(values.drop_null()) for values in in_train)
    labels, class_names = classes_of(known, num_train, path)
    items = _Rows([(labels_of[file].file, labels_of[file].values.is_valid()) for file in files], config.image_column)
    decoded = decode_all(items, config, findings)
    images, labels = decoded.images, labels[decoded.kept]
    count = int((decoded.kept < num_train).sum())
    places = tuple(decoded.names[index] for index in decoded.kept.tolist())
    check_split(f"The training split of {path}", count, num_train)
    train = ImageSet(part(images, 0, count), labels[:count], class_names, places[:count])
    if not has_both:
        return train, None
    check_split(f"The test split of {path}", len(places) - count, len(items) - num_train)
    return train, ImageSet(part(images, count, None), labels[count:], class_names, places[count:])


class _Rows:
    """The images of Parquet files, without those of rows that have no label; they are read each time anew.

    Args:
        files: each with which of its rows are wanted: bool (N,).
        column: of the images, as the user named it.
        or_another: whether it is found in files that lack it.
    """

    def __init__(self, files: list[tuple[Path, pa.Array]], column: str | None, or_another: bool = False):
        self._files, self._column, self._or_another = files, column, or_another
        self._count = int(sum(pc.sum(wanted, min_count=0).as_py() for _, wanted in files))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[str, bytes | NoImage]]:
        for file, wanted in self._files:
            rows = zip(read_images(file, self._column, self._or_another), wanted, strict=True)
            yield from (image for image, is_wanted in rows if is_wanted.as_py())


def _check_named(files: list[Path], kinds: dict[Path, Split | None], path: str) -> None:
    """See that each file calls itself a split, where there are files of a training and of another split.

    Raises:
        ConfigError: one does not.
    """
    for file in files:
        if kinds[file] is None:
            raise ConfigError(f"{file} must be named train or test (or validation), as other files of {path} are.")


def _leave_out(files: list[Path], root: Path, reason: str, findings: Findings) -> None:
    for file in files:
        findings.leave_out(str(file.relative_to(root)), reason)


def _with_labels(
    files: list[Path],
    kinds: dict[Path, Split | None],
    labels_of: dict[Path, FileLabels],
    root: Path,
    findings: Findings,
) -> list[Path]:
    """The files without those that are not of the training split and have no labels."""
    kept = [file for file in files if kinds[file] == "train" or labels_of[file].missing is None]
    for missing in (labels_of[file].missing for file in (kept or files)):
        if missing is not None:
            raise missing
    _leave_out([file for file in files if file not in kept], root, NO_LABELS, findings)
    return kept


def read_unlabelled_parquet(path: str, config: DataConfig, findings: Findings) -> Images:
    """The images of Parquet files, which need no labels; of files of both splits, the training split's.

    They need not lie in the same column as those of the data: one that a file lacks is found as where none is given.

    Args:
        path: as for :func:`read_parquet`.
        config: the column of the images, and how they are read.
        findings: gets what is left out.

    Returns:
        uint8 (M, C, H, W), in the order of the files and rows.

    Raises:
        ConfigError: as :func:`read_parquet`, labels apart.
    """
    root, files = _find(path, findings)
    kinds = {file: _kind(file.relative_to(root)) for file in files}
    if "train" in kinds.values() and measured_on(kinds.values()) is not None:
        _check_named(files, kinds, path)
        _leave_out([file for file in files if kinds[file] != "train"], root, NOT_TRAINING, findings)
        files = [file for file in files if kinds[file] == "train"]
    rows = [(file, pa.repeat(True, count_rows(file))) for file in files]
    items = _Rows(rows, config.image_column, or_another=True)
    if not len(items):
        raise ConfigError(f"The Parquet files of {path} hold no rows.")
    return decode_all(items, config, findings).images


def _find(path: str, findings: Findings) -> tuple[Path, list[Path]]:
    """The files of ``path``, sorted, and the folder that they all lie in as far as the user has named it."""
    with readable(path):
        return _find_files(path, findings)


def _find_files(path: str, findings: Findings) -> tuple[Path, list[Path]]:
    place = Path(path)
    if place.is_file():
        return place.parent, [place]
    if place.is_dir():
        root, candidates = place, _below(place, findings)
    elif glob.has_magic(path):
        root = next(parent for parent in place.parents if not glob.has_magic(str(parent)))
        candidates = [Path(file) for file in glob.glob(path, recursive=True)]
    else:
        raise ConfigError(f"{path} does not exist; {_LAYOUT}.")
    files = sorted(file for file in candidates if file.is_file())
    if not files:
        raise ConfigError(f"There is no Parquet file at {path}; {_LAYOUT}.")
    return root, files


def _below(root: Path, findings: Findings) -> list[Path]:
    """All ``*.parquet`` in ``root`` and below; those that are hidden or no files are left out, as are links to folders.

    Raises:
        OSError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    files = []
    for folder, folders, names in os.walk(root, onerror=refuse):
        for path in (Path(folder, name) for name in [*names, *folders]):
            why = _why_not(path)
            if why is None and path.suffix.lower() == ".parquet" and path.is_file():
                files.append(path)
            elif why is not None:
                findings.leave_out(str(path.relative_to(root)), why)
        folders[:] = [name for name in folders if not name.startswith(".")]
    return files


def _why_not(path: Path) -> str | None:
    """Why what lies at ``path`` is left out; null if it is a file, a folder to look into or no matter of Parquet."""
    is_parquet, is_folder = path.suffix.lower() == ".parquet", path.is_dir()
    if path.name.startswith("."):
        holds = any(name.lower().endswith(".parquet") for _, _, names in os.walk(path) for name in names)
        return HIDDEN if holds or is_parquet else None
    if is_folder:
        return LINK if path.is_symlink() else None
    if not is_parquet or path.is_file():
        return None
    return SPECIAL if path.exists() else BROKEN_LINK


def _kind(file: Path) -> Split | None:
    """Which split ``file``, relative to where the user pointed, calls itself; null: none, or more than one."""
    for name in (file.name, *(parent.name for parent in file.parents)):
        words = splits_in(name)
        if words:
            return words[0] if len(words) == 1 else None
    return None
