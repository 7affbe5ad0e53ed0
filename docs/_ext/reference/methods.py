"""Defenses, attacks and networks, with the keys of each."""

import inspect
import sys
from dataclasses import fields
from typing import Any

from reference.markdown import captioned, code, prose, table
from reference.parameters import key_table, parameter_rows
from trainers.attacks import ATTACKS
from trainers.attacks.base import Attack
from trainers.defenses import DEFENSES
from trainers.models import MODELS
from trainers.optim import OptimizerParams
from trainers.scenario import ScenarioConfig


def defenses() -> str:
    """Every defense."""
    parts = [_defense(name) for name in DEFENSES]
    shared = "\n\n".join(
        [
            "## Keys that every defense has",
            prose(OptimizerParams.__doc__),
            key_table(parameter_rows(OptimizerParams)),
        ]
    )
    return "\n\n".join([*parts, shared])


def _defense(name: str) -> str:
    kind = DEFENSES[name]
    caption = f"Keys of {code(name)}. {kind.Params.__doc__ or ''}"
    return "\n\n".join([f"## {name}", _about(kind), _keys(kind.Params, OptimizerParams, caption)])


def attacks() -> str:
    """Every attack."""
    keys = [key for key in ScenarioConfig.keys() if key != "params"]
    rows = parameter_rows(ScenarioConfig, keys)
    rows = [(*row[:2], "the attack's", row[3]) if row[0] == code("name") else row for row in rows]
    attacks = (_attack(kind) for kind in ATTACKS.values())
    return "\n\n".join(["## Keys that every scenario has", key_table(rows), *attacks])


def _attack(kind: type[Attack]) -> str:
    facts = [
        "Clean-label: only images of the target class are poisoned, and no label is changed."
        if kind.clean_label
        else "Poisoned images get the label that the attacker wants.",
        f"The poison rate is a share of {'the target class' if kind.rate_of_target else 'the whole training set'}.",
    ]
    return "\n\n".join([f"## {kind.name}", _about(kind), " ".join(facts), _keys(kind.Params)])


def networks() -> str:
    """Every network."""
    parts = []
    for name, build in MODELS.items():
        sizes = [
            (code(key), code(parameter.default))
            for key, parameter in inspect.signature(build).parameters.items()
            if parameter.default is not parameter.empty
        ]
        parts += [f"## {name}", prose(build.__doc__), table(("size", "default"), sizes)]
    return "\n\n".join(parts)


def _about(kind: type[Any]) -> str:
    """What the module and the class say of themselves."""
    return "\n\n".join(filter(None, [prose(sys.modules[kind.__module__].__doc__), prose(kind.__doc__)]))


def _keys(params: type[Any], shared: type[Any] | None = None, caption: str | None = None) -> str:
    """The table of a method's own keys, those left out that it takes from ``shared`` as they are."""
    taken = {} if shared is None else {field.name: field for field in fields(shared)}
    own = [field.name for field in fields(params) if taken.get(field.name) is not field]
    if not own:
        return "It has no keys of its own."
    keys = key_table(parameter_rows(params, own))
    return keys if caption is None else captioned(caption, keys)
