"""Two sweeps of a few trainings, with races off and on; figures that mean something come from the benchmark."""

from pathlib import Path

import pytest

from benchmarks import races_replay
from benchmarks.races import Outcome, main
from sweeper.run_folder.folder import RunFolder
from tests.sweeper.small import finish, fresh_store, record_of, spec_with, sweep_with

TWO = {"seeds": [0, 1], "search": {"interest": 0.5}}


def test_what_a_sweep_cost_and_found(tmp_path: Path) -> None:
    """A setting at accuracy 0.8 and excess 0.05, and one that left after one training of its two."""
    folder, spec = RunFolder.create(tmp_path / "run"), spec_with(**TWO)
    folder.write_sweep(sweep_with(**TWO))
    whole, left = finish(record_of(spec=spec), epochs=2), finish(record_of("t0001", spec=spec), epochs=2, val_asr=1.0)
    del left.epochs["badnets", 1]
    left.trainings["badnets", 1].status = left.status = "PRUNED"
    left.ended_by, left.error = "badnets", "It is beyond the interest."
    controls = []
    for number, key in enumerate(whole.controls.items()):
        control = record_of(f"c000{number}", "control", spec)
        control.controls = dict([key])
        control.config = whole.config.control(whole.config.scenarios[0], key[0][1], spec.control.as_dict())
        control.trainings = {key[0]: control.trainings["badnets", 0]}
        controls.append(finish(control, epochs=1, val_asr=1.0))
    records = {record.trial_id: record for record in (whole, left, *controls)}
    for record in records.values():
        folder.write_record(record)
    folder.write_tables(records.values(), dict.fromkeys(whole.controls.values(), 1.0))
    found = Outcome.of_folder(folder)
    assert (found.trainings, found.of) == (3, 4)
    assert found.images == pytest.approx((3 * 400 + 2 * 200) / 1e6)
    assert found.seconds == pytest.approx(3 * 1.0 + 2 * 0.5)
    assert found.below["val"] == pytest.approx(0.8 * (1 - 0.05 / 0.5))
    assert found.below["test"] == pytest.approx(0.79 * (1 - 0.06 / 0.5))
    assert found.broken == 0.0
    with pytest.raises(SystemExit, match="t0001 is PRUNED; every training is needed"):
        races_replay.main([str(folder.path)])


@pytest.mark.ray
@pytest.mark.long
def test_both_sweeps_run(
    tmp_path: Path, ray_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(ray_home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    assert main(["--data", "shapes", "--out", str(tmp_path / "races"), "--small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[-2:]] == ["off", "learned"]
    assert lines[-2].split("|")[2].strip() == "24 of 24"
    # The trainings of the first, replayed.
    assert races_replay.main([str(tmp_path / "races" / "off"), "--orders", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == len(races_replay.SHOWN) * len(races_replay.INTERESTS)
    for line in lines:
        assert 0 < float(line.split("|")[4].split("±")[0]) <= 1
        assert float(line.split("|")[6].split("(")[0]) <= 1
