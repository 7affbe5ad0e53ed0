"""What the attacker chooses in a defender's sweep: dealt out evenly, never picked by the searcher."""

from collections.abc import Sequence
from typing import Any

from search_spaces.distributions import Searched


def deal(environments: Sequence[dict[str, Searched]], trial_number: int) -> dict[str, Any]:
    """The environment of one trial, by its number from 0.

    Attackers take turns, and so do the values of each, so that every one meets as many settings as any other. With
    several parameters each runs through its values at its own pace, so that all combinations come up.

    Args:
        environments: for each attacker, parameters with a grid of values, as the specification demands.
        trial_number: from 0.
    """
    values: dict[str, Any] = {}
    trial_number, attacker = divmod(trial_number, len(environments))
    pace = 1
    for name, searched in environments[attacker].items():
        options = searched.grid()
        assert options is not None
        values[name] = options[trial_number // pace % len(options)]
        pace *= len(options)
    return values
