"""Copies of a team's studies in one database, where optuna-dashboard shows them beside each other.

A sweep's own study is a file in its run folder, to which only its driver writes. Others look at the copy.
"""

import os

import optuna
from optuna.storages import RDBStorage

from sweeper.run_folder.folder import RunFolder
from sweeper.tracking.store import reach, shorten, without_secret
from trainers.errors import ConfigError

VARIABLE = "OPTUNA_STORAGE"
"""Environment variable with the address of the database, as in Optuna's command line; if unset, nothing is copied."""


def check_shared() -> None:
    """Check that the database in :data:`VARIABLE` answers; make its tables if they do not exist.

    Raises:
        ConfigError: it does not answer.
    """
    uri = os.environ.get(VARIABLE)
    if uri:
        _storage(uri).engine.dispose()


def share_study(folder: RunFolder) -> None:
    """Copy the study of a sweep into the database in :data:`VARIABLE`, in place of an earlier copy.

    Args:
        folder: the run folder. The copy is named after it and a part of the sweep's id, since other people's folders
            may have the same name.

    Raises:
        ConfigError: the study cannot be copied.
    """
    uri = os.environ.get(VARIABLE)
    if not uri:
        return
    sweep = folder.read_sweep()
    name = f"{folder.path.resolve().name}-{sweep['sweep_id'][:8]}"
    shared = _storage(uri)
    try:
        own = f"sqlite:///{folder.study}"
        optuna.load_study(study_name=sweep["preset"]["name"], storage=own)  # before an earlier copy is deleted
        if name in optuna.get_all_study_names(shared):
            optuna.delete_study(study_name=name, storage=shared)
        optuna.copy_study(
            from_study_name=sweep["preset"]["name"], from_storage=own, to_storage=shared, to_study_name=name
        )
    except Exception as error:
        raise _refused(uri, error) from error
    finally:
        shared.engine.dispose()


def _storage(uri: str) -> RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        reach(uri)
        return RDBStorage(uri)
    except Exception as error:
        raise _refused(uri, error) from error


def _refused(uri: str, error: Exception) -> ConfigError:
    return ConfigError(f"The study cannot be copied to {VARIABLE}, {without_secret(uri)}: {shorten(error)}")
