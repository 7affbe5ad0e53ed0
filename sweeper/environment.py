"""What the attacker chooses in a defender's sweep: dealt out evenly, never picked by the searcher."""

from typing import Any

from scipy.stats import qmc

from search_spaces.distributions import Searched
from trainers.seeding import derive_seed


def deal(environment: dict[str, Searched], trial_number: int, seed: int) -> dict[str, Any]:
    """The environment of one trial, by its number from 0.

    Choices and steps take turns, so that each value meets as many settings as any other; continuous ranges follow a
    Halton sequence. With several such parameters each runs through its values at its own pace, so that they combine.
    """
    values: dict[str, Any] = {}
    pace = 1
    for index, (name, searched) in enumerate(environment.items()):
        options = searched.grid()
        if options is not None:
            values[name] = options[trial_number // pace % len(options)]
            pace *= len(options)
        else:
            values[name] = _at(searched, _halton(trial_number, derive_seed(seed, name, index)))
    return values


def _halton(number: int, seed: int) -> float:
    sequence = qmc.Halton(1, rng=seed % 2**32)
    return float(sequence.fast_forward(number).random(1)[0, 0])


def _at(searched: Searched, share: float) -> Any:
    low, high = searched.values
    value = low * (high / low) ** share if searched.log else low + (high - low) * share
    return round(value) if searched.kind == "int" else value
