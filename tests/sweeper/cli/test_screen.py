"""What is said on the screen."""

import shutil
import sys
from pathlib import Path

import pytest
import typer

from sweeper.cli.screen import LONGEST, complain, console, one_sentence, say, say_where_programs_are
from sweeper.run_folder.errors import SweepInterrupted


def test_nothing_that_is_said_is_markup_or_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Names and errors come from data and folders of others."""
    for speak in (say, complain):
        speak("[/b] [link=http://x]y[/link] \x1b[2K\x1b]52;c;eA==\x07 a\nb \u202e \x9b caf\xe9")
        out, err = capsys.readouterr()
        assert (out or err) == (
            "[/b] [link=http://x]y[/link] \\x1b[2K\\x1b]52;c;eA==\\x07 a\\nb \\u202e \\x9b caf\xe9\n"
        )
    console.print("[/b]c0")
    assert capsys.readouterr().out == "[/b]c0\n"


def test_a_sentence_that_quotes_without_end_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    complain("x" * 100 * LONGEST)
    assert len(capsys.readouterr().err) < LONGEST + 100


def test_commands_that_are_printed_can_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "sweeper").touch()
    (tmp_path / "away").mkdir()
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    for where, shown in ((tmp_path, "$PWD/.venv/bin"), (tmp_path / "away", str(programs))):
        monkeypatch.chdir(where)
        say_where_programs_are()
        assert capsys.readouterr().out.endswith(f": export PATH={shown}:$PATH\n")
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/sweeper")
    say_where_programs_are()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("finished", "code"), [(0, 1), (2, 0)])
def test_an_interrupted_sweep_ends_with_0_where_trials_had_finished(
    capsys: pytest.CaptureFixture[str], finished: int, code: int
) -> None:
    with pytest.raises(typer.Exit) as caught, one_sentence():
        raise SweepInterrupted("Interrupted.", finished)
    assert caught.value.exit_code == code
    assert capsys.readouterr().err == "Interrupted.\n"
