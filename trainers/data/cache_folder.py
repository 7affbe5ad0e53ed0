"""The folder of decoded images of this host: bounded, and cleaned of what was not used for longest."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trainers.data.cache_file import SUFFIX, DamagedCache, read_description
from trainers.errors import ConfigError
from trainers.storage.files import LEFTOVER, write_text

DEFAULT_LIMIT = 100 * 2**30
"""Bytes of all files, unless the user has set another limit."""
_LIMIT = "limit"


@dataclass(frozen=True)
class Kept:
    """A file of decoded images.

    Args:
        path: it.
        nbytes: its size.
        used: when it was last used, in seconds since 1970.
    """

    path: Path
    nbytes: int
    used: float

    def shown(self) -> str:
        """What it holds, as text; or why it is of no use."""
        if self.path.name.startswith(LEFTOVER):
            state = "being made" if _in_use(self.path) else "left by a process that was ended"
            return f"{self.path.name}: {state}"
        try:
            count, channels, height, width = read_description(self.path)["shape"]
        except DamagedCache as error:
            return f"{self.path.name}: {error}"
        except OSError as error:
            return f"{self.path.name}: {error.strerror or error}"
        colours = "grey" if channels == 1 else "in colour"
        return f"{count:,} of {width}x{height}, {colours} ({self.path.name})"


@dataclass(frozen=True)
class CacheFolder:
    """A folder of decoded images, shared by all processes of a host."""

    path: Path

    @classmethod
    def of_this_host(cls) -> "CacheFolder":
        """``robustness-sweeper/images`` in the user's cache folder (``XDG_CACHE_HOME``, or ``~/.cache``)."""
        named = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(named) if os.path.isabs(named) else Path("~/.cache").expanduser()
        return cls(base / "robustness-sweeper" / "images")

    @property
    def limit(self) -> int:
        """Most bytes of all files."""
        with suppress(OSError, ValueError):
            return max(int((self.path / _LIMIT).read_text(encoding="utf-8")), 0)
        return DEFAULT_LIMIT

    def set_limit(self, nbytes: int) -> None:
        """Keep the limit for all processes from now on, and remove what is above it.

        Raises:
            ConfigError: the folder cannot be written.
        """
        try:
            write_text(self.path / _LIMIT, f"{nbytes}\n")
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror or error}.") from error
        self.make_room(0)

    def kept(self) -> list[Kept]:
        """The files, those that were not used for longest first."""
        return sorted(self._files(f"*{SUFFIX}"), key=lambda kept: (kept.used, kept.path))

    def make_room(self, nbytes: int) -> None:
        """Remove files that were not used for longest until ``nbytes`` more are within the limit, or as far as it goes.

        Files that a process of this host has open stay.
        """
        files = self.kept()
        total, limit = sum(kept.nbytes for kept in files), self.limit
        for kept in files:
            if total + nbytes <= limit:
                return
            with suppress(OSError):
                if _removed(kept.path):
                    total -= kept.nbytes

    def clear(self) -> tuple[list[Kept], list[Kept], dict[Path, str]]:
        """Remove all files, and what processes that were killed have left.

        Returns:
            Those that were removed, those that a process has open, which stay, and why others could not be removed.
        """
        gone: list[Kept] = []
        in_use: list[Kept] = []
        failed: dict[Path, str] = {}
        for path, kept in {kept.path: kept for kept in (*self._files(f"{LEFTOVER}*"), *self.kept())}.items():
            try:
                (gone if _removed(path) else in_use).append(kept)
            except OSError as error:
                failed[path] = error.strerror or str(error)
        return gone, in_use, failed

    def _files(self, pattern: str) -> Iterator[Kept]:
        for path in self.path.glob(pattern):
            with suppress(OSError):
                found = path.stat()
                yield Kept(path, found.st_blocks * 512, found.st_mtime)


def _removed(path: Path) -> bool:
    """Remove a file that no process has open; whether it is gone.

    Raises:
        OSError: it cannot be removed.
    """
    try:
        with _locked(path):
            path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:  # somebody else was faster
        return True
    return True


def _in_use(path: Path) -> bool:
    try:
        with _locked(path):
            return False
    except OSError as error:
        return not isinstance(error, FileNotFoundError)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file alone.

    Raises:
        BlockingIOError: a process has it open.
        OSError: it is not there, or cannot be locked.
    """
    with path.open("rb+") as file:  # over NFS, what is only read cannot be locked alone
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
