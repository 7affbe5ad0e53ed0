"""What ``sweeper confirm`` refuses before it trains anything, and what ``--plan`` shows."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from sweeper import certify
from sweeper.run_folder.certificate import FILE, REPLICATE_SEEDS, write_certificate
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord, control_success
from tests.sweeper.analysis.test_candidates import trial
from tests.sweeper.certificates import after_losses
from tests.sweeper.cli.calls import call, sentence
from tests.sweeper.small import ONE_SETTING, finish, record_of, spec_with, sweep_with

TEST = ("--max-excess", "0.1", "--confidence", "0.95")


def swept(path: Path, *records: TrialRecord, control: float = 0.99, **changes: Any) -> Path:
    """A run folder with these trials and the control of the first."""
    folder = RunFolder.create(path)
    sweep = sweep_with(**changes)
    folder.write_sweep(sweep)
    known = list(records)
    for number, (run, key) in enumerate(records[0].controls.items()):
        config = records[0].config
        assert config is not None
        scenario = next(scenario for scenario, seed in config.runs() if (scenario.name, seed) == run)
        own = TrialRecord(f"c{number:04d}", "control", config.control(scenario, run[1], {}), {run: key})
        known.append(finish(own, val_asr=control))
    for record in known:
        folder.write_record(record)
    folder.write_tables(known, control_success(known))
    return path


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """A sweep of two settings that has ended."""
    spec = spec_with()
    return swept(tmp_path / "made", trial(spec, 0, 0.7, 0.01), trial(spec, 1, 0.9, 0.08))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--confidence", "0.95"), "A test certifies one bound: give --max-excess"),
        (("--max-excess", "0.1", "--max-asr", "0.1", "--confidence", "0.95"), "A test certifies one bound"),
        (("--max-excess", "0.1", "--confidence", "1"), "--confidence must lie in [0.5, 1), but got 1."),
        (("--max-excess", "0", "--confidence", "0.95"), "--max-excess must lie between 0 and 1"),
        (("--max-excess", "2", "--confidence", "0.95"), "--max-excess must lie in [0, 1], but got 2."),
        ((*TEST, "--min-acc", "7"), "--min-acc must lie in [0, 1], but got 7."),
        ((*TEST, "--top", "3"), "--top is for runs without --confidence"),
        ((*TEST, "--seeds", "3"), "--seeds is for runs without --confidence"),
        (("--plan", "--seeds", "3"), "--seeds has no meaning beside --plan"),
        (("--plan", "--budget", "3"), "--budget has no meaning beside --plan"),
        (("--plan", "--detach"), "--detach has no meaning beside --plan"),
        (("--plan", "--confidence", "0.99"), "--confidence has no meaning beside --plan"),
        (("--budget", "100"), "--budget is for a test; give --confidence too"),
        (("--min-acc", "0.5"), "--min-acc is for a test; give --confidence too"),
        ((*TEST, "--budget", "10"), "--budget 10 cannot suffice: a certificate needs at least 38 trainings"),
        ((*TEST, "--budget", str(2**63)), f"--budget must be at most {2**63 - 1}"),
        (("--max-asr", "0.01", "--confidence", "0.95"), "--max-asr 0.01 lies below the floor: 0.050 of the clean"),
    ],
)
def test_what_is_refused_in_a_sentence(ended: Path, options: tuple[str, ...], said: str) -> None:
    assert said in sentence(call("confirm", str(ended), *options))
    assert not (ended / FILE).exists()


def test_no_candidate_within_the_bound(ended: Path) -> None:
    text = sentence(call("confirm", str(ended), "--max-excess", "0.005", "--confidence", "0.95"), code=3)
    assert "No setting on the frontier has val_asr_excess <= 0.005 in the search, so none is a candidate." in text


def test_a_sweep_whose_attacks_are_all_weak(tmp_path: Path) -> None:
    weak = swept(tmp_path / "weak", trial(spec_with(), 0, 0.9, 0.01), control=0.3)
    for options in (TEST, ("--plan",)):
        text = sentence(call("confirm", str(weak), *options))
        assert "No attack of this sweep is evidence, so nothing can be certified (badnets: its attack is weak" in text


def test_an_attackers_sweep(tmp_path: Path) -> None:
    changes = {
        "defense": ONE_SETTING,
        "scenarios": [{"attack": "badnets", "poison_rate": {"float": [0.05, 0.2]}, "target": 0}],
        "objectives": [{"metric": "val_asr", "direction": "maximize"}],
    }
    path = swept(tmp_path / "attack", finish(record_of(spec=spec_with(**changes))), **changes)
    assert "this is an attacker's sweep" in sentence(call("confirm", str(path), *TEST))
    assert "this is an attacker's sweep" in sentence(call("confirm", str(path), "--plan"))


def test_a_sweep_that_has_not_ended(tmp_path: Path) -> None:
    spec = spec_with()
    path = swept(tmp_path / "open", trial(spec, 0, 0.9, 0.01))
    RunFolder(path).write_record(record_of("t0005", spec=spec))
    text = sentence(call("confirm", str(path), *TEST))
    assert f"has trials that did not end (t0005); run sweeper resume {path} first." in text


def test_replicates_without_their_certificate(ended: Path) -> None:
    own = record_of("t0001")
    own.trial_id, own.role = "r0000", "replicate"
    RunFolder(ended).write_record(finish(own))
    assert "holds replicates of a test, but not its certificate.json" in sentence(call("confirm", str(ended), *TEST))


def test_a_damaged_certificate(ended: Path) -> None:
    (ended / FILE).write_text("{", encoding="utf-8")
    for command in (("confirm", str(ended), *TEST), ("select", str(ended), *TEST), ("status", str(ended))):
        assert f"{FILE} is damaged" in sentence(call(*command))


def test_seeds_of_replicates_are_theirs_alone(tmp_path: Path) -> None:
    spec = spec_with(seeds=[REPLICATE_SEEDS])
    path = swept(tmp_path / "seeds", trial(spec, 0, 0.9, 0.01), seeds=[REPLICATE_SEEDS])
    assert f"Seeds from {REPLICATE_SEEDS} are those of replicates" in sentence(call("confirm", str(path), *TEST))


def test_a_second_test(ended: Path) -> None:
    write_certificate(ended, after_losses([0.0] * 3))
    for options in (("--max-excess", "0.2", "--confidence", "0.95"), (*TEST, "--min-acc", "0.3")):
        assert "A run folder has one test, and only --budget may change" in sentence(
            call("confirm", str(ended), *options)
        )


def test_the_plan(ended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certify, "ray_runtime", nullcontext)
    monkeypatch.setattr(certify, "room", lambda _wanted: 4)
    shown = call("confirm", str(ended), "--plan", "--max-excess", "0.3").stdout
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith("0.")]
    assert [(row[0], row[1]) for row in rows] == [
        (bound, confidence) for bound in ("0.05", "0.1", "0.15", "0.2", "0.3") for confidence in ("0.9", "0.95")
    ]
    by_bound = {(row[0], row[1]): row for row in rows}
    assert by_bound["0.05", "0.95"][2] == "1", "the other setting has an excess of 0.08"
    assert by_bound["0.1", "0.95"][2] == "2"
    assert int(by_bound["0.1", "0.95"][4]) > int(by_bound["0.1", "0.9"][4]) > int(by_bound["0.2", "0.9"][4])
    assert "(1 training at a time)" in shown, "search.workers is 1"
    assert "one replicate that fails costs 26 more at a bound of 0.1" in " ".join(shown.split())
