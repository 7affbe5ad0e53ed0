"""Small runs of what measures trunks; figures that mean something come from the benchmarks."""

from pathlib import Path

import pytest

from benchmarks import branches, trunks
from search_spaces.loader import read_preset
from sweeper.preset.spec import validate
from sweeper.run_folder.folder import RunFolder
from sweeper.search.trunks import grid_in_groups
from tests.sweeper.small import control_row, fresh_store, row_with, sweep_with, write_rows


def test_a_grid_has_four_settings_of_each_defense_that_differ_late() -> None:
    names = {block["name"] for block in read_preset("defenses_cifar10.yaml")["defense"]}
    assert set(trunks.LATE) == names
    spec = validate(trunks.preset_of(4, "shapes", small=True), "trunks")
    assert sorted(len(group) for group in grid_in_groups(spec)) == [4] * 5


def test_what_a_search_tried_and_found(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.write_sweep(sweep_with())
    write_rows(folder, [
        control_row(seconds=60.0, seconds_shared=0.0),
        row_with("t0000", val_acc=0.8, val_asr=0.05, test_acc=0.7, test_asr=0.06, seconds=120.0, seconds_shared=0.0),
        row_with("t0001", val_acc=0.7, val_asr=0.05, test_acc=0.9, test_asr=0.06, seconds=120.0, seconds_shared=90.0),
        row_with("t0002", status="PRUNED", trial_error="It is beyond the interest."),
    ])  # fmt: skip
    found = branches.row(4, folder)
    assert found == ["4", "3", "2", "2, 1 from a trunk", "3.5", "1.5", "0.800", "0.700"]


@pytest.mark.ray
@pytest.mark.long
def test_the_rows_are_compared(
    tmp_path: Path, ray_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(ray_home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    assert trunks.main(["--out", str(tmp_path / "trunks"), "--small"]) == 0
    lines = capsys.readouterr().out.splitlines()[-5:]
    assert [[cell.strip() for cell in line.split("|")[1:5]] for line in lines] == [
        [name, "8", "the same", "the same"] for name in trunks.LATE
    ]


@pytest.mark.ray
@pytest.mark.long
def test_both_searches_run(tmp_path: Path, ray_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(ray_home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "mlflow.db"))
    for number in ("1", "4"):
        options = ["--data", "shapes", "--out", str(tmp_path / "branches"), "--small", "--minutes", "5"]
        assert branches.main([*options, "--only", number]) == 0
        found = branches.row(int(number), RunFolder.open(tmp_path / "branches" / number / "sweep"))
        assert found[1] == "4"
