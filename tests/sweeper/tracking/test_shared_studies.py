"""Copies of studies in the database of a team."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from sweeper.run_folder.folder import RunFolder
from sweeper.running.study_file import open_study
from sweeper.tracking.shared_studies import check_shared, share_study
from tests.sweeper.small import finish, record_of, spec_with, sweep_with
from trainers.errors import ConfigError


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{tmp_path}/team.db"
    monkeypatch.setenv("OPTUNA_STORAGE", uri)
    return uri


def folder_with(path: Path, trials: int, sweep_id: str = "one") -> RunFolder:
    path.mkdir(exist_ok=True, parents=True)
    folder = RunFolder(path)
    folder.write_sweep(sweep_with(sweep_id))
    records = [finish(record_of(f"t000{number}")) for number in range(trials)]
    for record in records:
        folder.write_record(record)
    open_study(
        spec_with(constraints=[{"metric": "val_acc", "min": 0.75}]), folder.study, {r.trial_id: r for r in records}
    )
    return folder


def test_a_study_is_copied_under_the_name_of_its_folder_and_replaces_its_last_copy(
    tmp_path: Path, database: str
) -> None:
    share_study(folder_with(tmp_path / "one", 1, "a" * 32))
    share_study(folder_with(tmp_path / "elsewhere" / "one", 1, "b" * 32))
    share_study(folder_with(tmp_path / "one", 3, "a" * 32))
    assert sorted(optuna.get_all_study_names(database)) == ["one-aaaaaaaa", "one-bbbbbbbb"]
    copy = optuna.load_study(study_name="one-aaaaaaaa", storage=database)
    own = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path}/one/study.db")
    assert [trial.state for trial in copy.trials] == [TrialState.COMPLETE] * 3
    assert [(t.values, t.params, t.constraints) for t in copy.trials] == [
        (t.values, t.params, t.constraints) for t in own.trials
    ]
    assert all(trial.constraints for trial in copy.trials)
    assert copy.directions == own.directions


def test_a_study_that_cannot_be_copied_is_said_in_a_sentence(tmp_path: Path, database: str) -> None:
    folder = folder_with(tmp_path / "one", 2)
    share_study(folder)
    folder.study.write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"The study cannot be copied to OPTUNA_STORAGE, sqlite:///.*team.db: "):
        share_study(folder)
    (name,) = optuna.get_all_study_names(database)
    assert len(optuna.load_study(study_name=name, storage=database).trials) == 2, "the earlier copy is there"


def test_a_database_that_is_away_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql+psycopg://optuna:secret@127.0.0.1:1/optuna")
    with pytest.raises(
        ConfigError, match=r"postgresql\+psycopg://127.0.0.1:1/optuna: nothing listens on port 1"
    ) as refusal:
        check_shared()
    assert "secret" not in str(refusal.value)


def test_without_a_database_nothing_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    check_shared()
    share_study(RunFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []
