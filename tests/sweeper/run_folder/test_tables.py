from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeper.preset.objectives import Constraint
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.tables import TABLE_COLUMNS, as_rows, constraints_kept, finished, read_table, write_table
from tests.sweeper.small import control_row, finish, frame_of, record_of, row_with, spec_with, write_rows
from trainers.errors import ConfigError

KEYS = "trial_id config_id role status trial_status scenario attack poison_rate poison_share target seed defense"
FIGURES = (
    "epoch loss images_seen seconds seconds_shared val_acc val_balanced_acc val_min_class_acc val_asr "
    "val_asr_excess val_ra asr_floor test_acc test_balanced_acc test_min_class_acc test_asr test_asr_excess "
    "test_ra test_asr_floor detection_auroc detection_tpr detection_fpr credible_share credible_min_class_share "
    "poison_in_credible"
)
EXTRAS = "control_asr weak_attack n_eval val_class_counts changed_share psnr ssim error trial_error attempt"
DESIGN = f"{KEYS} {FIGURES} {EXTRAS}".split()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


def test_columns_and_types(folder: RunFolder) -> None:
    trial = finish(record_of("t0000"))
    folder.write_tables([trial], {})
    schema = pq.read_schema(folder.trials)
    assert list(TABLE_COLUMNS) == DESIGN
    assert schema.names[: len(DESIGN)] == DESIGN
    rest = schema.names[len(DESIGN) :]
    assert rest == sorted(rest)
    assert {n for n in rest if not n.startswith("param.")} == {"class.target"}
    assert set(rest) - {"class.target"} == {f"param.defense.{k}" for k in trial.config.params} | {
        f"param.scenario.{k}" for k in trial.config.scenarios[0].params
    }
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    assert {kinds[n] for n in ("trial_id", "config_id", "role", "status", "trial_status", "error", "trial_error",
                               "val_class_counts")} == {"string"}  # fmt: skip
    assert {kinds[n] for n in ("target", "seed", "epoch", "images_seen", "n_eval", "attempt")} == {"int64"}
    assert {kinds[n] for n in ("poison_rate", "val_acc", "val_asr", "loss", "val_min_class_acc", "control_asr")} == {
        "double"
    }
    assert kinds["weak_attack"] == "bool"
    assert (kinds["param.defense.threshold"], kinds["param.defense.mixing"]) == ("double", "string")


def test_an_empty_table_has_its_columns_and_types(folder: RunFolder) -> None:
    write_rows(folder, [])
    assert pq.read_schema(folder.trials).names == DESIGN
    assert len(folder.read_trials()) == 0
    assert finished(folder.read_trials()).empty


def test_rows_come_back_as_they_went(folder: RunFolder) -> None:
    rows = [row_with("t0"), control_row(), row_with("t1", status="FAILED", val_acc=None, error="The loss is nan.")]
    write_rows(folder, rows)
    back = as_rows(folder.read_trials())
    for row, found in zip(rows, back, strict=True):
        assert {key: found[key] for key in DESIGN} == {key: row[key] for key in DESIGN}


def test_parameters_of_several_kinds_become_json(folder: RunFolder) -> None:
    values = [3, "three", None, [1, 2], True]
    write_rows(folder, [row_with(f"t{i}", **{"param.defense.x": value}) for i, value in enumerate(values)])
    column = pq.read_table(folder.trials)["param.defense.x"].to_pylist()
    assert column == ["3", '"three"', None, "[1, 2]", "true"]


@pytest.mark.parametrize(
    ("values", "kind", "back"),
    [
        ([1, 2], "int64", [1, 2]),
        ([1, None], "int64", [1, None]),
        ([1, 0.5], "double", [1.0, 0.5]),
        ([True, False, None], "bool", [True, False, None]),
        (["a", None], "string", ["a", None]),
        ([None, None], "null", [None, None]),
        ([True, 1], "string", ["true", "1"]),
        ([(0.5,), (0.25, 0.5)], "string", ["[0.5]", "[0.25, 0.5]"]),
    ],
)
def test_a_parameter_column_has_the_type_of_its_values(
    tmp_path: Path, values: list[Any], kind: str, back: list[Any]
) -> None:
    path = tmp_path / "x.parquet"
    write_table(path, [{"id": i, "x": value} for i, value in enumerate(values)], ("id",))
    table = pq.read_table(path)
    assert (str(table.schema.field("x").type), table["x"].to_pylist()) == (kind, back)


