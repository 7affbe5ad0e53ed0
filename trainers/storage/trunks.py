"""Trunks on disk: the state at the end of the first stages of a training, from which others begin that share them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from trainers.storage.object_store import Place
from trainers.storage.state import StateError, encode_state, load_state, write_state

ROOM = 3
"""Times its own size that must be free on the disk for a trunk, since states and records must still find room."""


@dataclass(frozen=True)
class TrunkFile:
    """The place of a trunk.

    Args:
        path: of its file.
        identity: all that it depends on, as :meth:`trainers.trial.TrialConfig.trunk` says.
        epochs: how many it has.
        whole: whether the training ends with it. Then it is kept for others, but is no place to begin at: a last epoch
            is measured on the test half too, which the trunk does not have.
    """

    path: Place
    identity: str
    epochs: int
    whole: bool = False


@dataclass(frozen=True)
class Kept:
    """Whether a trunk is kept for others.

    Args:
        error: why it could not be kept; null if it could.
        gone: whether it was kept earlier, and is not there any more; another training may keep it again.
    """

    error: str | None = None
    gone: bool = False


def keep_trunk(trunk: TrunkFile, state: dict[str, Any], measured: Sequence[dict[str, Any]]) -> Kept:
    """Write a trunk, whole or not at all. A disk without room for it is no error: others train it again.

    Args:
        trunk: where.
        state: of the defense at its end.
        measured: figures of its epochs.
    """
    content = encode_state({"trunk": trunk.identity, "defense": state, "measured": list(measured)})
    try:
        if isinstance(trunk.path, Path):
            trunk.path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(trunk.path.parent).free < ROOM * len(content):
                return Kept(f"less than {ROOM} times its size is free on the disk")
        write_state(trunk.path, content)
    except OSError as error:
        return Kept(error.strerror or str(error))
    return Kept()


def find_trunk(trunk: TrunkFile) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """State and figures of a trunk; null if there is none, or if the file is damaged or that of another trunk."""
    try:
        found = load_state(trunk.path)
        is_it = found["trunk"] == trunk.identity and len(found["measured"]) == trunk.epochs
        return (found["defense"], found["measured"]) if is_it else None
    except (OSError, SafetensorError, StateError, ValueError, KeyError, TypeError):
        return None


def kept_before(trunk: TrunkFile) -> Kept:
    """Whether the trunk of a run that has passed it earlier is there."""
    return Kept(gone=find_trunk(trunk) is None)
