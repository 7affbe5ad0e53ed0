"""Weights that a network begins with: from a safetensors file, or from the hub where there is internet."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from trainers.errors import ConfigError
from trainers.text import printable

HUB = "hub"
"""Where timm publishes its weights (Hugging Face)."""
SUFFIX = ".safetensors"
SHOWN = 3
"""Tensors that a sentence names."""

Shapes = Mapping[str, tuple[int, ...]]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the tensors of a safetensors file; nothing else of it is read.

    Raises:
        ConfigError: there is no such file, or it is no safetensors file.
    """
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"model.weights: {printable(str(path))} cannot be read: {reason}.") from error


def check_fit(path: Path, network: str, given: Shapes, wanted: Shapes, head: Collection[str]) -> None:
    """See that a file holds the tensors of a network, its head and counters of batches aside.

    Args:
        path: of the file.
        network: its name.
        given: what the file holds.
        wanted: what the network holds.
        head: beginnings of the names of the tensors that are always new.

    Raises:
        ConfigError: it does not; the sentence names tensors.
    """
    own, theirs = (
        {name: shape for name, shape in shapes.items() if not name.startswith(tuple(head)) and not _counts(name)}
        for shapes in (wanted, given)
    )
    others = {name: shape for name, shape in theirs.items() if name in own and shape != own[name]}
    problems = [
        _listed("lacks", own.keys() - theirs.keys()),
        _listed("has others", theirs.keys() - own.keys()),
        _listed("has other shapes", (f"{name} {list(shape)} for {list(own[name])}" for name, shape in others.items())),
    ]
    found = ", and ".join(problem for problem in problems if problem)
    if found:
        raise ConfigError(f"model.weights: {printable(str(path))} is not of {network}: it {found}.")


def _counts(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _listed(what: str, names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"{what} ({', '.join(map(printable, known[:SHOWN]))}{more})" if known else ""


def digest_of(path: Path) -> str:
    """SHA-256 (16 hex digits) of a file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        stat = path.stat()
        return _digest(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise ConfigError(f"model.weights: {printable(str(path))} cannot be read: {error.strerror}.") from error


@lru_cache(maxsize=16)
def _digest(path: Path, _changed: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@lru_cache(maxsize=16)
def from_hub(repository: str, known: bool) -> Path:
    """The weights of a repository of the hub, in its cache on this host; they are fetched if they are not there.

    Args:
        repository: its name.
        known: whether their digest is, so that the hub need not be asked about those in the cache.

    Raises:
        ConfigError: the hub cannot be reached, or has no such safetensors file.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if known:
        with suppress(LocalEntryNotFoundError):
            return Path(hf_hub_download(repository, "model.safetensors", local_files_only=True))
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except (OSError, ValueError, RuntimeError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ConfigError(
            f"model.weights: {HUB} has no {repository} that can be fetched from here ({printable(reason)}); give the "
            "path of its model.safetensors instead."
        ) from error
