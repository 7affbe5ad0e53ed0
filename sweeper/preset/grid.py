"""The points of a grid search, and other combinations of values."""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

from search_spaces.distributions import Searched
from sweeper.preset.blocks import Choose
from sweeper.preset.spec import SweepSpec
from trainers.errors import ConfigError
from trainers.seeding import derive_seed

MOST_POINTS = 10_000
"""Most points of a grid: it is written into the study point by point."""


def grid_points(spec: SweepSpec) -> list[dict[str, Any]]:
    """All combinations of a grid, shuffled by the sweep's seed, so that the first ones are a random sample.

    A combination holds only parameters that apply: none whose condition does not hold, and none of a scenario that the
    trial does not meet.

    Raises:
        ConfigError: there are more than :data:`MOST_POINTS`.
    """
    points = combinations(lambda choose: spec.trial(choose, ""), MOST_POINTS)
    if points is None:
        raise ConfigError(f"The grid has more than {MOST_POINTS} points; give larger steps, or another search.sampler.")
    Random(derive_seed(spec.seed, "grid")).shuffle(points)
    return points


def combinations(draw: Callable[[Choose], object], most: int) -> list[dict[str, Any]] | None:
    """All combinations of values that can be drawn, each with the parameters that it has; null if there are too many.

    Args:
        draw: draws one combination: it asks for the value of each searched parameter that applies.
        most: the most combinations; a range without a grid has too many values.
    """
    points: list[dict[str, Any]] = []
    ways: list[tuple[int, ...]] = [()]
    while ways:
        way = ways.pop()
        settled, used = list(way), dict[str, Any]()
        endless = False

        def choose(name: str, searched: Searched, settled: list[int] = settled, used: dict[str, Any] = used) -> Any:
            nonlocal endless
            if name not in used:
                options = searched.grid()
                if options is None:
                    endless, options = True, searched.corners()
                # A new parameter branches: this way takes the first option, and each other one is a way of its own.
                if len(used) == len(settled):
                    ways.extend((*settled, pick) for pick in range(1, len(options)))
                    settled.append(0)
                used[name] = options[settled[len(used)]]
            return used[name]

        # A combination that is refused is proposed too; its trial fails with the reason.
        with suppress(ConfigError):
            draw(choose)
        points.append(used)
        if endless or len(points) > most:
            return None
    return points
