"""What the searcher does not pick: the attacker's part in a defender's sweep, and defenses that take turns."""

from collections.abc import Sequence
from typing import Any

from search_spaces.distributions import Searched
from sweeper.preset.blocks import DEFENSE


def assign(
    environments: Sequence[dict[str, Searched]], trial_number: int, defenses: Sequence[str] = ()
) -> dict[str, Any]:
    """The defense and the environment of one trial, by its number from 0.

    Defenses take turns, so do attackers, and so do the values of each, so that every one meets as many settings as any
    other. With several parameters each runs through its values at its own pace, so that all combinations come up.

    Args:
        environments: for each attacker, parameters with a grid of values, as the specification demands.
        trial_number: from 0.
        defenses: those that take turns; none where the searcher chooses.
    """
    values: dict[str, Any] = {}
    if defenses:
        trial_number, turn = divmod(trial_number, len(defenses))
        values[DEFENSE] = defenses[turn]
    trial_number, attacker = divmod(trial_number, len(environments))
    pace = 1
    for name, searched in environments[attacker].items():
        options = searched.grid()
        assert options is not None
        values[name] = options[trial_number // pace % len(options)]
        pace *= len(options)
    return values
