"""What the benchmark of hosts makes of its figures; hosts themselves come with the tests marked cluster."""

from typing import Any

import pytest

from benchmarks import scaling


def test_a_pace_is_told_as_a_share_of_the_ideal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(hosts: int, wait_s: float, rounds: int, images: int) -> list[dict[str, Any]]:
        megabytes = {f"worker{number}": 40.0 + number for number in range(1, hosts)}
        pace = "trainings a minute, middle three fifths"
        trials, trainings = hosts * 2 - 1, rounds * hosts * 2
        return [{"trials": trials, "trainings": trainings, "seconds": 60.0, pace: 10.8 * hosts, "megabytes": megabytes}]

    monkeypatch.setattr(scaling, "missing", lambda: None)
    monkeypatch.setattr(scaling, "measure", measured)
    assert scaling.main(["--hosts", "1", "3", "--wait", "10", "--rounds", "5"]) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert ["1", "1", "10", "60", "10.8", "90%", "-"] in rows  # two places of six trainings a minute each
    assert ["3", "5", "30", "60", "32.4", "90%", "41.0, 42.0"] in rows


@pytest.mark.parametrize(("reason", "says"), [(None, "--wait must be above 0"), ("needs root", "this needs root")])
def test_what_it_cannot_do_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reason: str | None, says: str
) -> None:
    monkeypatch.setattr(scaling, "missing", lambda: reason)
    with pytest.raises(SystemExit):
        scaling.main(["--wait", "0"])
    assert says in capsys.readouterr().err
