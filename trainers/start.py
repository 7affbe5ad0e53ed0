"""Where a run begins: anew, at the last state of an earlier attempt, or at the end of a trunk."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trainers.defenses.base import Defense
from trainers.measuring.evaluation import Measurement
from trainers.storage.state_store import StateStore
from trainers.storage.trunks import TrunkFile, find_trunk

log = logging.getLogger(__name__)


@dataclass
class Start:
    """The beginning of a run.

    Args:
        defense: ready to train the epochs that are left.
        measured: figures of the epochs before.
        scores: of the samples, if every epoch has been trained.
    """

    defense: Defense
    measured: list[Measurement]
    scores: dict[str, Tensor] | None = None


def begin_run(make: Callable[[], Defense], store: StateStore | None, number: int, trunk: TrunkFile | None) -> Start:
    """Begin a run as late as possible. A state that does not fit its defense, as of another version, is left out.

    Args:
        make: makes the defense.
        store: with states of earlier attempts.
        number: of the run, as the store numbers it.
        trunk: that it shares with others.
    """
    saved = store.load(number) if store else None
    start = None
    if trunk is not None and not trunk.whole and (saved is None or len(saved["measured"]) < trunk.epochs):
        found = find_trunk(trunk)
        start = None if found is None else _fitting(lambda: _from_trunk(make(), *found))
    if start is None and saved is not None:
        start = _fitting(lambda: _from_state(make(), saved))
    return start or Start(make(), [])


def _from_state(defense: Defense, saved: dict[str, Any]) -> Start:
    if saved["defense"] is not None:
        defense.load(saved["defense"])
    return Start(defense, _measurements(saved["measured"]), saved["scores"])


def _from_trunk(defense: Defense, state: dict[str, Any], measured: list[dict[str, Any]]) -> Start:
    defense.begin(state)
    return Start(defense, [replace(figures, seconds_shared=figures.seconds) for figures in _measurements(measured)])


def _measurements(known: list[dict[str, Any]]) -> list[Measurement]:
    return [Measurement(**figures) for figures in known]


def _fitting(begin: Callable[[], Start]) -> Start | None:
    try:
        return begin()
    except torch.OutOfMemoryError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        log.warning("A state is left out, since it does not fit: %s", error)
        return None
