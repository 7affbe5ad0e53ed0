"""Cache of the surrogates and generators that attacks train: each is trained once per data set."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from trainers.compute import Compute
from trainers.seeding import NUMERICS, derive_seed
from trainers.storage.lock import held
from trainers.storage.object_store import Place
from trainers.storage.state import StateError, load_state, save_state

WAIT_AT_MOST_S = 900.0
"""Longest time that a process waits for the result of another one before it computes the result itself."""


@dataclass(frozen=True)
class ArtifactCache:
    """Cache of trained tensors, shared by all attacks that need the same ones.

    Args:
        compute: where to train.
        seed: seed of the attackers of one repeat. It does not depend on the poison rate, so one surrogate serves all
            rates.
        folder: where results are kept; null: they are computed each time. File names are hashes of everything that a
            result depends on, and files hold no pickled objects.
    """

    compute: Compute
    seed: int
    folder: Place | None = None

    def made(self, what: str, parts: list[Any], make: Callable[[int], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors by name, on the CPU: from the cache, or else computed by ``make``.

        A process that asks while another one computes the same tensors waits for it, so that all get the same bytes.

        Args:
            what: kind of result, such as ``surrogate``; part of the file name.
            parts: JSON values, everything that the result depends on except the seed, the device and the numerics:
                parameters that differ from their defaults, and the data's fingerprint.
            make: computes the tensors by name, given a seed.
        """
        seed = derive_seed(self.seed, what, parts)
        if self.folder is None:
            return _on_cpu(make(seed))
        whole = [NUMERICS, what, parts, self.seed, self.compute.identity]
        key = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / f"{what}-{key}.safetensors"
        with held(self.folder / f"{what}-{key}.lock", WAIT_AT_MOST_S):
            with suppress(FileNotFoundError, SafetensorError, StateError):
                return load_state(path)
            tensors = _on_cpu(make(seed))
            save_state(path, tensors)
            return tensors


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in tensors.items()}
