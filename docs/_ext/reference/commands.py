"""The commands with their arguments and options, from the command line's own description."""

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from reference.markdown import code, prose, table
from reference.parameters import choice_list
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
    headings = ("argument or option", "default", "meaning")
    return "\n\n".join([f"## {name}", prose(command.help), f"    {usage}", table(headings, rows)])


def _row(param: Any, callback: Callable[..., Any]) -> tuple[str, str, str]:
    choices = choice_list(_choices(get_type_hints(callback)[param.name]))
    meaning = " ".join(filter(None, [param.help, f"One of {choices}." if choices else ""]))
    if param.envvar:
        meaning += f" Taken from `{param.envvar}` if it is set."
    return code(_shown(param)), _default(param), meaning


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


def _choices(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()
