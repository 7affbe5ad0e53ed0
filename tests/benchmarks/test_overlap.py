"""A leading attacker against plain Blend, on data and training too small for any figure to mean something."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import overlap, trainings
from sweeper.preset.spec import SweepSpec, validate
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord
from tests.benchmarks.here import Here
from tests.sweeper.small import finish, make_objectives, sweep_with

ATTACKER: dict[str, Any] = {
    "attack": "entropy_aware", "poison_rate": {"float": [0.05, 0.2]}, "target": 1, "alpha": 0.35, "cover_rate": 0.05,
    "rounds": 1, "surrogate_steps": 2,
}  # fmt: skip
SWEEP = sweep_with(
    scenarios=[ATTACKER],
    defense={"name": "vab", "warmup_steps": 2, "warmup_rounds": 1, "mix_epochs": 1, "suppression_epochs": 1},
    objectives=make_objectives(("val_asr", "maximize"), ("poison_rate", "minimize")),
    constraints=[{"metric": "control_asr", "min": 0.8}],
)


def trial(spec: SweepSpec, name: str, rate: float, asr: float) -> TrialRecord:
    config = spec.trial(lambda key, searched: rate if key.endswith("poison_rate") else searched.corners()[0], "data")
    record = TrialRecord(name, "trial", config, dict.fromkeys(((s.name, r) for s, r in config.runs()), name))
    return finish(record, val_asr=asr)


def sweep_in(path: Path, sweep: dict[str, Any], control_asr: float = 0.9) -> Path:
    """A sweep of three attackers: t0000 leads by its rate, t0001 by its success, t0002 is beaten by both."""
    spec = validate(sweep["preset"], "preset")
    records = [trial(spec, "t0000", 0.05, 0.5), trial(spec, "t0001", 0.1, 0.9), trial(spec, "t0002", 0.15, 0.4)]
    folder = RunFolder.create(path)
    folder.write_sweep(sweep)
    for record in records:
        folder.write_record(record)
    folder.write_tables(records, dict.fromkeys(("t0000", "t0001", "t0002"), control_asr))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sweep_in(tmp_path / "run", SWEEP)


def test_the_leader_and_blend_at_its_rate_and_opacity(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, Any]] = []
    work = overlap.run
    monkeypatch.setattr(trainings, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(overlap, "run", lambda job: seen.append(work(job)) or seen[-1])
    picture = tmp_path / "overlap.png"
    assert overlap.main([str(folder), "--seeds", "5", "6", "--workers", "1", "--picture", str(picture)]) == 0
    assert [(row["label"], row["seed"]) for row in seen] == [
        ("plain blend", 5), ("plain blend", 6), ("entropy_aware", 5), ("entropy_aware", 6),
    ]  # fmt: skip
    for row in seen:
        # 200 images, a tenth of them poisoned.
        assert (len(row["clean"]), len(row["poisoned"])) == (180, 20)
        both = np.concatenate([row["clean"], row["poisoned"]])
        assert (both.min(), both.max()) == (0, 1)
        # What the picture shows is what the AUROC says: the share of pairs in which the poisoned one is more certain.
        pairs = row["clean"][:, None] - row["poisoned"][None, :]
        assert row["detection_auroc"] == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean(), abs=1e-3)
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert shown.startswith("t0001: rate 0.1,")
    for label in ("plain blend", "entropy_aware"):
        (line,) = [line for line in shown.splitlines() if line.startswith(f"| {label} ")]
        assert line.count("±") == len(overlap.FIGURES)


def test_both_meet_the_same_defense_and_seeds() -> None:
    spec = validate(SWEEP["preset"], "preset")
    leader = trial(spec, "t0001", 0.1, 0.9).config
    assert leader is not None
    plain, own = overlap.jobs(SWEEP["preset"], spec, leader, [7])
    (blend,), (attacker,) = plain.config.scenarios, own.config.scenarios
    assert (blend.attack, blend.poison_rate, blend.target, blend.labels) == ("blend", 0.1, 1, attacker.labels)
    assert blend.params["alpha"] == attacker.params["alpha"] == 0.35
    assert attacker == leader.scenarios[0]
    assert (plain.config.params, plain.config.repeats) == (own.config.params, own.config.repeats) == (
        leader.params, (7,),
    )  # fmt: skip
    for job in (plain, own):
        assert job.control is not None
        assert (job.control.defense, job.control.scenarios, job.control.repeats) == (
            "none",
            job.config.scenarios,
            (7,),
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0", "1"], "--seeds: the search has used 0; fresh ones are needed"),
        (["--trial", "t0009"], "has no attacker t0009"),
    ],
)
def test_what_makes_no_sense_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        overlap.main([str(folder), *options])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_sweep_whose_attackers_all_broke_the_constraint_has_no_leader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        overlap.main([str(sweep_in(tmp_path / "run", SWEEP, control_asr=0.5))])
    assert "has no attacker that leads" in capsys.readouterr().err


def test_an_attack_that_blends_nothing_has_no_such_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patches = {"attack": "badnets", "poison_rate": {"float": [0.05, 0.2]}, "target": 1}
    preset = SWEEP["preset"] | {"scenarios": [patches]}
    with pytest.raises(SystemExit):
        overlap.main([str(sweep_in(tmp_path / "run", SWEEP | {"preset": preset}))])
    assert "badnets of t0001 blends no pattern" in capsys.readouterr().err


def test_a_folder_without_a_sweep_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        overlap.main([str(tmp_path)])
    assert caught.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err
