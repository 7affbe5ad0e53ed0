"""Reads a preset: by path, or by bare name from this package, with ``--set`` applied."""

import copy
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml


class PresetError(ValueError):
    """A preset cannot be used. The message is one sentence that names the file, the key and what is allowed."""


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(entry.name for entry in files("search_spaces").iterdir() if entry.name.endswith(".yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """Read the file at path ``name``, or else the package's preset of that name (with or without ``.yaml``).

    Raises:
        PresetError: there is no such preset, or it is not a YAML mapping.
    """
    path = Path(name).expanduser()
    packaged = name if name.endswith(".yaml") else f"{name}.yaml"
    try:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
        elif packaged in preset_names():
            text = files("search_spaces").joinpath(packaged).read_text(encoding="utf-8")
        else:
            known = ", ".join(preset_names())
            raise PresetError(f"{name}: there is no such file, nor a preset of that name; presets are {known}.")
    except (OSError, UnicodeDecodeError) as error:
        raise PresetError(f"{name}: cannot be read: {error}.") from error
    content = _parse(text, name)
    if not isinstance(content, dict):
        raise PresetError(f"{name}: a preset must be a mapping of keys, but is {_kind(content)}.")
    return content


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "unreadable"
        raise PresetError(f"{where}: no valid YAML{line}: {problem}.") from error
    except (ValueError, RecursionError) as error:  # an impossible date, too many open brackets
        raise PresetError(f"{where}: no valid YAML: {str(error).splitlines()[0]}.") from error


MERGE = "tag:yaml.org,2002:merge"


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that appears twice in a mapping; plain YAML silently uses the later one."""


def _mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a plain value", key_node.start_mark)
        if key_node.tag == MERGE:
            continue  # the mapping's own key overrides a merged one
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key} appears twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def apply_overrides(preset: dict[str, Any], overrides: list[str], where: str) -> dict[str, Any]:
    """Apply ``key=value`` settings; keys are dotted, values are YAML (``scenarios.0.poison_rate=0.05``).

    A key may be one that the preset leaves at its default; the validation of the whole preset checks that the key
    exists.

    Raises:
        PresetError: an override has no ``=``, or the path to its key does not exist.
    """
    result: dict[str, Any] = copy.deepcopy(preset)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise PresetError(f"--set {override}: must be key=value, such as search.trials=20.")
        node: Any = result
        *way, last = key.split(".")
        for step in way:
            if isinstance(node, dict):
                if node.get(step) is None:
                    node[step] = {}
                node = node[step]
            elif isinstance(node, list) and step.isdigit() and int(step) < len(node):
                node = node[int(step)]
            else:
                raise PresetError(f"--set {override}: {where} has no key {key}.")
        if isinstance(node, dict):
            node[last] = _parse(text, f"--set {key}")
        elif isinstance(node, list) and last.isdigit() and int(last) < len(node):
            node[int(last)] = _parse(text, f"--set {key}")
        else:
            raise PresetError(f"--set {override}: {where} has no key {key}.")
    return result


def _kind(content: Any) -> str:
    return "empty" if content is None else f"a {type(content).__name__}"
