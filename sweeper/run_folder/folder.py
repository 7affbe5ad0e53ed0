"""The run folder, the authoritative copy of a sweep: MLflow and the Optuna study can be written again from it."""

import copy
import fcntl
import logging
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from sweeper.preset.objectives import Constraint
from sweeper.preset.spec import SweepSpec, validate
from sweeper.run_folder.class_columns import class_columns, with_class_columns
from sweeper.run_folder.record import KEY_COLUMNS, TrialRecord
from sweeper.run_folder.tables import (
    TABLE_COLUMNS,
    constraints_kept,
    read_table,
    table_of,
    with_excess_columns,
    with_trial_columns,
    write_table,
    write_tables_as_one,
)
from trainers.compute import amp_as_it_was
from trainers.data.findings import FILE as FINDINGS
from trainers.data.findings import Findings
from trainers.data.tree import folders_in
from trainers.errors import ConfigError
from trainers.storage.files import remove_leftovers, remove_tree, write_text, write_with
from trainers.storage.object_store import ObjectPath, Place, place

VERSION = 4
"""Version of the folder's layout. It is raised when an older program could misread what a newer one wrote. In version 1
a trial's trainings had no status of their own; in version 2 ``amp`` was true or false, and fewer keys said how to
compute; version 3 knew no replicates."""
KEYS = {"preset": dict, "sweep_id": str, "data_fingerprint": str, "data": dict, "provenance": dict}
"""Keys that every ``sweep.yaml`` holds, with their types."""
LOCK_FILE = ".lock"
PATIENCE_S = 0.5
"""Seconds for which a lock is tried."""

log = logging.getLogger(__name__)


