"""Assigns what the sampler does not choose: the attacker in a defender's sweep, and defenses that take turns."""

from collections.abc import Sequence
from typing import Any

from search_spaces.distributions import Searched
from sweeper.preset.blocks import DEFENSE


def assign(
    environments: Sequence[dict[str, Searched]], trial_number: int, defenses: Sequence[str] = ()
) -> dict[str, Any]:
    """The defense and the environment of one trial, by its number from 0.

    Defenses take turns, then attackers, then the values of each attacker's parameters, so that each is met by as many
    settings as any other. Several parameters count up like the digits of a number, so that all combinations occur.

    Args:
        environments: for each attacker, parameters with a grid of values, as the specification demands.
        trial_number: from 0.
        defenses: those that take turns; none if the sampler chooses.
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
