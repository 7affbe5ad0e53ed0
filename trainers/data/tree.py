"""What lies in a folder of images: sorted, with links checked, and with a note of all that is left out."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainers.data.findings import Findings
from trainers.data.pixels import image_extensions
from trainers.errors import ConfigError

HIDDEN = "hidden, or of the operating system"
NO_IMAGE = "the name does not end as that of an image"
NAMELESS = "an image by its content, but the name does not say so; end it as .jpg or .png"
OTHER_FORMAT = "an image of a format that is not read; convert it to JPEG or PNG"
LINK = "a link to a folder"
BROKEN_LINK = "a link to what is not there"
SPECIAL = "neither a file nor a folder"
"""Why something is left out."""

# macOS, Windows, Synology and Linux file systems leave these; thumbnails lie in the third.
_OF_THE_SYSTEM = frozenset(
    {"__macosx", "thumbs.db", "@eadir", "desktop.ini", "$recycle.bin", "system volume information", "lost+found"}
)
_OTHER_FORMATS = frozenset(
    {".heic", ".heif", ".jxl", ".jxr", ".svg", ".svgz", ".eps", ".ai", ".wmf", ".emf", ".xcf", ".psb", ".exr", ".hdr"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw"}  # of cameras
    | {".dcm", ".nii", ".mp4", ".mov", ".avi", ".webm"}  # of scanners and films
)
_NOT_LOOKED_INTO = frozenset({".txt", ".json", ".xml", ".csv", ".md", ".yaml", ".yml", ".html", ".py"})
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


class Tree:
    """A folder that may come from somebody else.

    A link that leads out of it is refused: it would otherwise decide which files of this machine are read.

    Args:
        root: the folder.
        findings: gets what is left out.
    """

    def __init__(self, root: Path, findings: Findings):
        self._root, self._real, self._findings = root, os.path.realpath(root), findings

    def listed(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Folders and files in ``folder``, each sorted by name; the rest is left out.

        Raises:
            ConfigError: a link leads out of the root.
            OSError: the folder cannot be read.
        """
        folders: list[Path] = []
        files: list[Path] = []
        for path, is_folder in self._entries(folder):
            (folders if is_folder else files).append(path)
        return folders, files

    def images(self, folder: Path) -> list[Path]:
        """The image files in ``folder`` and below, in the order of the names; links to folders are not followed.

        Raises:
            ConfigError: a link leads out of the root.
            OSError: a folder cannot be read.
        """
        return list(self._images(folder))

    def reason_below(self, folder: Path) -> str | None:
        """Why what lies in ``folder`` was left out: the first reason; null if nothing was."""
        prefix = f"{folder.relative_to(self._root)}{os.sep}"
        return next((found.what for found in self._findings.left_out if found.place.startswith(prefix)), None)

    def leave_out(self, paths: Iterable[Path], reason: str) -> None:
        """Note that files and folders are left out, folders with the number of files in them."""
        for path in paths:
            place = str(path.relative_to(self._root))
            if path.is_dir() and not path.is_symlink():
                count = sum(len(files) for _, _, files in os.walk(path))
                place += f"{os.sep} ({count:,} file{'' if count == 1 else 's'})"
            self._findings.leave_out(place, reason)

    def with_image_names(self, files: Iterable[Path]) -> list[Path]:
        """Those of ``files`` that are image files by their names; the others are left out."""
        known = image_extensions()
        images = []
        for file in files:
            if file.suffix.lower() in known:
                images.append(file)
            else:
                self.leave_out([file], _why_no_image(file))
        return images

    def _images(self, folder: Path) -> Iterator[Path]:
        for path, is_folder in self._entries(folder):
            if not is_folder:
                yield from self.with_image_names([path])
            elif path.is_symlink():  # it may lead in a circle
                self.leave_out([path], LINK)
            else:
                yield from self._images(path)

    def _entries(self, folder: Path) -> list[tuple[Path, bool]]:
        """What lies in ``folder``, sorted by name, and whether it is a folder."""
        found = []
        for entry in _scanned(folder):
            path = folder / entry.name
            if _is_hidden(entry.name):
                self.leave_out([path], HIDDEN)
                continue
            if entry.is_symlink():
                target = os.path.realpath(path)
                if os.path.commonpath([target, self._real]) != self._real:
                    raise ConfigError(
                        f"{path} is a link that leads out of {self._root}; put the files themselves there."
                    )
                if not os.path.exists(target) and path.suffix.lower() not in image_extensions():
                    self.leave_out([path], BROKEN_LINK)
                    continue
                if os.path.commonpath([os.path.realpath(folder), target]) == target:  # it leads in a circle
                    self.leave_out([path], LINK)
                    continue
                is_folder, is_file = os.path.isdir(target), not os.path.isdir(target) and _is_file(target)
            else:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            if is_folder or is_file:
                found.append((path, is_folder))
            else:
                self.leave_out([path], SPECIAL)
        return found


def _scanned(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def folders_in(folder: Path) -> list[Path]:
    """Folders in ``folder``, sorted by name, that are not hidden. Nothing is noted, and links are not checked."""
    return [folder / entry.name for entry in _shown(folder) if entry.is_dir()]


def holds_images(folder: Path) -> bool:
    """Whether a file with the name of an image lies in ``folder`` itself."""
    return any(Path(entry.name).suffix.lower() in image_extensions() for entry in _shown(folder))


def _shown(folder: Path) -> list[os.DirEntry[str]]:
    return [entry for entry in _scanned(folder) if not _is_hidden(entry.name)]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_THE_SYSTEM


def _is_file(target: str) -> bool:
    """Whether this is a file, or was one: an image that is gone is an image that cannot be read."""
    return os.path.isfile(target) or not os.path.exists(target)


def _why_no_image(file: Path) -> str:
    suffix = file.suffix.lower()
    if suffix in _OTHER_FORMATS:
        return OTHER_FORMAT
    if suffix not in _NOT_LOOKED_INTO:
        try:
            with file.open("rb") as opened:
                start = opened.read(12)
        except OSError:
            return NO_IMAGE
        if start.startswith(_SIGNATURES) or (start[:4], start[8:]) == (b"RIFF", b"WEBP"):
            return NAMELESS
    return NO_IMAGE


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn an error of the file system into a sentence.

    Raises:
        ConfigError: something in ``path`` cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from error


def open_root(path: str, takes: str) -> Path:
    """The folder at ``path``.

    Args:
        path: as the user gave it.
        takes: what is allowed, for errors.

    Raises:
        ConfigError: there is none.
    """
    root = Path(path)
    with readable(path):
        if root.is_dir():
            return root
        if root.is_symlink() and not root.exists():
            raise ConfigError(f"{path} is a link to {os.readlink(path)}, which is not there; {takes}.")
    if root.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"):
        raise ConfigError(f"{path} is an archive, and no folder; unpack it first. {takes[0].upper()}{takes[1:]}.")
    if root.suffix.lower() == ".parquet":
        raise ConfigError(f"{path} is no folder; parquet:{path} reads Parquet files.")
    raise ConfigError(f"{path} is no folder; {takes}.")
