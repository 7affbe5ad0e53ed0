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
    """What the first cells of tables quote under the heading ``message``, and under ``circumstance`` those that have a
    gap.
    """
    heading = ""
    for line in (PROJECT / "docs" / page).read_text(encoding="utf-8").splitlines():
        first = line.split("|")[1].strip() if line.startswith("|") else ""
        heading = "" if not line.startswith("|") else heading or first
        for quoted in re.findall(r"`([^`]+)`", first):
            if heading == "message" or (heading == "circumstance" and "..." in quoted):
                yield quoted


@cache
def texts() -> frozenset[str]:
    """All texts of the code, each with a line break in the place of what is filled in."""
    found = set()
    for package in ("trainers", "search_spaces", "sweeper"):
        for file in (PROJECT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [p.value if isinstance(p, ast.Constant) else "\n" for p in node.values]
                    found.add("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return frozenset(found)


def is_of_the_program(message: str) -> bool:
    """Whether one text of the code has all fixed parts of a message, in their order."""
    parts = [part.strip(" :;,()") for part in VARIES.split(message)]
    wanted = re.compile(".*".join(re.escape(part) for part in parts if part), re.DOTALL)
    return any(wanted.search(text) for text in texts())


@pytest.mark.parametrize("page", ["troubleshooting.md", "cluster.md"])
def test_every_message_that_a_page_quotes_is_the_programs(page: str) -> None:
    quoted = set(messages(page)) - OF_OTHERS
    assert len(quoted) > 8
    assert {message for message in quoted if not is_of_the_program(message)} == set()


@pytest.mark.parametrize(
    "message",
    [
        "No setting ... has ...; nearest is ...",  # the program says it in two sentences
        "Weak attack in ... rests on sound evidence",  # parts of two messages
        "... nearest is ... and against every other attacker that it met",  # in another order
    ],
)
def test_a_message_is_quoted_as_one_text_has_it(message: str) -> None:
    assert not is_of_the_program(message)
