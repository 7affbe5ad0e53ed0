"""Images that are decoded once for all processes of a host, into a file that they map."""

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import asdict
from multiprocessing.connection import wait

import PIL
from PIL import features

from trainers.data.cache_file import SUFFIX, VERSION, DamagedCache, Target, map_images
from trainers.data.cache_folder import CacheFolder
from trainers.data.decode import Decoded, Items, NoImage, Source, decode_into, ready_to_read
from trainers.data.findings import Findings
from trainers.data.memory import sized
from trainers.data.pixels import Rendering
from trainers.data.stored import CacheFile, Stored
from trainers.errors import ConfigError
from trainers.storage.files import replacing
from trainers.storage.lock import held

WAIT_AT_MOST_S = 3600.0
"""Longest time that a process waits for another one that decodes the same images, before it does so itself."""
OTHERWISE = (
    "sweeper cache --clear frees what is not in use, XDG_CACHE_HOME names another place, and data.cache: off keeps "
    "images in memory"
)
"""What to do where the folder does not take the images."""

_FOR_EVER = ExitStack()


class _NothingKept(Exception):
    """The images are not kept, so that the file is removed."""

    def __init__(self, decoded: Decoded):
        super().__init__()
        self.decoded = decoded


def cached(items: Items, how: Rendering, findings: Findings, refuse_broken: bool) -> Decoded:
    """The images of a data set from the cache of this host, where they are put if they are not there.

    The key of the file is a digest of the encoded bytes in their order, of ``how``, and of the versions of the layout
    and of what decodes: neither names nor times enter, so a file is found whatever the images are called, and never for
    images that have changed.

    Args:
        items: as for :func:`trainers.data.decode.decode`.
        how: likewise.
        findings: told of a file that was damaged.
        refuse_broken: whether nothing is kept if an image cannot be read: the caller is going to refuse it.

    Returns:
        The images; a tensor, and nothing in the cache, if none could be read or one is to be refused.

    Raises:
        ConfigError: as :func:`trainers.data.decode.decode`, the folder cannot be written or has no room, or the images
            change while they are read.
    """
    content, names = _content(items)
    made_of = [VERSION, _decoders(), content, asdict(how)]
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]
    folder = CacheFolder.of_this_host()
    file = CacheFile(folder.path / f"{key}{SUFFIX}", key)
    try:
        found = _found(file, names)
        if found is not None:
            return found
        with held(folder.path / f"{key}.lock", WAIT_AT_MOST_S):
            found = _found(file, names, findings)  # another process may have made it meanwhile
            return _made(items, how, folder, file, content, refuse_broken) if found is None else found
    except _NothingKept as error:
        return error.decoded
    except BrokenProcessPool as error:
        raise ConfigError(
            "A process that decodes images was ended from outside, perhaps since memory ran out; try again with less "
            "else running."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"The cache of images {folder.path} cannot be used: {error.strerror or error}; {OTHERWISE}."
        ) from error


def open_cached(file: CacheFile) -> Stored | None:
    """The images of a file that was made before; null if it is not there as it was made."""
    try:
        return Stored(map_images(file)[0], file)
    except (OSError, DamagedCache):
        return None


def _found(file: CacheFile, names: list[str], findings: Findings | None = None) -> Decoded | None:
    try:
        images, notes = map_images(file)
    except FileNotFoundError:
        return None
    except DamagedCache as error:
        if findings is not None:
            findings.warn(f"The file of decoded images {file.path} was made again: {error}.")
        return None
    return Decoded(names, notes, Stored(images, file))


def _made(
    items: Items, how: Rendering, folder: CacheFolder, file: CacheFile, content: str, refuse_broken: bool
) -> Decoded:
    with ExitStack() as opened:
        with replacing(file.path) as beside:
            ours = opened.enter_context(beside.open("rb"))
            with suppress(OSError):
                fcntl.flock(ours, fcntl.LOCK_SH)  # until it is mapped, so that nobody takes it for a leftover
            made: list[Target] = []

            def target(height: int, width: int) -> Target:
                made.append(Target(beside, len(items), height, width))
                _reserve(made[0], folder)
                return made[0]

            decoded = decode_into(items, how, target, _processes)
            if not made or (decoded.broken and refuse_broken):
                raise _NothingKept(decoded)
            if _content(items)[0] != content:
                raise ConfigError("The images changed while they were read; run the command again.")
            made[0].finish(file.key, decoded.notes)
        images, _ = map_images(file)
    return Decoded(decoded.names, decoded.notes, Stored(images, file))


def _reserve(target: Target, folder: CacheFolder) -> None:
    """Make room for the pixels.

    Raises:
        ConfigError: there is none.
    """
    limit = folder.limit
    if target.nbytes > limit:
        raise ConfigError(
            f"The decoded images take {sized(target.nbytes)}, and the cache of images {folder.path} is limited to "
            f"{sized(limit)}; sweeper cache --limit GIB raises that, and data.image_size makes images smaller."
        )
    folder.make_room(target.nbytes)
    free = shutil.disk_usage(folder.path).free
    if target.nbytes > free:
        raise ConfigError(
            f"The decoded images take {sized(target.nbytes)}, but where {folder.path} lies {sized(free)} are free; "
            f"{OTHERWISE}."
        )
    target.reserve()


def _decoders() -> list[str | None]:
    """Versions of what decodes, as others may give other pixels: of Pillow and of its library for JPEG."""
    return [PIL.__version__, features.version("jpg"), features.version("libjpeg_turbo")]


def _content(items: Items) -> tuple[str, list[str]]:
    """A digest of all encoded images in their order, and their names."""
    digest, names = hashlib.sha256(), []
    for name, source in items:
        names.append(name)
        digest.update(_of_source(source))
    return digest.hexdigest(), names


def _of_source(source: Source) -> bytes:
    if isinstance(source, bytes):
        return hashlib.sha256(source).digest()
    if isinstance(source, NoImage):
        return hashlib.sha256(f"none: {source.reason}".encode()).digest()[:31]  # as long as no image's
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        return hashlib.sha256(f"none: {error.strerror}".encode()).digest()[:31]


def _processes(first: Source) -> Executor:
    """A pool for as many cores as there are for this process."""
    return decoders(len(os.sched_getaffinity(0)))


def decoders(count: int) -> Executor:
    """A pool of processes that decode. They end with this one, however it ends."""
    # Not forked: this process has threads. Ctrl-C is for the one that waits for them.
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
    _FOR_EVER.enter_context(ready_to_read())
