"""A test on the page: its table of candidates, wealth, attackers, and what is described beside it."""

import re
from pathlib import Path
from typing import Any

import pytest

from sweeper.report.certificate import certificate_section
from sweeper.report.page import rewrite_report
from sweeper.run_folder.certificate import Certificate, write_certificate
from sweeper.run_folder.folder import RunFolder
from tests.sweeper.certificates import attacker, certificate_of, replicate_rows, setting_named, step
from tests.sweeper.report.test_page import section, written
from tests.sweeper.small import control_row, frame_of, row_with


def of_two(certified: int | None = 1, **changes: Any) -> Certificate:
    """The first candidate was given up after two pilots, the second one had 40 replicates."""
    steps = [step(0, 0.2, pilot=True), step(1, 0.9, pilot=True), *(step(n, candidate=1) for n in range(40))]
    known: dict[str, Any] = {
        "candidates": [setting_named("a"), setting_named("b", "bcu")],
        "described": [setting_named("d"), setting_named("n", "none")],
    }
    return certificate_of(steps, certified, **known | changes)


def rows() -> list[dict[str, Any]]:
    """Two pilots of the first candidate and one more, 42 replicates of the second, and the described settings."""
    described = replicate_rows("d", [0.1, 0.3, 0.2], setting=2)
    described[1] |= {"status": "FAILED", "test_asr_excess": None, "test_acc": None}
    return [
        *replicate_rows("a", [0.2, 0.9, 0.0]), *replicate_rows("b", [0.0] * 42, setting=1, defense="bcu"), *described,
        *replicate_rows("n", [0.8, 0.9, 1.0], setting=3, defense="none"),
    ]  # fmt: skip


def test_candidates_have_their_figures_and_verdicts() -> None:
    shown = certificate_section(of_two(), frame_of(*rows()))
    assert shown.rows == [
        ["vab a", "0.800", "0.050", "2", "2", "-", "-", "-", "given up"],
        ["bcu b", "0.800", "0.050", "0", "40", "0.05", f"{1.1**40:.3g}", "20", "certified"],
    ]
    (wealth,) = shown.wealth
    assert (wealth["name"], wealth["needed"], len(wealth["wealth"])) == ("bcu b", pytest.approx(20), 41)
    assert wealth["wealth"][:3] == pytest.approx([1.0, 1.1, 1.21])
    assert shown.lines[0] == "bcu b is certified."


def test_replicates_that_ran_ahead_are_counted_and_described_ones_are_none_of_them() -> None:
    assert certificate_section(of_two(), frame_of(*rows())).ahead == 3
    assert certificate_section(of_two(), frame_of(control_row())).ahead == 0


def test_described_settings_have_the_mean_of_their_whole_replicates() -> None:
    """A replicate is as bad as its worst scenario."""
    second = [row | {"scenario": "blend", "test_asr_excess": 0.95, "test_acc": 0.5} for row in rows()[-3:]]
    shown = certificate_section(of_two(), frame_of(*rows(), *second))
    assert shown.described == [
        ["vab d", "2", "0.700 ± 0.000", "0.150 ± 0.071"],
        ["none n", "3", "0.600 ± 0.000", "0.967 ± 0.029"],
    ]
    assert certificate_section(of_two(), frame_of(control_row())).described[0] == ["vab d", "0", "-", "-"]


def test_an_open_test_and_one_without_a_winner_say_so() -> None:
    shown = certificate_section(of_two(None), frame_of(control_row()))
    assert shown.lines == [
        "Nothing was certified for mean worst test_asr_excess <= 0.1 at confidence 0.95: vab a given up after 2 "
        "replicates, bcu b given up after 40 replicates."
    ]
    shown = certificate_section(certificate_of([], None, decided=False, standings=[]), frame_of(control_row()))
    assert shown.rows == [["vab a", "0.800", "0.050", "0", "0", "-", "-", "-", "not tested"]]
    assert shown.wealth == []
    assert shown.lines[0].startswith("The test is not decided")


def test_the_page_has_a_section_once_a_test_was_begun(tmp_path: Path) -> None:
    text, data = written(tmp_path / "run", [control_row(), row_with("t0", "a"), row_with("t1", "b"), *rows()])
    assert section(text, "Certificate") is None
    assert data["wealth"] == []
    assert "Before deploying, certify a setting with sweeper confirm --confidence" in text
    left_out = ["sig (<its> control did not finish)"]
    write_certificate(tmp_path / "run", of_two(attackers=[attacker(), attacker("blend")], left_out=left_out))
    text = rewrite_report(RunFolder(tmp_path / "run")).read_text()
    table = section(text, "Certificate")
    assert table is not None
    assert (table[0][:3], table[0][-1]) == (["setting", "val_acc", "val_asr_excess"], "verdict")
    assert [row[-1] for row in table[1:3]] == ["given up", "certified"]
    assert table[3:7] == [
        ["attack", "in the test"], ["badnets", "yes"], ["blend", "yes"],
        ["sig (&lt;its&gt; control did not finish)", "left out"],
    ]  # fmt: skip
    assert table[7:9] == [
        ["setting", "n", "test_acc", "test_asr_excess"], ["vab d", "2", "0.700 ± 0.000", "0.150 ± 0.071"],
    ]  # fmt: skip
    assert "Replicates that ran ahead and were not needed: 3." in text
    assert "this statement is wrong in at most 5 of 100 sweeps." in text
    assert "Before deploying" not in text
    assert re.search(r'"wealth": ?\[\{', text)