def test_a_failed_write_leaves_the_old_table(folder: RunFolder) -> None:
    write_rows(folder, [row_with("t0")])
    before = folder.trials.read_bytes()
    with pytest.raises(pa.ArrowException):
        write_rows(folder, [row_with("t1", target="not a number")])
    assert folder.trials.read_bytes() == before
    write_rows(folder, [row_with("t0"), row_with("t1")])
    assert len(folder.read_trials()) == 2
    assert sorted(path.name for path in folder.path.iterdir()) == ["trials.parquet"]


def test_tables_are_written_from_the_records(folder: RunFolder) -> None:
    record = finish(record_of(spec=spec_with(seeds=[0, 1])), epochs=3)
    folder.write_tables([record], {})
    frame = read_table(folder.curves)
    assert len(frame) == 6
    assert frame.groupby("seed")["epoch"].apply(list).tolist() == [[1, 2, 3], [1, 2, 3]]
    assert {"trial_id", "config_id", "role", "scenario", "seed", "stage", "loss", "val_acc"} <= set(frame.columns)
    assert folder.read_trials()["seed"].tolist() == [0, 1]
    folder.write_tables([], {})
    assert len(read_table(folder.curves)) == len(folder.read_trials()) == 0


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table at all", None])
def test_a_damaged_table_is_a_sentence(folder: RunFolder, content: bytes | None) -> None:
    if content is not None:
        folder.trials.write_bytes(content)
    with pytest.raises(ConfigError, match=r"trials\.parquet cannot be read: ") as caught:
        folder.read_trials()
    assert "\n" not in str(caught.value)


def test_half_a_table_is_a_sentence(folder: RunFolder) -> None:
    write_rows(folder, [row_with(f"t{i}") for i in range(20)])
    content = folder.trials.read_bytes()
    folder.trials.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match="cannot be read"):
        folder.read_trials()


def test_a_table_of_another_version_is_a_sentence(folder: RunFolder) -> None:
    write_table(folder.trials, [{"trial_id": "t0"}], ("trial_id",))
    with pytest.raises(ConfigError, match="is no table of trials: it has no column config_id"):
        folder.read_trials()


def test_every_kind_of_null_is_none() -> None:
    frame = pd.DataFrame({"a": [None, "x"], "b": [np.nan, 1.0], "c": pd.array([None, 1], dtype="Int64")})
    assert as_rows(frame) == [{"a": None, "b": None, "c": None}, {"a": "x", "b": 1.0, "c": 1}]


def test_a_column_that_the_first_row_lacks_is_written_too(tmp_path: Path) -> None:
    """Of another defense, say."""
    write_table(tmp_path / "x.parquet", [{"id": 0}, {"id": 1, "z": 2}, {"id": 2, "a": 3}], ("id",))
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.schema.names == ["id", "a", "z"]
    assert (table["a"].to_pylist(), table["z"].to_pylist()) == ([None, None, 3], [None, 2, None])


def test_only_what_finished_in_its_role_counts() -> None:
    rows = [row_with(f"t{n}", status=status) for n, status in enumerate(("FINISHED", "PRUNED", "FAILED", "RUNNING"))]
    rows += [control_row(), row_with("k0", role="confirmation")]
    rows += [row_with("t4", status="FINISHED", trial_status="PRUNED")]  # it left its race
    for role, names in (("trial", ["t0"]), ("control", ["c0000"]), ("confirmation", ["k0"])):
        assert finished(frame_of(*rows), role)["trial_id"].tolist() == names
    assert finished(frame_of(*rows))["trial_id"].tolist() == ["t0"]


def test_a_trial_keeps_the_constraints_if_all_its_rows_keep_all_of_them() -> None:
    cheap, accurate = (
        Constraint(metric="images_seen", max=500, aggregate="worst"),
        Constraint(metric="val_acc", min=0.5),
    )
    seen = {"t0": (500, 1, 0.5), "t1": (1, 501, 0.9), "t2": (1, 1, 0.4)}
    rows = [
        row_with(trial, scenario=scenario, images_seen=images, val_acc=acc)
        for trial, (first, second, acc) in seen.items()
        for scenario, images in (("a", first), ("b", second))
    ]
    rows.append(row_with("k0", scenario="a", images_seen=900, role="confirmation"))
    kept = constraints_kept(frame_of(*rows), [cheap, accurate])
    assert kept.tolist() == [True, True, False, False, False, False, False]


def test_controls_and_trials_that_did_not_finish_break_no_constraint() -> None:
    rows = [control_row(images_seen=900), row_with("t0", status="FAILED", images_seen=None),
            row_with("t1", trial_status="PRUNED", images_seen=900)]  # fmt: skip
    assert constraints_kept(frame_of(*rows), [Constraint(metric="images_seen", max=500)]).all()
    assert constraints_kept(frame_of(row_with(images_seen=900)), []).all()
