"""The reference pages, generated from the code: a Sphinx extension.

When Sphinx reads a page, a line ``<!-- generated: defenses -->`` in it is replaced by the Markdown of that part. So
nothing generated lies in the repository, and the reference cannot differ from the code.
"""

import re
from collections.abc import Callable
from typing import Any

from reference import commands, figures, methods, presets

PARTS: dict[str, Callable[[], str]] = {
    "shipped_presets": presets.shipped_presets,
    "preset_keys": presets.preset_keys,
    "defenses": methods.defenses,
    "attacks": methods.attacks,
    "networks": methods.networks,
    "figures": figures.figures,
    "commands": commands.commands,
}
"""What may be generated, by the name that a page calls it."""

MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def fill_in(text: str) -> str:
    """The text of a page with every mark replaced by what it stands for.

    Raises:
        KeyError: there is no such part.
    """
    return MARK.sub(lambda mark: PARTS[mark[1]](), text)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""

    def read(_app: Any, _page: str, source: list[str]) -> None:
        source[0] = fill_in(source[0])

    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
