"""The keys of a preset, and the presets that come with the program."""

from importlib.resources import files

from pydantic import BaseModel

from reference.markdown import prose, table
from reference.parameters import key_table, model_rows, parameter_rows
from search_spaces.loader import preset_names
from sweeper.preset.objectives import Constraint, Objective
from sweeper.preset.spec import Resources, Search, SweepSpec
from trainers.data import DataConfig
from trainers.data.augmentation import Augmentation
from trainers.defenses.none import NoneParams
from trainers.models import ModelConfig
from trainers.params import Parameters

GROUPS: dict[str, type[Parameters] | type[BaseModel]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "augment": Augmentation,
    "control": NoneParams,
    "objectives": Objective,
    "constraints": Constraint,
    "search": Search,
    "resources": Resources,
}
"""Keys of a preset that hold keys themselves."""
ELSEWHERE = {"defense": "defenses.md", "scenario_defaults": "attacks.md", "scenarios": "attacks.md"}
"""Pages on which the keys of a block stand."""
ALLOWED = {"defense": "block, or list of blocks"}
"""What a preset may hold where the type says something else: what is read makes one of it."""


def preset_keys() -> str:
    """The keys at the top, and those of every group."""
    rows = model_rows(SweepSpec)
    for number, name in enumerate(SweepSpec.model_fields):
        key, allowed, *rest = rows[number]
        place = ELSEWHERE.get(name, f"#{name}" if name in GROUPS else None)
        shown = key if place is None else f"[{key}]({place})"
        rows[number] = (shown, ALLOWED.get(name, allowed), *rest)
    parts = ["## The whole preset", key_table(rows)]
    for name, kind in GROUPS.items():
        rows = parameter_rows(kind) if issubclass(kind, Parameters) else model_rows(kind)
        parts += [f"## {name}", prose(kind.__doc__), key_table(rows)]
    return "\n\n".join(parts)


def shipped_presets() -> str:
    """What each preset of the package says at its top."""
    rows = []
    for name in preset_names():
        lines = files("search_spaces").joinpath(name).read_text(encoding="utf-8").splitlines()
        about = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
        rows.append((f"`{name}`", " ".join(line.removeprefix("#").strip() for line in about)))
    return table(("preset", "what it is for"), rows)