class RunFolder:
    """Names and files of ``runs/<name>/``.

    Args:
        path: of the folder.
        store: its place in an object store that all hosts reach, with the states and a copy of the folder; null: all
            hosts see the folder itself.
    """

    def __init__(self, path: Path, store: ObjectPath | None = None):
        self.path = path
        self.store = store
        self.sweep = path / "sweep.yaml"
        self.trials = path / "trials.parquet"
        self.curves = path / "curves.parquet"
        self.records = path / "records"
        self.scores = path / "scores"
        self.states: Place = (store or path) / "states"
        self.trunks: Place = (store or path) / "trunks"
        self.study = path / "study.db"
        self.deploy = path / "deploy.yaml"
        self.report = path / "report.html"
        self.roc = path / "roc.png"
        self.data_findings = path / FINDINGS
        self.live = path / "live.json"
        self.record_written: Callable[[], None] = do_nothing
        """Called when a record was written."""
        self._ours = self._made = False
        self._validated: tuple[dict[str, Any], SweepSpec] | None = None

    @classmethod
    def create(cls, path: Path, store: ObjectPath | None = None) -> "RunFolder":
        """Make an empty run folder.

        Raises:
            ConfigError: the folder or its place in the store holds another sweep, or cannot be written.
        """
        made = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(entry.name != LOCK_FILE for entry in path.iterdir()):
                raise ConfigError(f"{path} already holds files; give --out an empty or new folder.")
        except OSError as error:
            raise _unwritable(path, error) from error
        folder = cls(path, store)
        folder._made = made
        folder.check_writable()  # also checks that the store answers
        if store is not None and (store / folder.sweep.name).exists():
            raise ConfigError(f"{store} already holds a sweep; give --out another name.")
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open the folder of an earlier sweep.

        Raises:
            ConfigError: it holds no sweep, one of another version, or a link. A folder may come from somebody else,
                whose links could make this program read, write or remove other files.
        """
        folder = cls(path)
        if not folder.sweep.is_file() or not folder.trials.is_file():
            raise ConfigError(f"{path} holds no sweep: {_why_no_sweep(path)}")
        _refuse_links(path)
        store = folder.read_sweep().get("store")
        if store is None:
            return folder
        at = place(str(store))
        if not isinstance(at, ObjectPath):
            raise ConfigError(f"{folder.sweep} names the store {store}, which is no valid address.")
        return cls(path, at)

    @property
    def absolute(self) -> "RunFolder":
        """The same folder by its absolute path, for threads: the working folder is another while Ray is started."""
        return RunFolder(self.path.resolve(), self.store)

    def check_writable(self) -> None:
        """Check that a file can be written into the folder, and into the store if there is one.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            write_text(self.path / ".writable", "")
            (self.path / ".writable").unlink()
        except OSError as error:
            raise _unwritable(self.path, error) from error
        if self.store is not None:
            try:
                write_text(self.store / ".writable", "")
                (self.store / ".writable").unlink()
            except (OSError, ValueError) as error:  # ValueError: no valid address
                raise ConfigError(f"{self.store} cannot be written: {error}") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder. The kernel unlocks it when this process ends, however it ends (over NFS, if the host went
        down: once the server notices).

        Raises:
            ConfigError: another process holds it, or it cannot be locked.
        """
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.fdopen(os.open(self.path / LOCK_FILE, flags, 0o644), "a+", encoding="utf-8", errors="replace")
        except OSError as error:
            raise _unwritable(self.path, error) from error
        with file:
            try:
                _take(file)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().strip()
                raise ConfigError(
                    f"{self.path} is in use by another process{f' ({holder})' if holder else ''}; wait for its end."
                ) from error
            except OSError as error:
                raise ConfigError(f"{self.path} cannot be locked: {error.strerror}.") from error
            with suppress(OSError):  # the holder's name is a convenience; a full disk must not stop a resume here
                file.truncate(0)
                file.write(f"process {os.getpid()} on {os.uname().nodename}")
                file.flush()
            self._ours = True
            try:
                yield
            finally:
                self._ours = False

    def holder(self) -> str | None:
        """The process that holds the folder now, as text; null if none does, or this object does."""
        if self._ours:
            return None
        try:
            with (self.path / LOCK_FILE).open(encoding="utf-8", errors="replace") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return file.read().strip() or "a process"
        except OSError:
            return None
        return None

    def held_since(self) -> float:
        """When the folder was last locked, in seconds since 1970; 0: never."""
        try:
            return (self.path / LOCK_FILE).stat().st_mtime
        except OSError:
            return 0.0

    def write_sweep(self, content: Mapping[str, Any]) -> None:
        """Write ``sweep.yaml``: the resolved preset and where it came from."""
        write_text(self.sweep, yaml.safe_dump({**content, "version": VERSION}, sort_keys=False))

    def read_sweep(self) -> dict[str, Any]:
        """Read ``sweep.yaml``.

        Raises:
            ConfigError: it is damaged, or of another version.
        """
        try:
            content = yaml.safe_load(self.sweep.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: no valid date
            raise ConfigError(f"{self.sweep} cannot be read: {str(error).splitlines()[0]}.") from error
        sweep: dict[str, Any] = content if isinstance(content, dict) else {}
        if "preset" in sweep and sweep.get("version") not in range(1, VERSION + 1):
            raise ConfigError(
                f"{self.sweep} has version {sweep.get('version')}, but this program reads versions up to {VERSION}."
            )
        for key, kind in KEYS.items():
            if not isinstance(sweep.get(key), kind):
                raise ConfigError(f"{self.sweep} is no description of a sweep: it has no key {key}, or a damaged one.")
        search = sweep["preset"].get("search", {})
        if isinstance(search, dict):
            search.pop("grace_epochs", None)  # of an earlier asha, which counted epochs
            if sweep.get("version") == 1:  # when there were no races; a part of a sweep without them goes on without
                sweep["preset"]["search"] = {"race": "off"} | search
        if type(sweep.setdefault("numerics", 1)) is not int:
            raise ConfigError(f"{self.sweep} is no description of a sweep: its key numerics is damaged.")
        if sweep.get("version") in (1, 2):
            sweep["preset"]["amp"] = amp_as_it_was(sweep["preset"].get("amp"))
            resources = sweep["preset"].get("resources", {})
            if isinstance(resources, dict) and resources.get("gpu") and sweep["preset"].get("device") != "cpu":
                sweep["numerics"] = 1  # CUDA has other kernels and passes since then
        return sweep

    @property
    def numerics(self) -> int:
        """The numerics (:data:`trainers.seeding.NUMERICS`) with which the sweep was trained.

        Raises:
            ConfigError: ``sweep.yaml`` is damaged.
        """
        numerics: int = self.read_sweep()["numerics"]
        return numerics

    def spec(self) -> SweepSpec:
        """The sweep as ``sweep.yaml`` describes it; the same description is validated once.

        Raises:
            ConfigError, PresetError: it is damaged, or of another version.
        """
        return self.validated(self.read_sweep()["preset"])

    def validated(self, preset: dict[str, Any]) -> SweepSpec:
        """The sweep that a preset describes, validated. The preset is in ``sweep.yaml``, or will be.

        Raises:
            ConfigError, PresetError: it is damaged.
        """
        if self._validated is None or self._validated[0] != preset:
            self._validated = copy.deepcopy(preset), validate(preset, str(self.sweep))
        return self._validated[1]

    def remember(self, preset: dict[str, Any], spec: SweepSpec) -> None:
        """Keep a sweep that was validated from this preset, so that it is not validated again."""
        self._validated = copy.deepcopy(preset), spec

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of the data; empty in a folder without a sweep.

        Raises:
            ConfigError: ``sweep.yaml`` is damaged.
        """
        names = self.read_sweep()["data"].get("class_names", []) if self.sweep.exists() else []
        return tuple(map(str, names))

    def write_record(self, record: TrialRecord) -> None:
        """Write the record of one trial, whole or not at all."""
        write_text(self.records / f"{record.trial_id}.json", record.to_json())
        self.record_written()

    def read_records(self) -> dict[str, TrialRecord]:
        """Read the records of all trials and controls, by their ids; leave out damaged ones, with a warning."""
        known = (self.read_record(path.stem) for path in sorted(self.records.glob("[!.]*.json")))
        return {record.trial_id: record for record in known if record is not None}

    def read_record(self, trial_id: str) -> TrialRecord | None:
        """Read the record of one trial or control; null, with a warning, if there is none or it is damaged."""
        path = self.records / f"{trial_id}.json"
        try:
            record = TrialRecord.from_json(path.read_text(encoding="utf-8"))
            if record.trial_id != trial_id:
                raise ValueError(f"it is that of {record.trial_id}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("%s is damaged and left out: %s", path, error)
            return None
        return record

    def write_data_findings(self, findings: Findings) -> list[str]:
        """Write ``data_findings.csv``: what was left out of the data and what is noteworthy, if there is any.

        Returns:
            The report for a screen, a line each.
        """
        table, lines = findings.table(), findings.lines()
        if table is None:
            self.data_findings.unlink(missing_ok=True)  # as when the training was begun with other data
            return lines
        write_text(self.data_findings, table)
        return [*lines, f"All are listed in {self.data_findings}"]

    @property
    def attack_cache(self) -> Place:
        """Folder of what attacks have trained: beside the run folders, as the tracking store, shared by all sweeps."""
        return (self.store or self.path.resolve()).parent / "attack-cache"

    def remove_leftovers(self) -> None:
        """Remove files that a killed process had not finished writing."""
        # A store keeps nothing half-written.
        own = [*self.states.glob("*"), self.trunks] if isinstance(self.states, Path) else []
        for folder in (self.path, self.records, self.scores, *own):
            if isinstance(folder, Path):
                remove_leftovers(folder)

    def remove_states_but(self, known: Container[str]) -> None:
        """Remove states of trainings that have ended, or whose records are gone: ids may be given to other settings."""
        for folder in self.states.glob("*"):
            if folder.name not in known:
                remove_tree(folder)

    def remove_trunk(self, file: str) -> None:
        """Remove the file of a trunk that nobody needs any more."""
        (self.trunks / file).unlink(missing_ok=True)

    def trunk_sizes(self) -> list[int]:
        """Sizes in bytes of the trunks that are kept; empty in a store, which is not asked."""
        sizes = []
        for path in self.trunks.glob("*.safetensors") if isinstance(self.trunks, Path) else ():
            with suppress(FileNotFoundError):  # one may be removed at this moment
                sizes.append(path.stat().st_size)
        return sizes

    def remove_trunks_but(self, files: Container[str]) -> None:
        """Remove the trunks that nobody needs any more, of an earlier part of the sweep."""
        for path in self.trunks.glob("*"):
            if path.name not in files:
                path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what was written for a sweep that did not begin."""
        for path in (self.sweep, self.trials, self.curves, self.study, self.data_findings):
            path.unlink(missing_ok=True)
            if self.store is not None:
                with suppress(OSError):
                    (self.store / path.name).unlink(missing_ok=True)
        if self._made:
            with suppress(OSError):  # the folder holds something else
                (self.path / LOCK_FILE).unlink(missing_ok=True)
                self.path.rmdir()

    def scores_of(self, trial_id: str, scenario: str, seed: int) -> Path:
        """The file of the per-sample scores of one run."""
        return self.scores / f"{trial_id}-{scenario}-{seed}.parquet"

    def write_scores(self, trial_id: str, scenario: str, seed: int, scores: pa.Table) -> None:
        """Write the per-sample scores of one run."""
        write_with(self.scores_of(trial_id, scenario, seed), lambda beside: pq.write_table(scores, beside))

    def write_tables(
        self,
        records: Iterable[TrialRecord],
        control_asr: dict[str, float | None],
        curves: Mapping[str, pa.Table] | None = None,
    ) -> None:
        """Write ``trials.parquet`` and ``curves.parquet`` from the records, whole.

        Args:
            records: of all trials and controls.
            control_asr: attack success of each finished control, by key of its configuration.
            curves: by trial id, the curves of those whose records have forgotten them.
        """
        records, known = list(records), curves or {}
        rows = [row for record in records for row in record.rows(control_asr)]
        write_table(self.trials, [row | class_columns(row, self.class_names) for row in rows], TABLE_COLUMNS)
        others = [row for record in records if record.trial_id not in known for row in record.curve_rows()]
        write_tables_as_one(self.curves, [*known.values(), table_of(others)])

    def read_trials(self) -> pd.DataFrame:
        """Read ``trials.parquet``; nulls are ``None`` or NaN, as are columns that an older version did not know.

        On top come ``constraints_kept``, whether the trial of a row keeps the constraints of the sweep, and, in tables
        of an older version, the status of trials, the excess of attack success over its floor, and the names of classes
        (:mod:`sweeper.run_folder.class_columns`).

        Raises:
            ConfigError: it is damaged, or of another version.
        """
        frame = with_trial_columns(read_table(self.trials))
        missing = [name for name in KEY_COLUMNS if name not in frame]
        if missing:
            raise ConfigError(f"{self.trials} is no table of trials: it has no column {missing[0]}.")
        frame = with_excess_columns(frame)
        frame = frame.assign(**{name: None for name in TABLE_COLUMNS if name not in frame})
        frame = with_class_columns(frame, self.class_names)
        known = self.read_sweep()["preset"].get("constraints", []) if self.sweep.exists() else []
        return frame.assign(constraints_kept=constraints_kept(frame, [Constraint(**fields) for fields in known]))


def _why_no_sweep(path: Path) -> str:
    """What a folder lacks, with the sweeps that lie in it, since users may give their parent."""
    if not path.is_dir():
        return "there is no such folder."
    inside = [child.name for child in folders_in(path) if (child / "sweep.yaml").is_file()]
    hint = f" There are sweeps in it: {', '.join(inside)}." if inside else ""
    return f"sweep.yaml and trials.parquet must be there.{hint}"


def _refuse_links(path: Path) -> None:
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            entry = Path(folder, name)
            if entry.is_symlink():
                raise ConfigError(f"{entry} is a link; put the file itself there, or remove it.")


def do_nothing() -> None:
    """Do nothing: the default of ``record_written``."""


def _take(file: IO[str]) -> None:
    """Lock a file; try for a moment, since :meth:`RunFolder.holder` may hold it briefly."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.05)


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path} cannot be written: {error.strerror}.")
