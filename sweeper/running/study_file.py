"""The file of a sweep's study, which only the driver writes to."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from sqlalchemy import event

from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import TrialRecord
from sweeper.search.study import fill_study, make_sampler, sampler_notes
from trainers.storage.files import replacing


def open_study(spec: SweepSpec, database: Path, records: Mapping[str, TrialRecord] | None = None) -> optuna.Study:
    """Create the study of a sweep in a SQLite file of its own.

    With the ``records`` of an earlier part of the sweep, the study is written again from them
    (:func:`sweeper.search.study.fill_study`). From an earlier file, only the sampler's notes on its trials are kept.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Optuna calls conditional samplers and constraints experimental; the user can do nothing about that.
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    notes = _notes_in(database, spec.name) if database.exists() else {}
    with replacing(database) as beside:
        storage = _storage(beside)
        study = optuna.create_study(
            storage=storage, study_name=spec.name, directions=[objective.direction for objective in spec.objectives]
        )
        known = fill_study(study, spec, (records or {}).values(), notes)
        storage.engine.dispose()
    return optuna.load_study(study_name=spec.name, storage=_storage(database), sampler=make_sampler(spec, known))


def _storage(database: Path) -> RDBStorage:
    """The storage in a file. The disk is not waited for, which takes longer than most of what a sampler does: if the
    machine loses its power, the study is written again from the records.
    """
    storage = RDBStorage(f"sqlite:///{database}")
    event.listen(storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    storage.engine.dispose()  # connections made before
    return storage


def _notes_in(database: Path, name: str) -> dict[int, dict[str, Any]]:
    """The sampler's notes in the file of a study; none if the file is damaged."""
    storage = None
    try:
        storage = RDBStorage(f"sqlite:///{database}")
        return sampler_notes(optuna.load_study(study_name=name, storage=storage))
    except Exception:  # noqa: BLE001  # a damaged file raises whatever its driver raises
        return {}
    finally:
        if storage is not None:
            storage.engine.dispose()
