"""Objects in a store such as S3, with those methods of a path that states and caches need."""

import fnmatch
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath

from pyarrow import fs

from trainers.errors import ConfigError
from trainers.storage.network import address_of, no_answer

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Variables that name the endpoint of an S3 store, the first that is set."""


class ObjectPath:
    """A folder or an object in a store. A store has no real folders: one exists as soon as it contains an object.

    An object is written whole or not at all. Credentials and the endpoint come from the environment
    (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` and so on) or from the host's role, never from the address.

    Args:
        uri: ``s3://BUCKET/KEY`` or ``gs://BUCKET/KEY``, which ``pyarrow.fs`` reads.
    """

    def __init__(self, uri: str):
        self._uri = uri.rstrip("/")

    def __str__(self) -> str:
        return self._uri

    def __repr__(self) -> str:
        return f"ObjectPath({self._uri!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and self._uri == other._uri

    def __hash__(self) -> int:
        return hash(self._uri)

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(f"{self._uri}/{name}")

    @property
    def name(self) -> str:
        """Last part of the address."""
        return self._uri.rsplit("/", 1)[1]

    @property
    def parent(self) -> "ObjectPath":
        """Folder that contains the object."""
        return ObjectPath(self._uri.rsplit("/", 1)[0])

    @property
    def suffixes(self) -> list[str]:
        """``.a`` and ``.b`` of ``name.a.b``."""
        return PurePosixPath(self.name).suffixes

    def exists(self) -> bool:
        """Whether there is an object at this address or below it."""
        store, key = _store(self._uri)
        return bool(store.get_file_info(key).type != fs.FileType.NotFound)

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Entries of the folder whose names match ``pattern``; entries of subfolders are not included."""
        store, key = _store(self._uri)
        for entry in store.get_file_info(fs.FileSelector(key, allow_not_found=True)):
            if fnmatch.fnmatchcase(entry.base_name, pattern):
                yield self / entry.base_name

    def walk(self) -> Iterator[str]:
        """Names of all objects below the folder, with / between their parts."""
        store, key = _store(self._uri)
        for entry in store.get_file_info(fs.FileSelector(key, recursive=True, allow_not_found=True)):
            if entry.is_file:
                yield entry.path.removeprefix(key).lstrip("/")

    def read_bytes(self) -> bytes:
        """Content of the object.

        Raises:
            FileNotFoundError: there is no such object.
            OSError: the store refuses, or does not answer.
        """
        store, key = _store(self._uri)
        with store.open_input_stream(key) as stream:
            return bytes(stream.read())

    def read_text(self, encoding: str = "utf-8") -> str:
        """Content of the object, decoded."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write the object.

        Raises:
            OSError: the store refuses, or does not answer.
        """
        store, key = _store(self._uri)
        with store.open_output_stream(key) as stream:
            stream.write(content)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        store, key = _store(self._uri)
        try:
            store.delete_file(key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Remove everything in the folder."""
        store, key = _store(self._uri)
        with suppress(FileNotFoundError):
            store.delete_dir(key)


Place = Path | ObjectPath
"""Location of states and caches."""


def place(address: str) -> Place:
    """Location for an ``address``: the path of a folder, or a folder in a store.

    Raises:
        ConfigError: the address holds credentials, which would be recorded with it.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return Path(address)
    authority = rest.partition("/")[0]
    if "@" in authority or (":" in authority and "@" in rest):  # a secret may contain a slash
        shown = f"{scheme}://...@{rest.rpartition('@')[2]}"
        raise ConfigError(f"{shown} contains credentials; remove them: credentials come from the environment.")
    return ObjectPath(address)


def _store(uri: str) -> tuple[fs.FileSystem, str]:
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    store, root = _opened(f"{scheme}://{bucket}")
    return store, f"{root}/{key}".rstrip("/")


@lru_cache
def _opened(address: str) -> tuple[fs.FileSystem, str]:
    """The client of a store, and the bucket; the endpoint is looked for first, for which the client would try long.

    It is looked for without a proxy, as the client takes none from the environment.

    Raises:
        ConnectionError: nothing answers at the endpoint that the environment names.
    """
    named = next((name for name in _ENDPOINTS if os.environ.get(name)), None) if address.startswith("s3:") else None
    if named is not None:
        server = None
        with suppress(ValueError):
            server = address_of(os.environ[named])
        why = "it has no form such as https://HOST:PORT" if server is None else no_answer(*server)
        if why is not None:
            raise ConnectionError(f"the endpoint of {named} cannot be used: {why}")
    return fs.FileSystem.from_uri(address)  # type: ignore[no-any-return]
