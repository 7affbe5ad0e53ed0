from collections import Counter
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from sweeper.preset.spec import SweepSpec
from sweeper.running.searcher import SweepSearcher
from sweeper.search.early_stopping import EarlyStopping
from tests.sweeper.small import begin_on_a_host

MakeSpec = Callable[..., SweepSpec]
MakeSearcher = Callable[..., tuple[SweepSearcher, optuna.Study]]


def finish(searcher: SweepSearcher, ray_id: str, asr: float = 0.1, acc: float = 0.8) -> None:
    training = searcher.ledger.of(ray_id)
    success = asr if training.record.role == "trial" else 0.95
    figures = {"epoch": 1, "stage": "mix", "val_acc": acc, "val_asr": success, "asr_floor": 0.0}
    training.record.add_epoch(training.run, figures, {"poison_share": 0.1, "n_eval": 9})
    searcher.on_trial_complete(ray_id, {"finished": True, "attempt": 1})


def drain(searcher: SweepSearcher) -> list[str]:
    ids: list[str] = []
    while (job := searcher.suggest(str(len(ids)))) != "FINISHED":
        assert isinstance(job, dict)
        finish(searcher, str(len(ids)))
        ids.append(job["training"])
    return ids


def test_a_control_comes_once_before_the_first_trial_that_needs_it(
    make_spec: MakeSpec, make_searcher: MakeSearcher
) -> None:
    spec = make_spec("seeds=[0, 1]", "search.trials=3", "scenarios.0.poison_rate={categorical: [0.05, 0.1]}")
    searcher, study = make_searcher(spec)
    assert drain(searcher) == [
        "c0000-0", "c0001-0", "t0000-0", "c0002-0", "c0003-0", "t0001-0", "t0002-0", "t0000-1", "t0001-1", "t0002-1",
    ]  # fmt: skip
    assert [record.config.defense for record in searcher.ledger.records.values() if record.role == "control"] == [
        "none"
    ] * 4
    assert len(study.trials) == 3


def test_the_study_says_what_ran_and_how_it_ended(
    make_spec: MakeSpec, make_searcher: MakeSearcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EarlyStopping, "reported", lambda *_: "it fell behind")
    searcher, study = make_searcher(make_spec("search.trials=4", "search.retries=0"))
    for ray_id in "01234":
        searcher.suggest(ray_id)
    finish(searcher, "0")
    finish(searcher, "1", asr=0.3, acc=0.7)
    searcher.agenda.reported(searcher.ledger.of("2"), {})
    searcher.on_trial_complete("2", {"attempt": 1})
    searcher.on_trial_complete("3", {"error": "The loss is nan.", "attempt": 1})
    begin_on_a_host(searcher, "4")
    searcher.on_trial_complete("4", error=True)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "FAIL"]
    assert [record.status for record in searcher.ledger.records.values()][1:] == [
        "FINISHED",
        "PRUNED",
        "FAILED",
        "FAILED",
    ]
    assert study.trials[0].values == [0.7, 0.3]
    assert [study.trials[k].user_attrs["error"] for k in (1, 2)] == ["it fell behind", "The loss is nan."]
    assert "died" in study.trials[3].user_attrs["error"]
    record = searcher.ledger.records["t0000"]
    assert study.trials[0].params == record.searched
    assert record.config.params["threshold"] == record.searched["vab.threshold"]


def test_a_trial_is_told_only_when_its_control_has_ended(make_spec: MakeSpec, make_searcher: MakeSearcher) -> None:
    spec = make_spec("search.trials=1", "constraints=[{metric: control_asr, min: 0.8}, {metric: val_asr, max: 0.2}]")
    searcher, study = make_searcher(spec)
    searcher.suggest("control")
    searcher.suggest("trial")
    finish(searcher, "trial", asr=0.5)
    assert study.trials[0].state.name == "RUNNING"
    finish(searcher, "control")
    assert study.trials[0].state.name == "COMPLETE"
    assert sorted(study.trials[0].constraints.values()) == pytest.approx([0.8 - 0.95, 0.5 - 0.2])


def test_the_environment_is_dealt_evenly_and_known_to_the_study(
    make_spec: MakeSpec, make_searcher: MakeSearcher
) -> None:
    searcher, study = make_searcher(make_spec("search.trials=8", preset="cifar10_cpu.yaml"))
    drain(searcher)
    rates = [trial.params["scenario.poison_rate"] for trial in study.trials]
    assert Counter(rates) == {0.05: 4, 0.1: 4}
    assert rates == [r.config.scenarios[0].poison_rate for r in searcher.ledger.records.values() if r.role == "trial"]


def test_a_grid_visits_every_combination_once(make_spec: MakeSpec, make_searcher: MakeSearcher) -> None:
    conditional = "defense.mask_threshold={float: [0.1, 0.3], step: 0.1, when: {mixing: attention}}"
    spec = make_spec("search.trials=100", conditional, preset="ablation.yaml")
    searcher, study = make_searcher(spec)
    drain(searcher)
    combinations = {tuple(sorted(trial.params.items())) for trial in study.trials}
    # Five suppressions, for one mixing without and one with three mask thresholds.
    assert len(study.trials) == len(combinations) == 5 * (1 + 3)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random"])
def test_every_sampler_draws_within_the_space(make_spec: MakeSpec, make_searcher: MakeSearcher, sampler: str) -> None:
    searcher, study = make_searcher(make_spec("search.trials=6", f"search.sampler={sampler}"))
    drain(searcher)
    assert len(study.trials) == 6
    assert all(0.05 <= trial.params["vab.threshold"] <= 0.3 for trial in study.trials)


