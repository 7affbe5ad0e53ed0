"""Reads and writes tables: ``trials.parquet``, ``curves.parquet`` and those made from them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sweeper.preset.objectives import Constraint
from sweeper.run_folder.record import CONTROL, EXCESS, EXTRA_COLUMNS, FINISHED, KEY_COLUMNS
from trainers.defenses import DEFENSES
from trainers.errors import ConfigError
from trainers.measuring.evaluation import METRICS
from trainers.params import Parameters
from trainers.storage.files import write_with
from trainers.text import printable

_TEXT = (
    "trial_id",
    "config_id",
    "role",
    "status",
    "trial_status",
    "trial_error",
    "scenario",
    "attack",
    "defense",
    "error",
    "stage",
    "val_class_counts",
)
_WHOLE = ("target", "seed", "epoch", "images_seen", "n_eval", "attempt")
_TYPES = {
    **{name: pa.float64() for name in (*KEY_COLUMNS, *METRICS, *EXTRA_COLUMNS)},
    **{name: pa.string() for name in _TEXT},
    **{name: pa.int64() for name in _WHOLE},
    "weak_attack": pa.bool_(),
}
TABLE_COLUMNS = (*KEY_COLUMNS, *METRICS, *EXTRA_COLUMNS)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write ``rows`` as Parquet, whole or not at all; ``columns`` come first, then the others by name."""
    write_with(path, lambda beside: pq.write_table(table_of(rows, columns), beside))


def write_tables_as_one(path: Path, tables: Sequence[pa.Table]) -> None:
    """Write the rows of several tables as one Parquet table, whole or not at all; what one lacks is null."""
    whole = pa.concat_tables(tables, promote_options="default")
    write_with(path, lambda beside: pq.write_table(whole, beside))


def table_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> pa.Table:
    """``rows`` as a table; ``columns`` come first, then the others by name."""
    others = sorted({key for row in rows for key in row} - set(columns))
    return pa.table({name: _array([row.get(name) for row in rows], _TYPES.get(name)) for name in (*columns, *others)})


def _array(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    """A column; where values of several kinds meet (parameters of several defenses, lists), their JSON."""
    if kind is not None:
        return pa.array(values, type=kind)
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or (len(kinds) == 1 and kinds <= {bool, str}):
        return pa.array(values, type=pa.float64() if float in kinds else None)
    return pa.array([None if value is None else json.dumps(value) for value in values], type=pa.string())


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    try:
        # Whole numbers stay whole beside nulls, where pandas' default would make them floats.
        frame: pd.DataFrame = pq.read_table(path).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}.") from error
    return frame


def with_trial_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``trials.parquet`` with the status of their trials; earlier versions had one for all its trainings."""
    own = {"trial_status": "status", "trial_error": "error"}
    return frame.assign(**{name: frame[known] for name, known in own.items() if name not in frame and known in frame})


def with_excess_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``trials.parquet`` with the excess of attack success over its floor; earlier versions did not have it."""
    for name, (asr, floor) in EXCESS.items():
        if name not in frame and {asr, floor} <= set(frame):
            difference = frame[asr].astype(float) - frame[floor].astype(float)
            frame = frame.assign(**{name: difference.clip(lower=0)})
    return frame


def as_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries of plain Python values, with every null as ``None``."""
    return [{str(k): _python_value(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _python_value(value: Any) -> Any:
    """A cell as a plain Python value; ``None`` for a null."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def class_counts(text: object) -> dict[str, tuple[int, int]]:
    """Images classified rightly, and images, of each class, from a cell of the column ``val_class_counts``.

    Empty where the cell is null, as in rows of earlier versions, or holds anything else.
    """
    if not isinstance(text, str):
        return {}
    try:
        return {printable(str(name)): (int(right), int(images)) for name, right, images in json.loads(text)}
    except (ValueError, TypeError, RecursionError):
        return {}


def finished(frame: pd.DataFrame, role: str = "trial") -> pd.DataFrame:
    """The rows of FINISHED trials of one role. Trainings that finished of other trials are not among them."""
    return frame[(frame["trial_status"] == FINISHED) & (frame["role"] == role)]


def constraints_kept(frame: pd.DataFrame, constraints: Sequence[Constraint]) -> pd.Series:
    """Whether the trial of each row keeps all constraints: bool, of the index of ``frame``.

    Args:
        frame: rows of ``trials.parquet``.
        constraints: of the sweep. Rows of controls, and of trials that did not finish, count as keeping them.
    """
    kept = pd.Series(True, index=frame.index)
    if constraints:
        for _, rows in frame[(frame["trial_status"] == FINISHED) & (frame["role"] != CONTROL)].groupby("trial_id"):
            plain = as_rows(rows)
            kept.loc[rows.index] = all(constraint.violation(plain) <= 0 for constraint in constraints)
    return kept


def setting_params(row: dict[str, Any]) -> dict[str, Any]:
    """The defense's parameters of a row of ``trials.parquet``."""
    kind = DEFENSES[row["defense"]].Params
    columns = {key: f"param.defense.{key}" for key in kind.keys()}
    return {key: _as_declared(kind, key, row[column]) for key, column in columns.items() if column in row}


def _as_declared(kind: type[Parameters], key: str, value: Any) -> Any:
    """A table's value in the type that the parameter declares: beside nulls tables make whole numbers floats, and lists
    are kept as JSON.
    """
    options = [value]
    if isinstance(value, float) and value.is_integer():
        options.append(int(value))
    if isinstance(value, str):
        with suppress(ValueError):
            options.append(json.loads(value))
    for option in options:
        with suppress(ConfigError):
            known = kind.check(key, option)
            return list(known) if isinstance(known, tuple) else known
    return value
