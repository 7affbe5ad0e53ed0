"""The messages that the pages quote are those of the program."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
VARIES = re.compile(r"\.\.\.|10\.0\.0\.3|s3://|/srv/sweeps/|t0004|\d+")
"""What stands in a page for something that the program fills in."""
OF_OTHERS = {"Version mismatch: The cluster was started with: Ray: ..."}


def messages(page: str) -> Iterator[str]:
    """What the first cells of tables quote under the heading ``sentence`` or ``message``, and under ``circumstance``
    those that have a gap.
    """
    heading = ""
    for line in (PROJECT / "docs" / page).read_text(encoding="utf-8").splitlines():
        first = line.split("|")[1].strip() if line.startswith("|") else ""
        heading = "" if not line.startswith("|") else heading or first
        for quoted in re.findall(r"`([^`]+)`", first):
            if heading in ("sentence", "message") or (heading == "circumstance" and "..." in quoted):
                yield quoted


@cache
def texts() -> str:
    """All texts of the code, with a line break in the place of what is filled in."""
    found = []
    for package in ("trainers", "search_spaces", "sweeper"):
        for file in (PROJECT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [p.value if isinstance(p, ast.Constant) else "\n" for p in node.values]
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n\n".join(found)


@pytest.mark.parametrize("page", ["troubleshooting.md", "cluster.md"])
def test_every_message_that_a_page_quotes_is_the_programs(page: str) -> None:
    quoted = set(messages(page)) - OF_OTHERS
    assert len(quoted) > 8
    parts = {part.strip(" :;,()") for message in quoted for part in VARIES.split(message)}
    assert {part for part in parts if len(part) > 3 and part not in texts()} == set()
