from pathlib import Path

import optuna
import pytest
from optuna.storages._cached_storage import _CachedStorage

from sweeper.running.study_file import open_study
from tests.sweeper.small import finish, record_of, spec_with


def test_the_study_of_a_resumed_sweep_says_what_ended_and_what_goes_on(tmp_path: pytest.TempPathFactory) -> None:
    database = tmp_path / "study.db"
    spec = spec_with(search={"sampler": "random", "trials": 3})
    open_study(spec, database)
    ended, open_ = finish(record_of("t0000"), val_acc=0.75, val_asr=0.25), record_of("t0002")
    open_study(spec, database, {record.trial_id: record for record in (ended, open_)})
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{database}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "WAITING", "WAITING"]
    assert study.trials[0].values == pytest.approx([0.75, 0.25 - 0.05])
    assert study.trials[2].system_attrs["fixed_params"] == open_.searched


def test_what_a_sampler_noted_is_taken_over_and_a_damaged_file_is_no_hindrance(
    tmp_path: pytest.TempPathFactory,
) -> None:
    database = tmp_path / "study.db"
    spec = spec_with(search={"sampler": "nsga2", "trials": 8})
    study = open_study(spec, database)
    for number in range(2):
        trial = study.ask()
        assert trial.number == number
        trial.set_user_attr("trial_id", f"t000{number}")
        trial.storage.set_trial_system_attr(trial._trial_id, "nsga2:generation", 7)
    records = {f"t000{number}": finish(record_of(f"t000{number}")) for number in range(2)}
    again = open_study(spec, database, records)
    assert [trial.system_attrs["nsga2:generation"] for trial in again.trials] == [7, 7]
    database.write_bytes(b"no database")
    assert [trial.system_attrs for trial in open_study(spec, database, records).trials] == [{}, {}]


def test_the_disk_is_not_waited_for(tmp_path: Path) -> None:
    study = open_study(spec_with(), tmp_path / "study.db")
    storage = study._storage
    assert isinstance(storage, _CachedStorage)
    with storage._backend.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 0
