"""Asynchronous successive halving with several objectives: which trainings are stopped early.

Multi-objective ASHA (Schmucker, Donini, Zafar, Salinas, Archambeau 2021, arXiv 2106.12639) compares trainings by their
non-dominated rank, and within a rank by an epsilon-net. Nothing is paused: a training that comes to a rung goes on, or
is stopped for good, as in the stopping variant of ASHA (Li et al. 2020, arXiv 1810.05934). With one objective the ranks
are its order, and this is plain ASHA.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import moocore
import numpy as np

REDUCTION = 3
"""Of so many trials that come to a rung, one is to go on. The papers use 3 and 4."""


class Point(NamedTuple):
    """What a training has shown at a rung; less is better.

    Args:
        losses: its objectives, each turned so that less is better.
        broken: by how much it breaks each constraint; 0 where it keeps it.
    """

    losses: tuple[float, ...]
    broken: tuple[float, ...] = ()


class Asha:
    """Rungs at shares of a training's epochs: ``grace``, and three times each before, as long as that is below 1.

    Each training is compared once at each rung, with those of its peers that came there before it. With one training
    in a trial it goes on if it is among the best third of all of these, itself included, rounded up; and where fewer
    than three have come. A training that is stopped ends its trial. So with ``m`` of them in each trial a larger part
    goes on, the m-th root of a third: if trials fell behind in one training whatever they do in others, a third of the
    trials would come through a rung with all. A training that is first compared beyond several rungs counts at the last
    of them.

    Args:
        grace: share of its epochs before which no training is stopped; above 0 and below 1.
        trainings: of each trial.
    """

    def __init__(self, grace: float, trainings: int = 1):
        self._goes_on = float(REDUCTION ** (-1 / trainings))
        self._rungs: list[float] = []
        while grace < 1:
            self._rungs.append(grace)
            grace *= REDUCTION
        self._shown: dict[tuple[Hashable, int], list[Point]] = {}
        """By peers and rung: what trainings have shown there."""
        self._passed: dict[Hashable, int] = {}
        """By training: rungs that it has come to."""

    def reported(self, training: Hashable, peers: Hashable, share: float, point: Point) -> str | None:
        """Why a training is stopped; null if it goes on. The arguments are those of :meth:`note`."""
        shown = self.note(training, peers, share, point)
        if len(shown) < REDUCTION:
            return None
        ahead = place(point, shown)
        if ahead < len(shown) * self._goes_on - 1e-9:
            return None
        return f"at {share:.0%} of its epochs, where {ahead} of {len(shown)} trainings are ahead of it"

    def note(self, training: Hashable, peers: Hashable, share: float, point: Point) -> list[Point]:
        """Take note of what a training has shown.

        Args:
            training: its name.
            peers: what trainings that are compared have in common.
            share: of its epochs, those that have ended; at 1 it is not compared any more.
            point: what it has shown; of as many objectives and constraints as its peers.

        Returns:
            What its peers and itself have shown at the rung to which it has come; empty if it has come to none.
        """
        rung = sum(share > least - 1e-9 for least in self._rungs)  # three times 0.1 is above 0.3
        if share >= 1 or rung <= self._passed.get(training, 0):
            return []
        self._passed[training] = rung
        shown = self._shown.setdefault((peers, rung), [])
        shown.append(point)
        return shown


def place(point: Point, shown: Sequence[Point]) -> int:
    """How many of ``shown`` are ahead of ``point``, which is one of them. Equal points share their place.

    Points that others dominate come after these, rank by rank. One dominates another if it is at least as good in
    everything, and better in something; by how much a constraint is broken counts as an objective, so no point is
    behind another only since it breaks a constraint. Within a rank, the point with the least first loss comes first,
    and then always the one that is farthest from those that came before (Clarkson 2006, Nearest-Neighbor Searching and
    Metric Space Dimensions), by the losses as they are: so the first of a rank cover all of it.
    """
    everything = np.array([[*other.losses, *other.broken] for other in shown])
    ranks = moocore.pareto_rank(everything)
    own = shown.index(point)
    members = everything[ranks == ranks[own]]
    distinct, counts = np.unique(members, axis=0, return_counts=True)
    before = int((ranks < ranks[own]).sum())
    for number in _spread_out(distinct[:, : len(point.losses)]):
        if np.array_equal(distinct[number], everything[own]):
            break
        before += int(counts[number])
    return before


def _spread_out(losses: np.ndarray[Any, Any]) -> Iterator[int]:
    """The rows of ``losses``, float (N, objectives): the first one, then always the farthest from those before."""
    nearest = np.full(len(losses), np.inf)
    chosen = 0
    for _ in range(len(losses)):
        yield chosen
        nearest = np.minimum(nearest, np.linalg.norm(losses - losses[chosen], axis=1))
        nearest[chosen] = -1.0  # below the distance of any other
        chosen = int(nearest.argmax())
