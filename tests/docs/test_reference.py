"""The generated reference names everything that a user can write and read."""

import re
from pathlib import Path
from typing import Any

import pytest
from reference import MARK, PARTS, fill_in
from reference.markdown import code, prose, summary, table
from reference.meanings import ATTACK_COST, BOTH_HALVES, CURVE, IDENTITY, MEANINGS, MEASURED, SETTING
from typer.testing import CliRunner

from search_spaces.loader import preset_names, read_preset
from sweeper.analysis.frontier import POINT_COLUMNS
from sweeper.cli.main import app
from sweeper.preset.spec import resolve, validate
from sweeper.run_folder.tables import TABLE_COLUMNS
from trainers.attacks import ATTACKS
from trainers.defenses import DEFENSES
from trainers.measuring.evaluation import Measurement
from trainers.models import MODELS

DOCS = Path(__file__).parents[2] / "docs"
HELP = {"COLUMNS": "200", "TERM": "dumb"}
COMMANDS = re.findall(r"^│ ([a-z]+) ", CliRunner().invoke(app, ["--help"], env=HELP).output, re.MULTILINE)


def sections(part: str) -> dict[str, str]:
    """The text below each heading of a part."""
    _, *pieces = re.split(r"^## (.*)$", PARTS[part](), flags=re.MULTILINE)
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def first_cells(text: str) -> set[str]:
    """What the first cells of a text's tables name, links and code marks taken off."""
    return set(re.findall(r"^\| \[?`([^`]+)`", text, re.MULTILINE))


def resolved() -> dict[str, Any]:
    """A preset with every key written out."""
    preset = read_preset("quick") | {"constraints": [{"metric": "control_asr", "min": 0.8}]}
    return resolve(validate(preset, "quick"), preset)


def test_every_key_at_the_top_of_a_preset_is_there() -> None:
    assert first_cells(sections("preset_keys")["The whole preset"]) == set(resolved())


@pytest.mark.parametrize(
    "group", ["data", "model", "augment", "control", "objectives", "constraints", "search", "resources"]
)
def test_every_key_of_a_group_is_there(group: str) -> None:
    known = resolved()[group]
    assert first_cells(sections("preset_keys")[group]) == set(known[0] if isinstance(known, list) else known)


def test_no_group_of_a_preset_is_without_a_table() -> None:
    def holds_keys(value: Any) -> bool:
        return isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict))

    groups = {name for name, value in resolved().items() if value and holds_keys(value)}
    assert groups - {"defense", "scenarios"} <= set(sections("preset_keys"))


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defense_is_there_with_its_parameters(name: str) -> None:
    known = sections("defenses")
    assert first_cells(known[name]) | first_cells(known["Keys that every defense has"]) >= set(
        DEFENSES[name].Params.keys()
    )


def test_a_default_of_its_own_stands_with_the_defense() -> None:
    assert "batch_size" in first_cells(sections("defenses")["abl"])
    assert "batch_size" not in first_cells(sections("defenses")["vab"])
    assert "| `[0.25, 0.5, 0.75]` |" in sections("defenses")["Keys that every defense has"]


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_is_there_with_its_parameters(name: str) -> None:
    assert first_cells(sections("attacks")[name]) == set(ATTACKS[name].Params.keys())


def test_keys_of_every_scenario_are_there() -> None:
    assert first_cells(sections("attacks")["Keys that every scenario has"]) == {
        "name", "attack", "poison_rate", "labels", "target"
    }  # fmt: skip


def test_every_network_is_there() -> None:
    assert list(sections("networks")) == list(MODELS)


def test_every_column_has_its_meaning() -> None:
    assert {*IDENTITY, *MEASURED, *ATTACK_COST} == set(TABLE_COLUMNS)
    assert {*MEASURED, *CURVE} >= set(Measurement.__dataclass_fields__)
    assert set(MEANINGS) >= set(POINT_COLUMNS)
    assert first_cells(PARTS["figures"]()) == set(MEANINGS)
    assert len(MEANINGS) == sum(map(len, (IDENTITY, MEASURED, ATTACK_COST, CURVE, SETTING))), "one stands in two groups"


def test_keys_of_a_defense_stand_under_what_they_have_in_common() -> None:
    caption = "Keys of `vab`. V&B's constants. Those of the optimiser are the Beneficiary's."
    assert f"~~~{{table}} {caption}\n| key |" in sections("defenses")["vab"]


def test_a_defense_may_be_one_block() -> None:
    assert "| [`defense`](defenses.md) | block, or list of blocks | required |" in PARTS["preset_keys"]()


