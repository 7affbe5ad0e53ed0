"""What a resumed searcher asks for, without Ray: a process that died is a searcher that is dropped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.folder import RunFolder
from sweeper.running.ledger import Ledger
from sweeper.running.searcher import SweepSearcher
from sweeper.running.study_file import open_study
from sweeper.search.early_stopping import EarlyStopping
from tests.sweeper.small import end_training, searcher_over, spec_with
from tests.sweeper.small import start as ask

Resume = Callable[..., tuple[SweepSearcher, optuna.Study]]


@pytest.fixture
def resume(tmp_path: Path) -> Resume:
    """A searcher over what the run folder holds."""

    def make(spec: SweepSpec) -> tuple[SweepSearcher, optuna.Study]:
        folder = RunFolder(tmp_path)
        records = folder.read_records()
        study = open_study(spec, folder.study, records)
        return searcher_over(spec, study, Ledger(folder, records)), study

    return make


def finish(searcher: SweepSearcher, ray_id: str, **figures: Any) -> None:
    control = searcher.ledger.of(ray_id).record.role == "control"
    end_training(searcher, ray_id, **(({"val_asr": 0.95} if control else {}) | figures))


def drain(searcher: SweepSearcher, begin: int = 100) -> list[str]:
    """Run all that is left; ids in the order in which they started."""
    names = []
    while (name := ask(searcher, str(begin + len(names)))[0]) != "FINISHED":
        finish(searcher, str(begin + len(names)))
        names.append(name)
    return names


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


def test_what_ended_stays_and_what_ran_goes_on_under_its_name(resume: Resume) -> None:
    spec = spec_with(search={"sampler": "tpe", "trials": 5})
    first, study = resume(spec)
    assert ask(first, *"0123") == ["c0000", "t0000", "t0001", "t0002"]
    finish(first, "0")
    finish(first, "2", val_acc=0.7, val_asr=0.3)
    before = {name: (r.config.key, r.searched, r.began_at) for name, r in first.ledger.records.items() if r.config}

    second, study = resume(spec)
    assert states(study) == ["WAITING", "COMPLETE", "WAITING"]
    assert study.trials[1].values == pytest.approx([0.7, 0.3 - 0.05])
    assert study.trials[1].params == first.ledger.records["t0001"].searched
    assert drain(second) == ["t0000", "t0002", "t0003", "t0004"]
    assert states(study) == ["COMPLETE"] * 5
    assert [trial.user_attrs["trial_id"] for trial in study.trials] == [f"t000{n}" for n in range(5)]
    after = {name: (r.config.key, r.searched, r.began_at) for name, r in second.ledger.records.items() if r.config}
    assert {name: after[name] for name in before} == before
    assert second.ledger.records["t0000"].rows(second.ledger.control_asr)[0]["control_asr"] == 0.95


@pytest.mark.parametrize("cut", ["killed", "interrupted"])
def test_of_a_trial_that_ran_only_the_trainings_that_did_not_finish_run_again(resume: Resume, cut: str) -> None:
    spec = spec_with(seeds=[0, 1, 2], search={"sampler": "random", "trials": 1, "race": "off"})
    first, _ = resume(spec)
    assert ask(first, *"012345") == ["c0000", "c0001", "c0002", "t0000", "t0000", "t0000"]
    for ray_id in "0124":
        finish(first, ray_id, val_acc=0.7)
    assert first.ledger.of("5").run == ("badnets", 2)
    if cut == "interrupted":
        first.stopper.stop("the sweep was interrupted")
        first.agenda.abandon("Not finished: the sweep was interrupted.")

    second, study = resume(spec)
    assert ask(second, *"01") == ["t0000", "t0000"]
    assert [second.ledger.of(ray_id).run for ray_id in "01"] == [("badnets", 0), ("badnets", 2)]
    for ray_id in "01":
        finish(second, ray_id, val_acc=0.4)
    assert ask(second, "2") == ["FINISHED"]
    (trial,) = study.trials
    assert trial.values == pytest.approx([(0.4 + 0.7 + 0.4) / 3, 0.1 - 0.05])
    record = second.ledger.records["t0000"]
    assert [row["val_acc"] for row in record.rows({})] == [0.4, 0.7, 0.4]
    assert [row["attempt"] for row in record.rows({})] == [2, 1, 2]
    assert resume(spec)[0].ledger.records["t0000"] == record, "it is written as it stands"


def test_a_sweep_that_was_interrupted_goes_on_too(resume: Resume) -> None:
    spec = spec_with(search={"sampler": "random", "trials": 3})
    first, study = resume(spec)
    ask(first, *"01")
    first.stopper.stop("the sweep was interrupted")
    first.on_trial_complete("0", {"attempt": 1})
    first.agenda.abandon("Not finished: the sweep was interrupted.")
    assert states(study) == ["FAIL"]
    assert all(record.interrupted for record in first.ledger.records.values())

    second, study = resume(spec)
    assert drain(second) == ["c0000", "t0000", "t0001", "t0002"]
    assert states(study) == ["COMPLETE"] * 3
    assert {record.error for record in second.ledger.records.values()} == {None}


@pytest.mark.parametrize("status", ["FAIL", "PRUNED"])
def test_a_trial_that_failed_or_was_pruned_is_not_run_again(
    resume: Resume, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setattr(EarlyStopping, "reported", lambda *_: "It fell behind.")
    spec = spec_with(search={"sampler": "random", "trials": 2})
    first, _ = resume(spec)
    ask(first, *"01")
    finish(first, "0")
    training = first.ledger.of("1")
    assert training is not None
    if status == "PRUNED":
        first.agenda.reported(training, {})
    first.on_trial_complete("1", {"error": "The loss is nan.", "attempt": 1} if status == "FAIL" else {"attempt": 1})
    second, study = resume(spec)
    assert drain(second) == ["t0001"]
    assert states(study) == [status, "COMPLETE"]
    assert study.trials[0].user_attrs["error"] == ("The loss is nan." if status == "FAIL" else "It fell behind.")


def test_a_control_that_failed_is_not_run_again_and_one_that_was_cut_is(resume: Resume) -> None:
    spec = spec_with(seeds=[0, 1], search={"sampler": "random", "trials": 1})
    first, _ = resume(spec)
    assert ask(first, *"0123") == ["c0000", "c0001", "t0000", "t0000"]
    first.on_trial_complete("0", {"error": "The loss is nan.", "attempt": 1})
    finish(first, "2")
    finish(first, "3")
    second, study = resume(spec)
    assert drain(second) == ["c0001"]
    assert states(study) == ["COMPLETE"]
    rows = second.ledger.records["t0000"].rows(second.ledger.control_asr)
    assert [row["control_asr"] for row in rows] == [None, 0.95]


def test_a_sweep_that_is_complete_asks_for_nothing(resume: Resume) -> None:
    spec = spec_with(search={"sampler": "random", "trials": 2})
    drain(resume(spec)[0])
    second, study = resume(spec)
    assert drain(second) == []
    assert states(study) == ["COMPLETE"] * 2


def test_more_trials_than_before_may_be_asked_for(resume: Resume) -> None:
    drain(resume(spec_with(search={"sampler": "random", "trials": 2}))[0])
    second, study = resume(spec_with(search={"sampler": "random", "trials": 4}))
    assert drain(second) == ["t0002", "t0003"]
    values = [trial.params["vab.threshold"] for trial in study.trials]
    assert len(set(values)) == 4, "the sampler does not draw the same numbers again"


def test_a_grid_goes_on_where_it_was(resume: Resume) -> None:
    defense = {"name": "vab", "threshold": {"float": [0.1, 0.5], "step": 0.1}}
    whole, _ = resume(spec_with(defense=defense, search={"sampler": "grid", "trials": 5}))
    assert ask(whole, *"012") == ["c0000", "t0000", "t0001"]
    finish(whole, "2")
    second, study = resume(spec_with(defense=defense, search={"sampler": "grid", "trials": 5}))
    assert drain(second) == ["c0000", "t0000", "t0002", "t0003", "t0004"]
    assert sorted(trial.params["vab.threshold"] for trial in study.trials) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_the_attackers_turn_goes_on(resume: Resume) -> None:
    spec = spec_with(
        scenarios=[{"attack": "badnets", "poison_rate": {"categorical": [0.05, 0.1]}}],
        search={"sampler": "tpe", "trials": 6},
    )
    first, _ = resume(spec)
    ask(first, *"01234")
    finish(first, "3")
    _, study = resume(spec)
    second, study = resume(spec)
    drain(second)
    assert [trial.params["badnets.poison_rate"] for trial in study.trials] == [0.05, 0.1] * 3


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random"])
def test_every_sampler_knows_what_ran(resume: Resume, sampler: str) -> None:
    spec = spec_with(search={"sampler": sampler, "trials": 9}, constraints=[{"metric": "val_acc", "min": 0.5}])
    first, study = resume(spec)
    ask(first, *"0123456")
    for ray_id in "012345":
        finish(first, ray_id, val_acc=0.4 + int(ray_id) / 20)
    notes = [trial.system_attrs for trial in study.trials]
    second, study = resume(spec)
    assert [trial.constraints for trial in study.trials[:5]] == [
        {"0-val_acc": pytest.approx(0.5 - (0.4 + n / 20))} for n in range(1, 6)
    ]
    if sampler == "nsga2":
        known = [{k: v for k, v in note.items() if "generation" in k} for note in notes[:5]]
        assert known[0]
        assert [{k: v for k, v in t.system_attrs.items() if "generation" in k} for t in study.trials[:5]] == known
    assert drain(second) == ["t0005", "t0006", "t0007", "t0008"]
    assert states(study) == ["COMPLETE"] * 9


@pytest.mark.parametrize("damage", ["missing", "garbage", "empty"])
def test_the_study_is_written_again_from_the_run_folder(resume: Resume, tmp_path: Path, damage: str) -> None:
    spec = spec_with(search={"sampler": "tpe", "trials": 3})
    first, study = resume(spec)
    ask(first, *"012")
    finish(first, "0")
    finish(first, "1")
    values = study.trials[0].values
    content = {"missing": None, "garbage": b"SQLite format 3\0 no", "empty": b""}[damage]
    (tmp_path / "study.db").unlink()
    if content is not None:
        (tmp_path / "study.db").write_bytes(content)
    second, study = resume(spec)
    assert study.trials[0].values == values
    assert drain(second) == ["t0001", "t0002"]
    assert states(study) == ["COMPLETE"] * 3


def test_a_damaged_record_is_run_again_under_its_number(resume: Resume, tmp_path: Path) -> None:
    spec = spec_with(search={"sampler": "random", "trials": 3})
    drain(resume(spec)[0])
    (tmp_path / "records" / "t0001.json").write_text('{"trial_id": "t00')
    (tmp_path / "records" / "c0000.json").write_text("")
    second, study = resume(spec)
    assert sorted(drain(second)) == ["c0000", "t0001"]
    assert states(study) == ["COMPLETE"] * 3
    assert {
        row["control_asr"] for r in second.ledger.records.values() for row in r.rows(second.ledger.control_asr)
    } == {0.95}


def test_a_proposal_that_was_refused_stays_refused(resume: Resume) -> None:
    lengths = {"mix_epochs": {"categorical": [1, 0]}, "suppression_epochs": {"categorical": [1, 0]}}
    spec = spec_with(defense={"name": "vab", **lengths}, search={"sampler": "grid", "trials": 4})
    drain(resume(spec)[0])
    second, study = resume(spec)
    assert drain(second) == []
    assert sorted(states(study)) == ["COMPLETE"] * 3 + ["FAIL"]
    (refused,) = [trial for trial in study.trials if trial.state.name == "FAIL"]
    assert "must not both be 0" in refused.user_attrs["error"]
    assert refused.params == {"vab.mix_epochs": 0, "vab.suppression_epochs": 0}
