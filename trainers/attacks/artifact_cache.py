"""A cache of what attacks train for themselves (surrogates, generators): each is trained once per data set."""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError
from torch import Tensor

from trainers.compute import Compute
from trainers.seeding import NUMERICS, derive_seed
from trainers.storage.object_store import Place
from trainers.storage.state import StateError, load_state, save_state

WAIT_AT_MOST_S = 900.0
"""How long one process waits for what another makes, until it makes it itself."""


@dataclass(frozen=True)
class ArtifactCache:
    """Tensors that attacks train once, and share with every attack that asks for the same.

    Args:
        compute: where to train.
        seed: of the attackers of one repeat. It does not depend on the poison rate: a surrogate serves all of them.
        folder: keeps what was made; null: it is made each time. Its files are named by content, and hold no pickled
            object.
    """

    compute: Compute
    seed: int
    folder: Place | None = None

    def made(self, what: str, parts: list[Any], make: Callable[[int], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors on the CPU: from the cache, or else from ``make``, which is given a seed.

        Whoever asks while another process makes the same waits for it, so that all get the same bytes.

        Args:
            what: names the thing, for the file.
            parts: JSON values, all that the result depends on beside the seed and the way it is computed: parameters
                that differ from their defaults, and the data's fingerprint.
            make: makes the tensors, by name.
        """
        seed = derive_seed(self.seed, what, parts)
        if self.folder is None:
            return _on_cpu(make(seed))
        whole = [NUMERICS, what, parts, self.seed, self.compute.identity]
        key = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / f"{what}-{key}.safetensors"
        with _held(self.folder / f"{what}-{key}.lock"):
            with suppress(FileNotFoundError, SafetensorError, StateError):
                return load_state(path)
            tensors = _on_cpu(make(seed))
            save_state(path, tensors)
            return tensors


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in tensors.items()}


@contextmanager
def _held(path: Place) -> Iterator[None]:
    """Hold a lock file; the kernel lets go of it when this process ends. Nobody waits where there are no locks, nor
    longer than anything takes to be made: over NFS a host that is lost may hold a lock for ever.
    """
    if not isinstance(path, Path):
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        until = time.monotonic() + WAIT_AT_MOST_S
        with suppress(OSError):
            while not _locked(file) and time.monotonic() < until:
                time.sleep(0.1)
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