def test_a_figure_of_both_halves_is_described_on_both() -> None:
    assert all(name.startswith("val_") for name in BOTH_HALVES)
    assert {name.replace("val_", "test_") for name in BOTH_HALVES} <= set(MEASURED)
    assert MEASURED["test_acc"] == "The same as val_acc, on the test half."


def test_every_command_is_there() -> None:
    assert {"run", "select", "train"} < set(COMMANDS) == set(sections("commands"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_there(name: str) -> None:
    said = CliRunner().invoke(app, [name, "--help"], env=HELP).output
    options = set(re.findall(r"^│ [* ]* *(--[a-z-]+)", said, re.MULTILINE)) - {"--help"}
    shown = {cell.split()[0] for cell in first_cells(sections("commands")[name])}
    assert {cell for cell in shown if cell.startswith("--")} == options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_range_that_help_shows_is_there(name: str) -> None:
    said = CliRunner().invoke(app, [name, "--help"], env=HELP).output
    ranges = re.findall(r"(--[a-z-]+) +<\w+ range> \[(?:(\d+)<=)?x(?:>=(\d+))?(?:<=(\d+))?\]", said)
    assert len(ranges) == said.count(" range> [")
    for option, low, least, most in ranges:
        words = [f"at least {low or least}"] + ([f"at most {most}"] if most else [])
        assert re.search(rf"^\| `{option} VALUE` \| [a-z ]+, {', '.join(words)} \|", PARTS["commands"](), re.MULTILINE)


def test_types_and_choices_of_options_are_there() -> None:
    known = sections("commands")
    assert "| `--top VALUE` | whole number, at least 1 |  |" in known["confirm"]
    assert "| `--port VALUE` | whole number, at least 0, at most 65535 | `5000` |" in known["ui"]
    assert "| `--over VALUE` | `worst`, `mean`, `cvar` | `worst` |" in known["select"]
    assert "| `--out VALUE` | path |" in known["run"]


def test_what_a_command_requires_stands_in_its_usage() -> None:
    assert "    sweeper train DEPLOY.yaml --data VALUE --out VALUE [OPTIONS]" in sections("commands")["train"]


def test_no_default_is_that_of_the_machine() -> None:
    assert "| as many as the machine has CPUs |" in sections("commands")["train"]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_of_the_package_is_there(name: str) -> None:
    assert name in first_cells(PARTS["shipped_presets"]())


@pytest.mark.parametrize("part", PARTS)
def test_readers_are_sent_to_pages_and_not_to_code(part: str) -> None:
    text = PARTS[part]()
    assert re.findall(r"`(?:trainers|sweeper|search_spaces)\.[^`]*`", text) == []
    for page, heading in re.findall(r"\]\(\.\./([a-z-]+\.md)#([a-z-]+)\)", text):
        headings = re.findall(r"^#+ (.*)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert heading in [known.lower().replace(" ", "-") for known in headings]


@pytest.mark.parametrize("part", PARTS)
def test_every_row_says_what_it_means(part: str) -> None:
    rows = re.findall(r"^\|.*\|$", PARTS[part](), re.MULTILINE)
    assert rows
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_every_part_stands_on_one_page() -> None:
    marks = [mark for page in DOCS.rglob("*.md") for mark in MARK.findall(page.read_text(encoding="utf-8"))]
    assert sorted(marks) == sorted(PARTS)


def test_a_mark_is_replaced_and_the_rest_stays() -> None:
    text = fill_in("before\n\n<!-- generated: networks -->\n\nafter")
    assert text == f"before\n\n{PARTS['networks']()}\n\nafter"


def test_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError, match="nothing"):
        fill_in("<!-- generated: nothing -->")


def test_markdown_of_cells() -> None:
    assert table(("a", "b"), [("x | y", "two\n lines")]) == "| a | b |\n| --- | --- |\n| x \\| y | two lines |"
    shown = [code(value) for value in (None, True, 0.0005, (0.25, 0.5), 3, {"a": False})]
    assert shown == ["`null`", "`true`", "`0.0005`", "`[0.25, 0.5]`", "`3`", "`{a: false}`"]


def test_markdown_of_docstrings() -> None:
    text = prose("As :func:`~a.b` has ``it`` (arXiv 2404.11265).\n\n    More.")
    assert text.startswith("As `a.b` has `it` ([arXiv 2404.11265](https://arxiv.org/abs/2404.11265)).")
    assert summary("One\n    line.\n\n    More.") == "One line."
