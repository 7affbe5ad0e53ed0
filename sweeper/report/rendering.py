"""Puts a page together from its template, its styles, its scripts and plotly, so that it needs no network."""

from importlib.resources import files
from typing import Any

import plotly.offline
from jinja2 import Environment


def render(kind: str, **content: Any) -> str:
    """A page as HTML.

    Args:
        kind: of the page, ``report`` or ``live``: there is a template, a style sheet and a script of this name.
        content: what the template shows.
    """
    source = files("sweeper.report") / "templates"

    def text(file: str) -> str:
        return (source / file).read_text(encoding="utf-8")

    return (
        Environment(autoescape=True)
        .from_string(text(f"{kind}.html"))
        .render(
            style="\n".join(map(text, dict.fromkeys(("report.css", f"{kind}.css")))),
            scripts=[plotly.offline.get_plotlyjs(), text("frontier.js"), text(f"{kind}.js")],
            **content,
        )
    )
