"""Studies of a team in one database, where optuna-dashboard shows them beside each other.

A sweep's own study is a file in its run folder, and only its driver writes to it. What others look at is a copy of it.
"""

import os

import optuna
from optuna.storages import RDBStorage

from sweeper.run_folder.folder import RunFolder
from sweeper.tracking.store import reach, shorten, without_secret
from trainers.errors import ConfigError

VARIABLE = "OPTUNA_STORAGE"
"""Address of the database, as Optuna's own command line reads it; where it is not set, nothing is copied."""


def check_shared() -> None:
    """See whether the database of the environment answers; its tables are made if they are not there.

    Raises:
        ConfigError: it does not answer.
    """
    uri = os.environ.get(VARIABLE)
    if uri:
        _storage(uri).engine.dispose()


def share_study(folder: RunFolder) -> None:
    """Copy the study of a sweep into the database of the environment, in place of an earlier copy.

    Args:
        folder: the run folder. The copy has its name, and a part of the sweep's id, since folders of others may be
            called the same.

    Raises:
        ConfigError: the database does not take it.
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
