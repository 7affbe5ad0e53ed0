"""The commands that a user is told to run next."""

import shlex
from pathlib import Path

import pytest

from sweeper.deploy.bounds import Bounds, bounds_of, confident_command, confirm_command, go_on, select_command
from sweeper.run_folder.certificate import Budget
from tests.sweeper.certificates import certificate_of, good, step

ALL = Bounds(0.05, 0.1, min_acc=0.5, min_class_acc=0.25, poison_rate=0.05, over="cvar", defense="bcu")
OPTIONS = (
    "--max-excess 0.05 --max-asr 0.1 --min-acc 0.5 --min-class-acc 0.25 --poison-rate 0.05 --over cvar --defense bcu"
)
DIR = Path("runs/a")


def test_a_command_keeps_every_bound_that_was_given() -> None:
    assert select_command(DIR, ALL) == f"sweeper select runs/a {OPTIONS}"
    exact = Bounds(max_asr=0.12345678, over="mean")
    assert "--max-asr 0.12345678 " in select_command(DIR, exact), "to its last digit"
    assert select_command(DIR, Bounds(0.1)) == "sweeper select runs/a --max-excess 0.1"
    assert select_command(DIR, Bounds(max_asr=0.1)) == "sweeper select runs/a --max-asr 0.1"
    assert confident_command(DIR, Bounds(0.1, confidence=0.99)).endswith("--max-excess 0.1 --confidence 0.99")


def test_a_test_is_about_one_bound_on_the_attack_and_of_two_about_the_excess() -> None:
    assert confirm_command(DIR, ALL) == "sweeper confirm runs/a --max-excess 0.05 --min-acc 0.5 --confidence 0.95"
    assert confirm_command(DIR, Bounds(max_asr=0.1)) == "sweeper confirm runs/a --max-asr 0.1 --confidence 0.95"
    assert (
        confirm_command(DIR, Bounds(0.1, confidence=0.9)) == "sweeper confirm runs/a --max-excess 0.1 --confidence 0.9"
    )
    without = OPTIONS.replace(" --max-asr 0.1", "")
    assert confident_command(DIR, ALL) == f"sweeper select runs/a {without} --confidence 0.95"


def test_a_test_goes_on_with_the_same_options() -> None:
    assert bounds_of(good(min_acc=0.5)) == Bounds(0.1, min_acc=0.5, confidence=0.95)
    assert bounds_of(good(metric="test_asr", bound=0.2)) == Bounds(max_asr=0.2, confidence=0.95)
    same = "To go on: sweeper confirm runs/a --max-excess 0.1 --min-acc 0.5 --confidence 0.95"
    begun = certificate_of([step(0)], None, decided=False, min_acc=0.5)
    assert go_on(DIR, begun) == f"{same}."
    limited = begun.model_copy(update={"budgets": [Budget(after=0, trainings=30)]})
    assert go_on(DIR, limited) == f"{same}, with a larger --budget if that is spent."


@pytest.mark.parametrize("name", ["my runs/a", "it's", "$HOME"])
def test_a_shell_reads_the_path_as_one_word(name: str) -> None:
    for make in (select_command, confident_command, confirm_command):
        assert shlex.split(make(Path(name), ALL))[2] == name
