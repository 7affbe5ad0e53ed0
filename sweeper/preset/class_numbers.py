"""Classes that a preset gives by name, as numbers: what is trained, recorded and resumed knows numbers only."""

from collections.abc import Callable, Sequence
from typing import Any

from search_spaces.distributions import Searched
from sweeper.preset.blocks import Block
from sweeper.preset.misfits import Misfits
from trainers.attacks import ATTACKS
from trainers.data.class_names import check_unambiguous, class_label, class_number, numbers_among
from trainers.params import Parameters
from trainers.scenario import ScenarioConfig

_OWNERS: tuple[type[Parameters], ...] = (ScenarioConfig, *(attack.Params for attack in ATTACKS.values()))
CLASS_KEYS = tuple(dict.fromkeys(key for owner in _OWNERS for key in owner.class_keys()))
"""Parameters of scenarios that hold a class, or a list of classes."""


def with_class_numbers(
    preset: dict[str, Any], names: Sequence[str], class_names: Sequence[str], misfits: Misfits
) -> dict[str, Any]:
    """The preset with every class of its scenarios as a number.

    A number that is also the name of another class is refused, since nobody knows which one is meant.

    Args:
        preset: as read, and validated.
        names: of its scenarios.
        class_names: of the data.
        misfits: gets the scenarios with a class that the data does not have, which stay as they are.
    """
    given = preset.get("scenario_defaults", {})
    defaults: dict[str, Any] = {}
    for key, value in given.items():
        with misfits.of("scenario_defaults"):
            defaults |= _numbered({key: value}, class_names)
    preset = preset | ({"scenario_defaults": given | defaults} if given else {})
    wrong = given.keys() - defaults.keys()
    scenarios = list(preset["scenarios"])
    for number, name in enumerate(names):
        with misfits.of_scenario(name):
            scenarios[number] = _numbered(scenarios[number], class_names)
        if wrong - scenarios[number].keys():
            misfits.do_not_judge(name)
    return preset | {"scenarios": scenarios}


def _numbered(block: dict[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
    """A block of raw values and distributions with its classes as numbers."""

    def number(key: str, given: Any) -> Any:
        if isinstance(given, str):
            return class_number(key, given, class_names)
        if isinstance(given, int):
            check_unambiguous(key, given, class_names)
        return given

    meant = numbers_among(class_names)
    numbered = {}
    for key, value in block.items():
        if key in CLASS_KEYS:
            value = _each(value, lambda given, key=key: number(key, given), meant)  # type: ignore[misc]
        if isinstance(value, dict) and isinstance(value.get("when"), dict):
            when = {
                other: _each(wanted, lambda given, other=other: number(other, given), meant)  # type: ignore[misc]
                if other in CLASS_KEYS
                else wanted
                for other, wanted in value["when"].items()
            }
            value = value | {"when": when}
        numbered[key] = value
    return numbered


def _each(value: Any, number: Callable[[Any], Any], meant: Sequence[int]) -> Any:
    """A value, a list of values or a distribution over values, with ``number`` of each value.

    Of a range, which may be long, only those in ``meant`` are looked at.
    """
    if isinstance(value, list):
        return [number(one) for one in value]
    if not isinstance(value, dict):
        return number(value)
    if isinstance(value.get("categorical"), list):
        return value | {"categorical": [number(one) for one in value["categorical"]]}
    if isinstance(value.get("int"), list):
        low, high = value["int"]
        allowed = range(low, high + 1, value.get("step") or 1)
        for one in meant:
            if one in allowed:
                number(one)
    return value


def describe_classes(blocks: Sequence[Block], class_names: Sequence[str]) -> str:
    """The classes that scenarios name, with the scenarios that do: ``target 2 (cat) in badnets, blend``.

    Args:
        blocks: the scenarios, with classes as numbers.
        class_names: of the data.
    """
    by_text: dict[str, list[str]] = {}
    for block in blocks:
        own = ATTACKS[block.kind].Params
        defaults = {"target": 0} | {f: d for f, d in own().as_dict().items() if f in own.class_keys()}
        known = {key: block.values.get(key, default) for key, default in defaults.items()}
        texts = [f"{key} {_shown(value, class_names)}" for key, value in known.items() if value is not None]
        if block.values.get("labels", "all_to_one") != "all_to_one":
            texts[0] = "every class as the next one"
        by_text.setdefault(", ".join(texts), []).append(str(block.values["name"]))
    return "; ".join(f"{text} in {', '.join(names)}" for text, names in by_text.items())


def _shown(value: Any, class_names: Sequence[str]) -> str:
    if isinstance(value, (list, tuple)):
        return " and ".join(_shown(one, class_names) for one in value)
    if isinstance(value, Searched):
        between = " or " if value.kind == "categorical" else " to "
        return between.join(_shown(one, class_names) for one in value.values)
    return class_label(value, class_names) if isinstance(value, int) else str(value)
