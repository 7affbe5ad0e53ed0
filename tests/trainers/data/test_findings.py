import csv

from trainers.data.findings import Findings, Place


def test_nothing_found_is_nothing_said() -> None:
    assert Findings().lines() == []
    assert Findings().table() is None


def test_few_places_are_all_named_and_many_are_counted() -> None:
    findings = Findings()
    for number in range(3):
        findings.leave_out(f"few/{number}", "hidden")
    for number in range(5000):
        findings.leave_out(f"many/{number}", "broken", f"error {number}")
    findings.warn("2 of 4 images are alike.", [Place("alike", "a.png", "b.png")])
    assert findings.lines() == [
        "Left out, hidden: few/0, few/1, few/2.",
        "Left out, broken: 5,000 (many/0, many/1, many/2, ...).",
        "Warning: 2 of 4 images are alike.",
    ]


def test_the_table_has_every_place() -> None:
    findings, others = Findings(), Findings()
    findings.leave_out('a, "b".png', "broken", "truncated")
    others.warn("Look.", [Place("alike", "c.png", "d.png")])
    findings.extend(others, "folder:x")
    table = findings.table()
    assert table is not None
    assert list(csv.reader(table.splitlines())) == [
        ["finding", "place", "detail"],
        ["left out: broken", 'a, "b".png', "truncated"],
        ["alike (in folder:x)", "c.png", "d.png"],
    ]
    assert findings.warnings == ["folder:x: Look."]


def test_a_warning_without_places_needs_no_table() -> None:
    findings = Findings()
    findings.warn("Look.")
    assert findings.table() is None


def test_names_steer_no_terminal_and_forge_no_line() -> None:
    findings = Findings()
    findings.leave_out("a\x1b[2J\nb.png", "hidden", "\x07")
    findings.warn("c\nd", [Place("alike", "e\r", "\x1b")])
    table = findings.table()
    assert table is not None
    assert all(line.isprintable() for line in findings.lines() + table.splitlines())
    assert len(table.splitlines()) == 3
