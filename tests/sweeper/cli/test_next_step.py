"""What to do after a sweep."""

from pathlib import Path
from typing import Any

import pytest

from sweeper.analysis.attack_bounds import UNBOUNDED, AttackBounds
from sweeper.cli.next_step import next_lines
from sweeper.run_folder.certificate import Certificate, write_certificate
from tests.sweeper.certificates import certificate_of, good, step
from tests.sweeper.small import control_row, frame_of, row_with

DIR = Path("runs/a")


def lines(most: AttackBounds, *more: dict[str, Any], asr: float = 0.1) -> list[str]:
    return next_lines(DIR, frame_of(control_row(), row_with("t0", "a", val_asr=asr), *more), most)


@pytest.mark.parametrize(
    ("most", "shown", "tested"),
    [
        (UNBOUNDED, "--max-excess 0.1", "--max-excess 0.1"),
        (AttackBounds(max_excess=0.3), "--max-excess 0.3", "--max-excess 0.3"),
        (AttackBounds(max_asr=0.3), "--max-asr 0.3", "--max-asr 0.3"),
        (AttackBounds(0.2, 0.3), "--max-excess 0.2 --max-asr 0.3", "--max-excess 0.2"),
    ],
)
def test_where_a_setting_qualifies_it_is_picked_and_confirmed_before_it_is_deployed(
    most: AttackBounds, shown: str, tested: str
) -> None:
    assert lines(most) == [
        f"Pick a setting: sweeper select runs/a {shown}",
        f"Before deploying it: sweeper confirm runs/a {tested} --confidence 0.95, and then sweeper select runs/a "
        f"{tested} --confidence 0.95",
    ]


def test_where_none_qualifies_the_nearest_is_named_instead() -> None:
    (line,) = lines(UNBOUNDED, asr=0.765)
    assert line == (
        "No setting has worst val_asr_excess <= 0.1. Nearest is vab a (t0): its worst val_asr_excess of 0.715 is above "
        "0.1 (val_asr 0.765, floor 0.050, val_acc 0.800). Try more trials (sweeper resume runs/a --trials N), other "
        "ranges of the parameters, or a higher --max-excess."
    )
    (line,) = lines(AttackBounds(0.2, 0.3), asr=0.765)
    assert line.endswith("or a higher --max-excess and --max-asr.")


def test_fresh_seeds_are_no_test() -> None:
    again = [row_with(f"k{seed}", "a", role="confirmation", seed=seed, val_asr=0.9) for seed in (1, 2, 3)]
    assert lines(UNBOUNDED, *again)[0] == "Pick a setting: sweeper select runs/a --max-excess 0.1"


@pytest.mark.parametrize(
    ("certificate", "first", "then"),
    [
        (good(), "vab a is certified: ", "Select it: sweeper select {} --max-excess 0.1 --confidence 0.95"),
        (
            certificate_of([step(0)], None, decided=False),
            "The test is not decided (mean worst test_asr_excess <= 0.1 at confidence 0.95) after 1 counted training",
            "To go on: sweeper confirm {} --max-excess 0.1 --confidence 0.95.",
        ),
        (certificate_of([step(0, 1.0)], None), "Nothing was certified for mean worst test_asr_excess <= 0.1 ", None),
    ],
)
def test_once_a_test_has_begun_it_decides(
    tmp_path: Path, certificate: Certificate, first: str, then: str | None
) -> None:
    write_certificate(tmp_path, certificate)
    told, *more = next_lines(tmp_path, frame_of(control_row(), row_with("t0", "a")), AttackBounds(0.3))
    assert told.startswith(first)
    assert more == ([] if then is None else [then.format(tmp_path)])
    if then is None:
        assert told.endswith("A run folder has one test: for a higher bound, or another one, run the preset again.")


def test_weak_attacks_are_said_without_a_hint_on_bounds() -> None:
    rows = frame_of(row_with(weak_attack=True, control_asr=0.4))
    (line,) = next_lines(DIR, rows, UNBOUNDED)
    assert line.endswith("or train the control longer (control.epochs).")


def test_a_path_with_a_space_can_be_pasted() -> None:
    frame = frame_of(control_row(), row_with("t0", "a"))
    assert (
        next_lines(Path("my runs"), frame, UNBOUNDED)[0] == "Pick a setting: sweeper select 'my runs' --max-excess 0.1"
    )
    (line,) = next_lines(Path("my runs"), frame, AttackBounds(0.01))
    assert "Try more trials (sweeper resume 'my runs' --trials N), other" in line
