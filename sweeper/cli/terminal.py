"""Output that outlasts its reader and fits its terminal: a sweep ends by neither."""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EIO
from stat import S_ISCHR
from typing import Any

from sweeper.cli.screen import BROKEN

PLAIN = {"±": "+-", "→": "->", "×": "x", "…": "...", "–": "-", "—": "-", "≤": "<=", "≥": ">=", "“": '"', "”": '"',
         "‘": "'", "’": "'"}  # fmt: skip
"""What stands for characters of our own that a terminal's encoding lacks; others are written as their escapes."""
_HANDLER = "sweeper-plain"


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let standard output and standard error take every character, and a command go on when they cannot be written.

    That nobody reads them is no error.

    Raises:
        SystemExit: the command ended with another code than 0; or with 1 in place of 0, if output was lost though its
            reader has not gone (a full disk).
    """
    codecs.register_error(_HANDLER, _plain)
    streams = sys.stdout, sys.stderr = _LastingStream(sys.stdout, "output"), _LastingStream(sys.stderr, "error")
    try:
        yield
    except SystemExit as end:
        if end.code:
            raise
    for stream in streams:  # small output is written here, and not before
        stream.flush()
    if any(stream.lost for stream in streams):
        raise SystemExit(BROKEN)


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    unknown = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("unicode_escape").decode("ascii") for c in unknown), error.end


class _LastingStream:
    """A stream that goes quiet where it cannot be written any more.

    Args:
        stream: to write to; null: it was closed before the command began, as by a daemon.
        name: standard output or standard error.
    """

    def __init__(self, stream: Any, name: str):
        self._stream = open(os.devnull, "w", encoding="utf-8") if stream is None else stream  # noqa: SIM115
        self._name = name
        self._gone = False
        self.lost = False
        """Whether text was lost, though its reader (a closed terminal, a pipe into ``head``) has not gone."""
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, as long as that goes well."""
        if not self._gone:
            try:
                self._stream.write(text)
            except OSError as error:
                self._go_quiet(error)
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        if not self._gone:
            try:
                self._stream.flush()
            except OSError as error:
                self._go_quiet(error)

    def _go_quiet(self, error: OSError) -> None:
        reader_has_gone = isinstance(error, ConnectionError) or (error.errno == EIO and self._is_device())
        self._gone = True
        with suppress(OSError, ValueError):  # what it still holds must go somewhere when the program ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if not reader_has_gone:
            self.lost = True
            why = f"Standard {self._name} cannot be written any more: {error.strerror or error}"
            print(f"{why}. The command goes on without it, and does not end with code 0.", file=sys.stderr)

    def _is_device(self) -> bool:
        """Whether it leads to a terminal, which is none any more (``isatty``) once it was closed."""
        with suppress(OSError, ValueError):
            return S_ISCHR(os.fstat(self._stream.fileno()).st_mode)
        return False
