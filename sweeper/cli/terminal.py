"""Output that outlasts its reader and fits its terminal: a sweep ends by neither."""

import codecs
import os
import sys
from contextlib import suppress
from typing import Any

PLAIN = {"±": "+-", "→": "->", "×": "x", "…": "...", "–": "-", "—": "-", "≤": "<=", "≥": ">=", "“": '"', "”": '"',
         "‘": "'", "’": "'"}  # fmt: skip
"""What stands for characters of our own that a terminal's encoding lacks; others are written as their escapes."""
_HANDLER = "sweeper-plain"


def prepare_output() -> None:
    """Let standard output and standard error take every character, and lose nothing but text when nobody reads them."""
    codecs.register_error(_HANDLER, _plain)
    sys.stdout, sys.stderr = _LastingStream(sys.stdout), _LastingStream(sys.stderr)


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    unknown = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("unicode_escape").decode("ascii") for c in unknown), error.end


class _LastingStream:
    """A stream that goes quiet where its reader has gone: a closed terminal, a pipe into ``head``, a full disk."""

    def __init__(self, stream: Any):
        self._stream = stream
        self._gone = stream is None  # pythonw, or a daemon that closed it
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, if anybody reads it."""
        if not self._gone:
            try:
                self._stream.write(text)
            except OSError:
                self._go_quiet()
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        if not self._gone:
            try:
                self._stream.flush()
            except OSError:
                self._go_quiet()

    def _go_quiet(self) -> None:
        self._gone = True
        with suppress(OSError, ValueError):  # what it still holds must go somewhere when the program ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
