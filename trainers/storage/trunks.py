"""Trunks on disk: the state at the end of the first stages of a training, from which others begin that share them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from trainers.storage.object_store import Place
from trainers.storage.state import StateError, encode_state, load_state, write_state

ROOM = 3
"""Times its own size that must be free on the disk for a trunk, since states and records must still find room."""


@dataclass(frozen=True)
class Kept:
    """Whether a trunk is kept for others.

    Args:
        error: why not; null if it is.
    """

    error: str | None = None


def keep_trunk(path: Place, told: str, state: dict[str, Any], measured: Sequence[dict[str, Any]]) -> Kept:
    """Write a trunk, whole or not at all. A disk without room for it is no error: others train it again.

    Args:
        path: of the file.
        told: what the trunk depends on, as :meth:`trainers.trial.TrialConfig.trunk` says.
        state: of the defense at its end.
        measured: figures of its epochs.
    """
    content = encode_state({"trunk": told, "defense": state, "measured": list(measured)})
    try:
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(path.parent).free < ROOM * len(content):
                raise OSError(ENOSPC, "No space left on device")
        write_state(path, content)
    except OSError as error:
        return Kept(error.strerror or str(error))
    return Kept()


def find_trunk(path: Place, told: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """State and figures of a trunk; null if there is none, or if the file is damaged or that of another trunk."""
    try:
        found = load_state(path)
        return (found["defense"], found["measured"]) if found["trunk"] == told else None
    except (OSError, SafetensorError, StateError, ValueError, KeyError, TypeError):
        return None
