"""The list of odd inputs: its two cheapest cases, and how a row is written."""

from pathlib import Path

import pytest

from benchmarks import commands, odd_inputs
from benchmarks.commands import Case, Seen


def test_cases_are_listed_with_command_exit_code_and_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.db").touch()  # no store is needed to find out that a package is hidden
    monkeypatch.setattr(commands, "_empty_store", lambda: tmp_path / "empty.db")
    monkeypatch.setenv("PYTHONPATH", "/gone")
    assert odd_inputs.main(["--only", "shadowed", "shadowed-here"]) == 0
    shown = capsys.readouterr().out
    first, second = (line for line in shown.splitlines() if "sweeper run" in line)
    assert "| shadowed | `PYTHONPATH=other sweeper run preset.yaml` | 2 |" in first
    assert "`other/trainers hides the package trainers of this program, since it has the same name: take other" in first
    assert "| *shadowed-here* | `sweeper run preset.yaml` | 2 |" in second
    assert "`search_spaces.py hides the package search_spaces of this program" in second
    assert "/tmp" not in shown
    assert "## Images and labels" not in shown


def test_a_row_for_each_command_of_a_case() -> None:
    case = Case("name", "a kind", lambda _: [], "x", ours=True)
    seen = [Seen("sweeper a", 0, 1.4, ("one", "a | b")), Seen("sweeper `b`", None, 300.2, ())]
    assert odd_inputs.rows(case, seen) == [
        r"| a kind | *name* | `sweeper a` | 0 | 1 | `one`<br>`a \| b` |",
        "|  |  | `` sweeper `b` `` | killed | 300 | nothing |",
    ]


def test_names_of_cases_are_unique() -> None:
    names = [case.name for cases in odd_inputs.CASES.values() for case in cases]
    assert len(set(names)) == len(names)
