"""The commands with their arguments and options, from the command line's own description."""

from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from reference.markdown import code, prose, table
from reference.parameters import allowed
from sweeper.cli.main import app


def commands() -> str:
    """Every command."""
    group: Any = typer.main.get_command(app)
    return "\n\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    given = [p for p in command.params if p.required]
    more = [] if len(given) == len(command.params) else ["[OPTIONS]"]
    usage = " ".join(["sweeper", name, *map(_shown, given), *more])
    rows = [_row(p, command.callback) for p in command.params]
    headings = ("argument or option", "allowed", "default", "meaning")
    return "\n\n".join([f"## {name}", prose(command.help), f"    {usage}", table(headings, rows)])


def _row(param: Any, callback: Callable[..., Any]) -> tuple[str, str, str, str]:
    taken = f" Taken from `{param.envvar}` if it is set." if param.envvar else ""
    return code(_shown(param)), _allowed(param, callback), _default(param), f"{param.help}{taken}"


def _allowed(param: Any, callback: Callable[..., Any]) -> str:
    """Type and range of one value, or the choices; empty for an option without a value."""
    if getattr(param, "is_flag", False):
        return ""
    hint = _of_one_value(get_type_hints(callback)[param.name])
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    return allowed(hint, choices, {"ge": param.min, "le": param.max})


def _of_one_value(hint: Any) -> Any:
    """The type of what is written: ``int`` for ``int | None`` and for ``list[int]``."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(part for part in get_args(hint) if part is not NoneType)
    return get_args(hint)[0] if get_origin(hint) is list else hint


def _shown(param: Any) -> str:
    """How the parameter is written on the command line."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name.upper())
    if getattr(param, "is_flag", False):
        return str(param.opts[0])
    return f"{param.opts[0]} {param.metavar or 'VALUE'}"


def _default(param: Any) -> str:
    if param.required:
        return "required"
    if isinstance(param.show_default, str):
        return str(param.show_default)
    return "" if param.default is None or param.default is False else code(param.default)
