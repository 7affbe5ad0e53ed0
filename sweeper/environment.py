"""What the attacker chooses in a defender's sweep: dealt out evenly, never picked by the searcher."""

from typing import Any

from search_spaces.distributions import Searched


def deal(environment: dict[str, Searched], trial_number: int) -> dict[str, Any]:
    """The environment of one trial, by its number from 0.

    Values take turns, so that each meets as many settings as any other. With several such parameters each runs through
    its values at its own pace, so that all combinations come up.

    Args:
        environment: parameters with a grid of values, as the specification demands.
        trial_number: from 0.
    """
    values: dict[str, Any] = {}
    pace = 1
    for name, searched in environment.items():
        options = searched.grid()
        assert options is not None
        values[name] = options[trial_number // pace % len(options)]
        pace *= len(options)
    return values
