"""Blocks of a preset in which every parameter is a value or a distribution: defenses and scenarios."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from search_spaces.distributions import Searched, SpaceError, as_list, order_by_condition, parse
from trainers.attacks import ATTACKS
from trainers.defenses import DEFENSES
from trainers.errors import ConfigError
from trainers.params import Parameters
from trainers.scenario import ScenarioConfig
from trainers.text import did_you_mean

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""Pattern for names of sweeps and scenarios, which become names of files and metrics."""

DEFENSE = "defense"
"""Name, in the study, of the parameter that chooses a defense."""

Choose = Callable[[str, Searched], Any]
"""Returns the value of a searched parameter, given its name in the study."""


@dataclass(frozen=True)
class Block:
    """Parameters of one defense or one scenario.

    Args:
        kind: the defense or attack.
        values: plain values and distributions, by parameter.
        names: names of the distributions in the study, by parameter.
    """

    kind: str
    values: dict[str, Any]
    names: dict[str, str]

    def searched(self) -> Iterator[tuple[str, Searched]]:
        """Study name and distribution of each searched parameter, in an order in which they can be drawn."""
        for key in self.searched_keys():
            yield self.names[key], self.values[key]

    def searched_keys(self) -> list[str]:
        """The searched parameters, in an order in which they can be drawn."""
        return [key for key in order_by_condition(self.values) if isinstance(self.values[key], Searched)]

    def idle(self, chosen: dict[str, Any]) -> list[str]:
        """Searched parameters whose condition does not hold for these values."""
        return [key for key, value in self.values.items() if isinstance(value, Searched) and not value.applies(chosen)]

    def draw(self, choose: Choose) -> dict[str, Any]:
        """Plain values for all parameters; those whose condition does not hold are left out."""
        chosen: dict[str, Any] = {}
        for key in order_by_condition(self.values):
            value = self.values[key]
            if not isinstance(value, Searched):
                chosen[key] = value
            elif value.applies(chosen):
                chosen[key] = choose(self.names[key], value)
        return chosen


def _parse_values(block: dict[str, Any], owners: list[type[Parameters]]) -> dict[str, Any]:
    """Parse and check every value of a block whose keys belong to ``owners``."""
    values: dict[str, Any] = {}
    known = [key for owner in owners for key in owner.keys() if key not in ("name", "attack", "params")]
    for key, raw in block.items():
        owner = next((o for o in owners if key in known and key in o.keys()), None)
        if owner is None:
            raise ConfigError(
                f"{key} is no parameter here; known are {', '.join(known)}.{did_you_mean(str(key), known)}"
            )
        try:
            value = parse(raw)
        except SpaceError as error:
            raise ConfigError(f"{key} {error}.") from error
        corners = value.corners() if isinstance(value, Searched) else (value,)
        checked = [owner.check(key, corner) for corner in corners]
        values[key] = value if isinstance(value, Searched) else checked[0]
    try:
        order_by_condition(values)
    except SpaceError as error:
        raise ConfigError(f"{error}.") from error
    for key, value in values.items():
        if isinstance(value, Searched):
            _check_condition(key, value, values)
    return values


def _check_condition(key: str, searched: Searched, values: dict[str, Any]) -> None:
    """Refuse a ``when`` that can never hold: a misspelt choice would silently leave the parameter out."""
    for other, wanted in searched.when.items():
        given = values[other]
        options = given.grid() if isinstance(given, Searched) else (given,)
        if options is not None and not any(value in options for value in as_list(wanted)):
            allowed = ", ".join(map(str, options))
            raise ConfigError(f"{key}: when asks for {other} = {wanted}, which is impossible; allowed are {allowed}.")


def defense_block(raw: Any) -> Block:
    """Read one defense: ``{name: vab, threshold: ...}``.

    Raises:
        ConfigError: unknown defense or parameter, or a value out of range.
    """
    if not isinstance(raw, dict) or raw.get("name") not in list(DEFENSES):
        given = raw.get("name", "nothing") if isinstance(raw, dict) else raw
        raise ConfigError(f"name must be one of {', '.join(DEFENSES)}, but got {given}.")
    kind = raw["name"]
    values = _parse_values({k: v for k, v in raw.items() if k != "name"}, [DEFENSES[kind].Params])
    block = Block(kind, values, {key: f"{kind}.{key}" for key in values})
    _try_first_corners(block, lambda drawn: DEFENSES[kind].Params(**drawn))
    return block


def scenario_block(raw: Any, defaults: dict[str, Any]) -> Block:
    """Read one scenario: ``{attack: badnets, poison_rate: 0.1, size: 3}``, on top of ``defaults``.

    A distribution among the defaults is one parameter that all scenarios share. ``name`` defaults to the attack's.

    Raises:
        ConfigError: unknown attack or parameter, or a value out of range.
    """
    if not isinstance(raw, dict) or raw.get("attack") not in list(ATTACKS):
        given = raw.get("attack", "nothing") if isinstance(raw, dict) else raw
        raise ConfigError(f"attack must be one of {', '.join(ATTACKS)}, but got {given}.")
    kind = raw["attack"]
    own = ATTACKS[kind].Params
    title = raw.get("name", kind)
    if not isinstance(title, str) or not re.fullmatch(NAME_PATTERN, title):
        raise ConfigError(f"name must be letters, digits, dots, - and _, but got {title!r}.")
    merged = {**defaults, **{k: v for k, v in raw.items() if k not in ("attack", "name")}}
    if isinstance(merged.get("labels"), dict):
        raise ConfigError("labels must be all_to_one or all_to_all, and cannot be searched; write two scenarios.")
    values = _parse_values(merged, [ScenarioConfig, own])
    names = {key: f"{title}.{key}" if key in raw else f"scenario.{key}" for key in values}
    block = Block(kind, {"name": title, **values}, names)
    _try_first_corners(block, lambda drawn: scenario_config(kind, drawn))
    return block


def scenario_config(attack: str, drawn: dict[str, Any]) -> ScenarioConfig:
    """A scenario from plain values, the attack's own parameters among them."""
    common = {key: value for key, value in drawn.items() if key in ScenarioConfig.keys()}
    own = {key: value for key, value in drawn.items() if key not in common}
    return ScenarioConfig(attack=attack, params=own, **common)


def _try_first_corners(block: Block, build: Callable[[dict[str, Any]], object]) -> None:
    """Build once from the first corner of every range, so that rules over several parameters are checked at once."""
    build(block.draw(lambda _name, searched: searched.corners()[0]))
