"""The grammar of one parameter: a value, or a distribution to search.

threshold: 0.2                                  a value
threshold: {float: [0.05, 0.5]}                 a range
lr: {float: [0.001, 0.1], log: true}            a range, uniform in the logarithm
warmup_steps: {int: [20, 200], step: 20}        a grid within a range
mixing: {categorical: [attention, none]}        a choice
mask_threshold: {float: [0, 0.5], when: {mixing: attention}}    drawn only if mixing is attention
"""

from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

KINDS = ("float", "int", "categorical")
MOST_VALUES = 1000
"""Largest number of values of a range that is searched value by value."""


class SpaceError(ValueError):
    """A parameter is not valid. The message is one sentence: what is wrong and what is allowed."""


@dataclass(frozen=True)
class Searched:
    """A distribution to search.

    Args:
        kind: ``float``, ``int`` or ``categorical``.
        values: low and high end, or the choices.
        log: whether values are uniform in the logarithm.
        step: distance between allowed values; null: every value is allowed.
        when: values that other parameters of the same block must have for this one to be drawn; otherwise the parameter
            keeps its default.
    """

    kind: str
    values: tuple[Any, ...]
    log: bool = False
    step: float | None = None
    when: dict[str, Any] = field(default_factory=dict)

    def corners(self) -> tuple[Any, ...]:
        """Both ends of a range, or every choice: if a check allows these, it allows all."""
        return self.values

    def distribution(self) -> BaseDistribution:
        """The distribution as an object of Optuna."""
        if self.kind == "categorical":
            return CategoricalDistribution(self.values)
        low, high = self.values
        if self.kind == "int":
            return IntDistribution(low, high, log=self.log, step=int(self.step or 1))
        return FloatDistribution(low, high, log=self.log, step=self.step)

    def grid(self) -> tuple[Any, ...] | None:
        """All allowed values; null for a range that is continuous or has more than :data:`MOST_VALUES`."""
        if self.kind == "categorical":
            return self.values
        low, high = self.values
        step = self.step or (1 if self.kind == "int" and not self.log else None)
        if step is None or (high - low) / step >= MOST_VALUES:
            return None
        if self.kind == "int":
            return tuple(range(low, high + 1, int(step)))
        count = int((high - low) / step + 1e-9) + 1
        return tuple(round(low + i * step, 12) for i in range(count))

    def applies(self, chosen: dict[str, Any]) -> bool:
        """Whether ``when`` holds for the values chosen so far."""
        return all(chosen.get(key) in as_list(allowed) for key, allowed in self.when.items())


def as_list(value: Any) -> list[Any]:
    """``value`` itself if it is a list, else a list of it alone."""
    return value if isinstance(value, list) else [value]


def parse(value: Any) -> Any:
    """Turn a YAML value into a :class:`Searched`, or return a plain value unchanged.

    Raises:
        SpaceError: ``value`` is a mapping, but not a valid distribution.
    """
    if not isinstance(value, dict):
        return value
    kinds = [kind for kind in KINDS if kind in value]
    if len(kinds) != 1:
        raise SpaceError(
            f"is a mapping and must name one of {', '.join(KINDS)}, but names {', '.join(map(str, value)) or 'none'}"
        )
    kind = kinds[0]
    allowed = {"categorical": {"when"}, "int": {"log", "step", "when"}, "float": {"log", "step", "when"}}[kind]
    unknown = set(value) - allowed - {kind}
    if unknown:
        raise SpaceError(
            f"has {', '.join(sorted(map(str, unknown)))}, "
            f"but the only keys beside {kind} are {', '.join(sorted(allowed))}"
        )
    when, log, step = value.get("when", {}), value.get("log", False), value.get("step")
    if not isinstance(when, dict):
        raise SpaceError("when must map parameters to a value or a list of values")
    if kind == "categorical":
        return Searched(kind, _choices(value[kind]), when=when)
    low, high = _ends(value[kind], kind)
    if not isinstance(log, bool):
        raise SpaceError(f"log must be true or false, but got {log!r}")
    if step is not None and (isinstance(step, bool) or not isinstance(step, (int, float)) or step <= 0):
        raise SpaceError(f"step must be a number above 0, but got {step!r}")
    if kind == "int" and step is not None and not isinstance(step, int):
        raise SpaceError(f"step of an int must be a whole number, but got {step!r}")
    if log and low <= 0:
        raise SpaceError(f"a log range must start above 0, but starts at {low}")
    if log and step is not None:
        raise SpaceError("log and step cannot be combined")
    return Searched(kind, (low, high), log, step, when)


def _choices(values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list) or not values:
        raise SpaceError(f"categorical must be a list of at least one value, but got {values!r}")
    if not all(value is None or isinstance(value, (bool, int, float, str)) for value in values):
        raise SpaceError("categorical choices must be numbers, texts, true, false or null")
    if len({repr(value) for value in values}) < len(values):
        raise SpaceError("categorical lists a choice twice")
    return tuple(values)


def _ends(values: Any, kind: str) -> tuple[Any, Any]:
    number = int if kind == "int" else (int, float)
    fits = isinstance(values, list) and len(values) == 2
    if not fits or not all(isinstance(v, number) and not isinstance(v, bool) for v in values):
        raise SpaceError(
            f"{kind} must be [low, high], two {'whole ' if kind == 'int' else ''}numbers, but got {values!r}"
        )
    low, high = values if kind == "int" else (float(values[0]), float(values[1]))
    if not low < high:
        raise SpaceError(f"{kind} must be [low, high] with low below high, but got [{low}, {high}]")
    return low, high


def suggest(trial: optuna.Trial, name: str, searched: Searched) -> Any:
    """Ask Optuna for a value of the parameter called ``name`` in the study."""
    if searched.kind == "categorical":
        return trial.suggest_categorical(name, searched.values)
    low, high = searched.values
    if searched.kind == "int":
        return trial.suggest_int(name, low, high, log=searched.log, step=int(searched.step or 1))
    return trial.suggest_float(name, low, high, log=searched.log, step=searched.step)


def order_by_condition(block: dict[str, Any]) -> list[str]:
    """Names of a block's parameters, each after the parameters in its ``when``.

    Raises:
        SpaceError: a ``when`` names a parameter that the block lacks, or conditions depend on each other in a circle.
    """
    ordered: list[str] = []
    waiting = list(block)
    while waiting:
        ready = [n for n in waiting if not isinstance(block[n], Searched) or all(k in ordered for k in block[n].when)]
        if not ready:
            name = waiting[0]
            missing = [key for key in block[name].when if key not in block]
            if missing:
                raise SpaceError(f"{name}: when asks for {missing[0]}, which this block does not set")
            raise SpaceError(f"the conditions of {', '.join(waiting)} depend on each other in a circle")
        ordered += ready
        waiting = [name for name in waiting if name not in ready]
    return ordered
