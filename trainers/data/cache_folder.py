"""The folder of decoded images of this host: bounded, and cleaned of what was not used for longest."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
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
            if _removed(kept.path):
                total -= kept.nbytes

    def clear(self) -> tuple[list[Kept], list[Kept]]:
        """Remove all files, and what processes that were killed have left.

        Returns:
            Those that were removed, and those that a process has open, which stay.
        """
        for leftover in self._files(f"{LEFTOVER}*"):
            _removed(leftover.path)
        files = self.kept()
        gone = [kept for kept in files if _removed(kept.path)]
        return gone, [kept for kept in files if kept not in gone]

    def _files(self, pattern: str) -> Iterator[Kept]:
        for path in self.path.glob(pattern):
            with suppress(OSError):
                found = path.stat()
                yield Kept(path, found.st_blocks * 512, found.st_mtime)


def _removed(path: Path) -> bool:
    """Remove a file that no process has open; whether it is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except BlockingIOError:
        return False
    except OSError:  # somebody else was faster, or it is not ours
        return not path.exists()
    return True
