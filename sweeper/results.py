"""The run folder: where a sweep's truth lies, written as trials finish."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from sweeper.records import EXTRA_COLUMNS, KEY_COLUMNS
from trainers.errors import ConfigError
from trainers.evaluation import METRICS
from trainers.files import write_text, write_with

_TEXT = ("trial_id", "config_id", "role", "status", "scenario", "attack", "defense", "error", "stage")
_WHOLE = ("target", "seed", "epoch", "images_seen", "n_eval", "attempt")
_TYPES = {
    **{name: pa.float64() for name in (*KEY_COLUMNS, *METRICS, *EXTRA_COLUMNS)},
    **{name: pa.string() for name in _TEXT},
    **{name: pa.int64() for name in _WHOLE},
    "weak_attack": pa.bool_(),
}
TABLE_COLUMNS = (*KEY_COLUMNS, *METRICS, *EXTRA_COLUMNS)


class RunFolder:
    """Names and files of ``runs/<name>/``.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self.sweep = path / "sweep.yaml"
        self.trials = path / "trials.parquet"
        self.curves = path / "curves.parquet"
        self.scores = path / "scores"
        self.states = path / "states"
        self.study = path / "study.db"
        self.deploy = path / "deploy.yaml"

    @classmethod
    def create(cls, path: Path) -> "RunFolder":
        """Make an empty run folder.

        Raises:
            ConfigError: it holds another sweep, or cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise ConfigError(f"{path} already holds files; give --out an empty or new folder.")
            write_text(path / ".writable", "")
            (path / ".writable").unlink()
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open the folder of an earlier sweep.

        Raises:
            ConfigError: it holds none.
        """
        folder = cls(path)
        if not folder.sweep.is_file() or not folder.trials.is_file():
            raise ConfigError(f"{path} holds no sweep: sweep.yaml and trials.parquet must be there.")
        return folder

    def write_sweep(self, content: Mapping[str, Any]) -> None:
        """Write ``sweep.yaml``: the resolved preset and where it came from."""
        write_text(self.sweep, yaml.safe_dump(dict(content), sort_keys=False))

    def read_sweep(self) -> dict[str, Any]:
        """Read ``sweep.yaml``.

        Raises:
            ConfigError: it is damaged.
        """
        try:
            content = yaml.safe_load(self.sweep.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{self.sweep} cannot be read: {str(error).splitlines()[0]}.") from error
        if not isinstance(content, dict) or "preset" not in content:
            raise ConfigError(f"{self.sweep} is no description of a sweep: it has no key preset.")
        return content

    def write_trials(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``trials.parquet``, whole."""
        write_table(self.trials, rows, TABLE_COLUMNS)

    def write_curves(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``curves.parquet``, whole."""
        write_table(self.curves, rows, ())

    def read_trials(self) -> pd.DataFrame:
        """Read ``trials.parquet``; nulls are ``None`` or NaN.

        Raises:
            ConfigError: it is damaged, or of another version.
        """
        frame = read_table(self.trials)
        missing = [name for name in TABLE_COLUMNS if name not in frame]
        if missing:
            raise ConfigError(f"{self.trials} is of another version: it has no column {missing[0]}.")
        return frame


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write ``rows`` as Parquet, whole or not at all; ``columns`` come first, then the others by name."""
    others = sorted({key for row in rows for key in row} - set(columns))
    arrays = {name: _array([row.get(name) for row in rows], _TYPES.get(name)) for name in (*columns, *others)}
    table = pa.table(arrays)
    write_with(path, lambda beside: pq.write_table(table, beside))


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


def as_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries of plain Python values, with every null as ``None``."""
    return [{str(k): _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def finished(frame: pd.DataFrame, role: str = "trial") -> pd.DataFrame:
    """The rows of FINISHED trials, or controls."""
    return frame[(frame["status"] == "FINISHED") & (frame["role"] == role)]