def test_the_same_sweep_asks_for_the_same_trials(
    make_spec: MakeSpec, make_searcher: MakeSearcher, tmp_path: Any
) -> None:
    spec = make_spec("search.trials=5")
    jobs = []
    for _ in range(2):
        searcher, _study = make_searcher(spec)
        drain(searcher)
        jobs.append([record.config for record in searcher.ledger.records.values()])
        (tmp_path / "study.db").unlink()
    assert jobs[0] == jobs[1]


def test_what_a_cut_sweep_leaves_has_failed_with_the_reason(make_spec: MakeSpec, make_searcher: MakeSearcher) -> None:
    searcher, study = make_searcher(make_spec("search.trials=2"), time_budget_s=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searcher.stopper, "stop_all", lambda: False)
        for ray_id in "012":
            searcher.suggest(ray_id)
    assert searcher.stopper.stop_all()
    finish(searcher, "0")
    searcher.on_trial_complete("1", {"attempt": 1})
    assert [record.trial_id for record in searcher.ledger.running()] == ["t0000", "t0001"]
    searcher.agenda.abandon("Not finished: the time budget ended.")
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL"]
    assert {searcher.ledger.records[name].error for name in ("t0000", "t0001")} == {
        "Not finished: the time budget ended."
    }


def test_a_combination_that_is_refused_has_failed_with_its_reason(
    make_spec: MakeSpec, make_searcher: MakeSearcher
) -> None:
    # Either alone is allowed; both at 0 would train no Beneficiary.
    epochs = ["defense.mix_epochs={categorical: [1, 0]}", "defense.suppression_epochs={categorical: [1, 0]}"]
    searcher, study = make_searcher(make_spec("search.trials=20", "search.sampler=random", *epochs))
    drain(searcher)
    refused = [t for t in study.trials if not t.params["vab.mix_epochs"] and not t.params["vab.suppression_epochs"]]
    assert refused
    assert {trial.state.name for trial in refused} == {"FAIL"}
    failed = [record for record in searcher.ledger.records.values() if record.status == "FAILED"]
    assert len(failed) == len(refused)
    assert all("must not both be 0" in str(record.error) for record in failed)
    rows = [row for record in failed for row in record.rows({})]
    assert {(row["role"], row["status"], row["scenario"]) for row in rows} == {("trial", "FAILED", None)}
    assert len(rows) == len(refused)


DEFENSES = "defense=[{name: vab, threshold: {float: [0.1, 0.3]}}, {name: abl, isolation_rate: {float: [0.1, 0.2]}}]"


def test_defenses_take_turns(make_spec: MakeSpec, make_searcher: MakeSearcher) -> None:
    searcher, study = make_searcher(make_spec(DEFENSES, "search={trials: 8, defenses: turns}"))
    drain(searcher)
    assert [trial.params["defense"] for trial in study.trials] == ["vab", "abl"] * 4
    names = {"vab": {"defense", "vab.threshold"}, "abl": {"defense", "abl.isolation_rate"}}
    for trial in study.trials:
        assert set(trial.params) == names[trial.params["defense"]]
        record = searcher.ledger.records[trial.user_attrs["trial_id"]]
        assert record.config is not None
        assert record.config.defense == trial.params["defense"]
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 8


def test_what_waits_in_the_study_is_dealt_what_its_number_says(
    make_spec: MakeSpec, make_searcher: MakeSearcher
) -> None:
    """As after an interruption: trials wait with the numbers that they had."""
    spec = make_spec(DEFENSES, "search={trials: 5, defenses: turns}")
    searcher, study = make_searcher(spec)
    study.enqueue_trial({"defense": "vab", "vab.threshold": 0.15})
    study.enqueue_trial({})
    drain(searcher)
    assert [trial.params["defense"] for trial in study.trials] == ["vab", "abl"] * 2 + ["vab"]
    assert study.trials[0].params["vab.threshold"] == 0.15


SIBLINGS = ("defense.temperature={float: [1, 5]}", "search={trials: 2, branches: 2, sampler: random}")


def test_siblings_are_told_of_their_trunk_and_wait_for_it(make_spec: MakeSpec, make_searcher: MakeSearcher) -> None:
    searcher, _ = make_searcher(make_spec(*SIBLINGS))
    control = searcher.suggest("c")
    assert isinstance(control, dict)
    assert "trunk" not in control
    finish(searcher, "c")
    first = searcher.suggest("1")
    assert isinstance(first, dict)
    assert first["trunk"] == 2
    assert searcher.suggest("2") is None, "the other one waits"
    searcher.on_trial_result("1", {"trunk": [None, False]})
    second = searcher.suggest("2")
    assert isinstance(second, dict)
    assert second["trunk"] == 2
    trunk = searcher.agenda.trunk_of(searcher.ledger.of("2"))
    path = searcher.ledger.folder.trunks / trunk.file
    path.parent.mkdir()
    path.write_bytes(b"trunk")
    finish(searcher, "1")
    assert path.exists()
    finish(searcher, "2")
    assert not path.exists()


def test_a_trunk_that_is_not_kept_is_said_once(
    make_spec: MakeSpec, make_searcher: MakeSearcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher, _ = make_searcher(make_spec(*SIBLINGS))
    said: list[str] = []
    monkeypatch.setattr(searcher, "_say", said.append)
    searcher.suggest("c")
    finish(searcher, "c")
    searcher.suggest("1")
    searcher.on_trial_result("1", {"trunk": ["No space left on device", False]})
    assert isinstance(searcher.suggest("2"), dict), "nobody waits for it"
    searcher.on_trial_result("2", {"trunk": ["No space left on device", False]})
    assert said == ["A trunk could not be kept (No space left on device); settings that share it train it themselves."]
