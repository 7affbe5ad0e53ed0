"""What defenses cost on clean data, so small that no figure means something."""

from pathlib import Path

import pytest

from benchmarks import clean_cost, trainings
from sweeper.preset.spec import validate
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TrialRecord
from tests.benchmarks.here import Here
from tests.sweeper.small import ONE_SETTING, finish, sweep_with

DEFENSES = [ONE_SETTING, {"name": "none", "epochs": 2, "lr": 0.05, "batch_size": 64}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two defenses with a setting each."""
    sweep = sweep_with(defense=DEFENSES, search={"sampler": "random", "trials": 2, "defenses": "turns"})
    spec = validate(sweep["preset"], "preset")
    made = RunFolder.create(tmp_path / "run")
    made.write_sweep(sweep)
    records = []
    for number, kind in enumerate(("vab", "none")):
        config = spec.trial(lambda _key, _searched, kind=kind: kind, "data")
        name = f"t000{number}"
        records.append(finish(TrialRecord(name, "trial", config, {("badnets", 0): name})))
        made.write_record(records[-1])
    made.write_tables(records, {"t0000": 1.0, "t0001": 1.0})
    return tmp_path / "run"


def test_each_setting_beside_no_defense(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trainings, "ProcessPoolExecutor", Here)
    accuracies = {("none", 5): 0.9, ("none", 6): 0.8, ("vab", 5): 0.7, ("vab", 6): 0.7}
    seen: list[trainings.Job] = []
    work = clean_cost.run

    def run(job: trainings.Job) -> clean_cost.Cost:
        seen.append(job)
        cost = work(job) if len(seen) < 3 else None
        assert cost is None or 0 <= cost.val_acc <= 1
        return clean_cost.Cost(job.label, job.config.repeats[0], accuracies[job.label, job.config.repeats[0]], 400, 1.0)

    monkeypatch.setattr(clean_cost, "run", run)
    assert clean_cost.main([str(folder), "--seeds", "5", "6", "--workers", "1"]) == 0
    assert all(job.config.scenarios[0].poison_rate == 0 for job in seen)
    lines = capsys.readouterr().out.splitlines()
    (vab,) = [line for line in lines if line.startswith("| vab ")]
    assert "0.150 ± 0.071" in vab, "lost 0.2 and 0.1"


def test_what_makes_no_sense_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (([str(folder), "--seeds", "0"], "the search has used 0"), ([str(tmp_path)], str(tmp_path))):
        with pytest.raises(SystemExit) as caught:
            clean_cost.main(arguments)
        assert caught.value.code == 2
        assert text in capsys.readouterr().err
