"""The study opens in optuna-dashboard, with states and constraints as they are."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna_dashboard import wsgi
from werkzeug.test import Client

from sweeper.run_folder.folder import RunFolder
from sweeper.running.ledger import Ledger
from sweeper.running.study_file import open_study
from sweeper.search.early_stopping import EarlyStopping
from tests.sweeper.small import end_training, searcher_over, spec_with


@pytest.mark.parametrize("again", [False, True], ids=["as it was written", "written again"])
def test_the_study_opens_in_the_dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    monkeypatch.setattr(EarlyStopping, "reported", lambda *_: "it fell behind")
    spec = spec_with(search={"sampler": "tpe", "trials": 4}, constraints=[{"metric": "val_acc", "min": 0.75}])
    folder = RunFolder(tmp_path)
    study = open_study(spec, folder.study)
    searcher = searcher_over(spec, study, Ledger(folder, {}))
    for number in range(5):
        searcher.suggest(str(number))
    for ray_id, acc in (("0", 0.9), ("1", 0.8), ("2", 0.7)):
        end_training(searcher, ray_id, val_acc=acc)
    searcher.on_trial_complete("3", {"error": "The loss is nan.", "attempt": 1})
    training = searcher.ledger.of("4")
    assert training is not None
    searcher.agenda.reported(training, {})
    searcher.on_trial_complete("4", {"attempt": 1})
    if again:
        folder.study.unlink()
        open_study(spec, folder.study, folder.read_records())
    client = Client(wsgi(RDBStorage(f"sqlite:///{folder.study}")))
    (study,) = json.loads(client.get("/api/studies").data)["study_summaries"]
    assert study["study_name"] == "small"
    detail = json.loads(client.get(f"/api/studies/{study['study_id']}").data)
    assert detail["directions"] == ["maximize", "minimize"]
    trials = detail["trials"]
    assert [trial["state"] for trial in trials] == ["Complete", "Complete", "Fail", "Pruned"]
    assert [trial["values"] for trial in trials[:2]] == [[0.8, 0.05], [0.7, 0.05]]
    notes = [{note["key"]: note["value"] for note in trial["user_attrs"]} for trial in trials]
    # The dashboard's own column of constraints is that of older Optunas.
    violations = [json.loads(note["violations"]) for note in notes[:2]]
    assert violations == [{"0-val_acc": pytest.approx(-0.05)}, {"0-val_acc": pytest.approx(0.05)}]
    assert notes[2] == {"trial_id": "t0002", "error": "The loss is nan."}
    frozen = optuna.load_study(study_name="small", storage=f"sqlite:///{folder.study}").trials
    assert [trial.constraints for trial in frozen[:2]] == violations
