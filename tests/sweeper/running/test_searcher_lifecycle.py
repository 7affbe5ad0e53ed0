"""Table and study say the same of every trial, whatever happens to it and to its control."""

import json
from collections.abc import Callable, Sequence
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError

from sweeper.cluster import fleet as fleet_module
from sweeper.cluster.fleet import Fleet
from sweeper.cluster.hosts import Host
from sweeper.preset import grid
from sweeper.preset.grid import grid_points
from sweeper.run_folder.record import FAILED, FINISHED, PRUNED, RUNNING, TrialRecord
from sweeper.running import searcher as module
from sweeper.running.searcher import SweepSearcher
from sweeper.search.early_stopping import EarlyStopping
from tests.sweeper.small import Watcher, begin_on_a_host, make_objectives, spec_with, start
from tests.sweeper.small import end_training as end
from trainers.errors import ConfigError
from trainers.storage.state_store import StateStore, new_attempt
from trainers.trial import TrialConfig

RUN = ("badnets", 0)
MakeSearcher = Callable[..., tuple[SweepSearcher, optuna.Study]]


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


def test_a_job_is_the_configuration_that_the_record_holds(make_searcher: MakeSearcher) -> None:
    searcher, study = make_searcher(spec_with())
    jobs = [searcher.suggest(str(i)) for i in range(3)]
    assert [(job["training"], job["attempt"]) for job in jobs] == [("c0000-0", 1), ("t0000-0", 1), ("t0001-0", 1)]
    for number, job in enumerate(jobs):
        training = searcher.ledger.of(str(number))
        assert training.name == job["training"]
        assert TrialConfig.from_json(job["job"]).key == training.record.config.key
        assert (training.record.status, training.state.status, training.state.attempt) == (RUNNING, RUNNING, 1)
    trial = searcher.ledger.records["t0000"].config
    assert searcher.ledger.records["c0000"].config.params["epochs"] == 1
    assert trial.params["threshold"] == study.trials[0].params["vab.threshold"]
    assert trial.params["mixing"] == study.trials[0].params["vab.mixing"]
    assert study.trials[0].user_attrs["trial_id"] == "t0000"
    assert start(searcher, "3", "4") == ["None", "None"]  # as long as these run
    assert len(study.trials) == 2


def test_there_is_one_control_per_resolved_scenario_and_seed(make_searcher: MakeSearcher) -> None:
    sizes = {"attack": "badnets", "size": {"categorical": [2, 3]}}
    spec = spec_with(scenarios=[sizes, {"attack": "blend"}], seeds=[0, 1], search={"trials": 4})
    searcher, _ = make_searcher(spec)
    names = start(searcher, *map(str, range(6 + 4 * 4 + 1)))
    assert names[:10] == ["c0000", "c0001", "c0002", "c0003", "t0000", "c0004", "c0005", "t0001", "t0002", "t0003"]
    assert names[10:] == ["t0000", "t0001", "t0002", "t0003"] * 3 + ["None"]
    controls = [record.config for record in searcher.ledger.records.values() if record.role == "control"]
    assert {(c.scenarios[0].attack, c.scenarios[0].params.get("size"), c.repeats) for c in controls} == {
        ("badnets", size, (seed,)) for size in (2, 3) for seed in (0, 1)
    } | {("blend", None, (seed,)) for seed in (0, 1)}
    assert all(c.defense == "none" for c in controls)
    keys = {record.config.key for record in searcher.ledger.records.values() if record.role == "control"}
    assert all(set(r.controls.values()) <= keys for r in searcher.ledger.records.values())


def test_a_controls_success_reaches_the_rows_of_its_trials(make_searcher: MakeSearcher) -> None:
    searcher, study = make_searcher(spec_with())
    start(searcher, "0", "1", "2")
    end(searcher, "0", val_asr=0.79)
    end(searcher, "1")
    row = searcher.ledger.records["t0000"].rows(searcher.ledger.control_asr)[0]
    assert (row["control_asr"], row["weak_attack"]) == (0.79, True)
    control = searcher.ledger.records["c0000"].rows(searcher.ledger.control_asr)[0]
    assert (control["role"], control["defense"], control["val_asr"]) == ("control", "none", 0.79)
    assert states(study) == ["COMPLETE", "RUNNING"]


def test_a_control_that_failed_leaves_its_trials_without_evidence(make_searcher: MakeSearcher) -> None:
    spec = spec_with(constraints=[{"metric": "control_asr", "min": 0.8}])
    searcher, study = make_searcher(spec)
    start(searcher, "0", "1", "2")
    end(searcher, "1")
    assert states(study) == ["RUNNING", "RUNNING"]
    searcher.on_trial_complete("0", {"error": "The loss is nan.", "attempt": 1})
    assert states(study) == ["COMPLETE", "RUNNING"]
    row = searcher.ledger.records["t0000"].rows(searcher.ledger.control_asr)[0]
    assert (row["control_asr"], row["weak_attack"]) == (None, None)
    assert list(study.trials[0].constraints.values()) == [float("inf")]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random"])
def test_a_sampler_goes_on_after_every_kind_of_end(
    make_searcher: MakeSearcher, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EarlyStopping, "reported", lambda *_: "it fell behind")
    spec = spec_with(
        search={"sampler": sampler, "trials": 9, "retries": 0},
        constraints=[{"metric": "control_asr", "min": 0.8}, {"metric": "val_acc", "min": 0.5}],
        scenarios=[{"attack": "badnets", "poison_rate": {"categorical": [0.05, 0.1]}}],
    )
    searcher, study = make_searcher(spec)
    number = 0
    while (job := searcher.suggest(str(number))) != "FINISHED":
        ray_id, number = str(number), number + 1
        if job["training"].startswith("c"):
            searcher.on_trial_complete(ray_id, {"error": "no"}) if job["training"] == "c0000-0" else end(
                searcher, ray_id, val_asr=1.0
            )
        elif number % 4 == 0:
            searcher.agenda.reported(searcher.ledger.of(ray_id), {})
            searcher.on_trial_complete(ray_id, {"attempt": 1})
        elif number % 4 == 1:
            begin_on_a_host(searcher, ray_id)
            searcher.on_trial_complete(ray_id, error=True)
        else:
            end(searcher, ray_id, val_acc=0.4 + number / 40, val_asr=0.01 * number)
    assert set(states(study)) == {"COMPLETE", "PRUNED", "FAIL"}
    assert len(study.trials) == 9
    rates = [trial.params["badnets.poison_rate"] for trial in study.trials]
    assert rates == [(0.05, 0.1)[n % 2] for n in range(9)]


def test_the_reason_of_a_crash_is_the_workers(make_searcher: MakeSearcher, tmp_path: Path) -> None:
    searcher, study = make_searcher(spec_with(search={"retries": 0}))
    start(searcher, "0", "1", "2")
    end(searcher, "0")
    for ray_id in "12":
        training = searcher.ledger.of(ray_id)
        states = tmp_path / "states" / training.name
        store = StateStore(states, attempt=new_attempt(states))
        training.state.attempt = store.attempt
        store.begin("1")
        if ray_id == "1":
            store.note_crash("MemoryError: no more")
    searcher.on_trial_complete("1", error=True)
    searcher.on_trial_complete("2", error=True)
    first, second = searcher.ledger.records["t0000"], searcher.ledger.records["t0001"]
    assert (first.status, first.error, first.trainings[RUN].attempt) == (FAILED, "MemoryError: no more", 2)
    assert (first.trainings[RUN].status, first.trainings[RUN].error) == (FAILED, "MemoryError: no more")
    assert second.error == "The worker died without a word; Ray's logs may tell why."
    assert [trial.user_attrs["error"] for trial in study.trials] == [first.error, second.error]
    assert first.rows(searcher.ledger.control_asr)[0]["attempt"] == 2


def test_what_breaks_off_does_not_run_until_it_is_asked_for_again(make_searcher: MakeSearcher) -> None:
    runs: list[tuple[str, bool]] = []

    class Watching(Watcher):
        def trial_changed(self, record: TrialRecord) -> None:
            runs.append((record.trial_id, RUN in record.running))

    searcher, _ = make_searcher(spec_with(search={"trials": 1, "retries": 1}), followers=[Watching()])
    start(searcher, "0", "1")
    training = searcher.ledger.of("1")
    assert training is not None
    searcher.ledger.changed(training)
    begin_on_a_host(searcher, "1", "0")
    searcher.on_trial_complete("1", error=True)
    assert runs == [("t0000", True), ("t0000", False)]
    assert "running" not in json.loads(training.record.to_json())
    start(searcher, "3")
    assert training.record.running == {RUN}
    end(searcher, "3")
    assert training.record.running == set()
    assert len(runs) == 2, "an end is told as one"


def test_a_trial_that_breaks_off_is_asked_for_again_under_its_name(make_searcher: MakeSearcher) -> None:
    searcher, study = make_searcher(spec_with(search={"trials": 1, "retries": 1}))
    assert start(searcher, "0", "1", "2") == ["c0000", "t0000", "None"]  # what runs may have to be tried again
    begin_on_a_host(searcher, "1", "0")
    searcher.on_trial_complete("1", error=True)
    assert searcher.ledger.records["t0000"].status == RUNNING
    assert start(searcher, "3") == ["t0000"]
    assert searcher.ledger.records["t0000"].trainings[RUN].attempt == 2
    begin_on_a_host(searcher, "3")
    searcher.on_trial_complete("0", error=True)
    assert start(searcher, "4") == ["c0000"]
    end(searcher, "4")
    searcher.on_trial_complete("3", error=True)
    assert searcher.ledger.records["t0000"].status == FAILED
    assert start(searcher, "5") == ["FINISHED"]
    assert states(study) == ["FAIL"]


def test_a_crash_while_the_sweep_ends_is_left_for_resume(make_searcher: MakeSearcher, tmp_path: Path) -> None:
    searcher, _ = make_searcher(spec_with(search={"trials": 1, "retries": 1}))
    start(searcher, "0", "1")
    searcher.stopper.stop("the sweep was interrupted")
    searcher.on_trial_complete("1", error=True)
    assert searcher.ledger.records["t0000"].status == RUNNING
    searcher.agenda.abandon("Not finished: the sweep was interrupted.")
    assert searcher.ledger.records["t0000"].interrupted
    assert searcher.ledger.records["t0000"].error == "Not finished: the sweep was interrupted."


def test_no_more_trials_run_than_there_is_room_for(make_searcher: MakeSearcher) -> None:
    there = [Host("1", "10.0.0.1", {"CPU": 2})]
    searcher, _ = make_searcher(spec_with(), fleet=Fleet({"CPU": 1}, lambda: there))
    assert start(searcher, "0", "1", "2") == ["c0000", "t0000", "None"]
    end(searcher, "0")
    assert start(searcher, "3", "4") == ["t0001", "None"]
    one, _ = make_searcher(spec_with(), workers=1)
    assert start(one, "0", "1") == ["c0000", "None"]


def test_a_trial_whose_host_is_not_fit_is_asked_for_again(make_searcher: MakeSearcher) -> None:
    searcher, _ = make_searcher(spec_with(search={"trials": 1, "retries": 1}))
    start(searcher, "0", "1")
    unusable = {"host": "1", "unusable": "It runs another version of this program.", "done": True}
    searcher.on_trial_complete("1", unusable)
    assert searcher.ledger.records["t0000"].status == RUNNING
    assert start(searcher, "2") == ["t0000"]
    searcher.on_trial_complete("2", unusable)
    assert (searcher.ledger.records["t0000"].status, searcher.ledger.records["t0000"].error) == (
        FAILED,
        unusable["unusable"],
    )


def test_a_sweep_without_hosts_waits_says_so_once_and_can_be_stopped(
    make_searcher: MakeSearcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "LOOK_EVERY_S", 0.0)
    there: list[Host] = [Host("1", "10.0.0.1", {"CPU": 1})]
    said: list[str] = []
    searcher, _ = make_searcher(spec_with(), fleet=Fleet({"CPU": 1}, lambda: there), said=said.append)
    assert start(searcher, "0") == ["c0000"]
    there.clear()
    assert start(searcher, "1") == ["None"]  # its control is not known to be lost yet
    assert said == []
    end(searcher, "0")
    assert start(searcher, "1", "1", "1") == ["None"] * 3
    assert said == ["No host is left that has room for a training; the sweep waits until one joins."]
    searcher.stopper.stop("the sweep was interrupted")
    assert start(searcher, "1") == ["FINISHED"]


def test_a_job_names_the_hosts_to_avoid(make_searcher: MakeSearcher) -> None:
    there = [Host("1", "10.0.0.1", {"CPU": 2}), Host("2", "10.0.0.2", {"CPU": 2})]
    fleet = Fleet({"CPU": 1}, lambda: there)
    searcher, _ = make_searcher(spec_with(), fleet=fleet)
    assert "avoid" not in searcher.suggest("0")
    fleet.room()
    searcher.on_trial_result("0", {"host": "1", "error": "Its trigger image is not here."})
    searcher.on_trial_result("0", {"host": "2", "finished": False})
    assert searcher.ledger.of("0").state.host == "10.0.0.2"
    for trial in ("a", "b", "c"):
        fleet.failed("1", trial, "no disk")
        searcher.on_trial_result("0", {"host": "2", "finished": False})
    assert searcher.suggest("1")["avoid"] == ["1"]


def test_an_undefined_objective_fails_the_trial_in_table_and_study(make_searcher: MakeSearcher) -> None:
    searcher, study = make_searcher(spec_with())
    start(searcher, "0", "1")
    end(searcher, "0")
    end(searcher, "1", val_asr=None)
    record = searcher.ledger.records["t0000"]
    assert (record.status, record.error) == (FAILED, "An objective is undefined for this trial.")
    assert states(study) == ["FAIL"]
    (row,) = record.rows(searcher.ledger.control_asr)
    assert (row["status"], row["val_acc"]) == (FINISHED, 0.8), "the training has no fault"
    assert (row["trial_status"], row["trial_error"]) == (FAILED, record.error)


def test_objectives_and_constraints_of_several_scenarios(make_searcher: MakeSearcher) -> None:
    spec = spec_with(
        scenarios=[{"attack": "badnets"}, {"attack": "blend"}],
        seeds=[0, 1],
        objectives=make_objectives(("val_asr", "minimize"), ("val_acc", "maximize")),
        constraints=[{"metric": "val_ra", "min": 0.6}],
        search={"trials": 1, "race": "off"},
    )
    searcher, study = make_searcher(spec)
    start(searcher, *map(str, range(8)))
    for ray_id in "0123":
        end(searcher, ray_id, val_asr=1.0)
    success = {("badnets", 0): 0.0, ("badnets", 1): 0.2, ("blend", 0): 0.3, ("blend", 1): 0.5}
    for ray_id in "7465":
        assert states(study) == ["RUNNING"]
        asr = success.pop(searcher.ledger.of(ray_id).run)
        end(searcher, ray_id, val_asr=asr, val_acc=asr, val_ra=0.7 - asr)
    assert success == {}
    (trial,) = study.trials
    assert trial.values == pytest.approx([0.4, 0.25])
    assert list(trial.constraints.values()) == pytest.approx([0.6 - 0.45])


def test_a_trial_that_ended_before_its_control_was_cut_is_told_as_it_ended(make_searcher: MakeSearcher) -> None:
    searcher, study = make_searcher(spec_with())
    start(searcher, "0", "1", "2")
    end(searcher, "1", val_acc=0.7, val_asr=0.2)
    cut = searcher.ledger.running()
    searcher.agenda.abandon("Not finished: the sweep was interrupted.")
    assert [record.trial_id for record in cut] == ["c0000", "t0001"]
    assert [record.status for record in searcher.ledger.records.values()] == [FAILED, FINISHED, FAILED]
    assert states(study) == ["COMPLETE", "FAIL"]
    assert study.trials[0].values == pytest.approx([0.7, 0.2 - 0.05])
    assert study.trials[1].user_attrs["error"] == "Not finished: the sweep was interrupted."


def test_what_was_asked_but_never_started_is_not_left_running(make_searcher: MakeSearcher) -> None:
    searcher, study = make_searcher(spec_with())
    start(searcher, "0")
    searcher.agenda.abandon("cut")
    assert states(study) == ["FAIL"]
    assert {name: (r.status, r.interrupted) for name, r in searcher.ledger.records.items()} == {
        "c0000": (FAILED, True), "t0000": (FAILED, True),
    }  # fmt: skip


def test_a_combination_that_is_refused_has_failed_with_its_reason_and_the_rest_runs(
    make_searcher: MakeSearcher,
) -> None:
    lengths = {"mix_epochs": {"categorical": [1, 0]}, "suppression_epochs": {"categorical": [1, 0]}}
    searcher, study = make_searcher(
        spec_with(defense={"name": "vab", **lengths}, search={"sampler": "grid", "trials": 10})
    )
    names = start(searcher, *map(str, range(5)))
    assert len([name for name in names if name.startswith("t")]) == 3
    assert names[-1] == "None"
    refused = [trial for trial in study.trials if trial.state.name == "FAIL"]
    assert len(refused) == 1
    assert "must not both be 0" in refused[0].user_attrs["error"]


def test_a_part_of_a_grid_is_a_shuffled_sample_of_it(make_searcher: MakeSearcher) -> None:
    defense = {
        "name": "vab",
        "threshold": {"float": [0.1, 0.5], "step": 0.1},
        "mixing": {"categorical": ["none", "mixup"]},
    }
    spec = spec_with(defense=defense, search={"sampler": "grid", "trials": 4})
    points = grid_points(spec)
    assert len(points) == 10
    assert points == grid_points(spec)
    assert points != sorted(points, key=lambda p: (p["vab.threshold"], p["vab.mixing"]))
    searcher, study = make_searcher(spec)
    start(searcher, *map(str, range(6)))
    assert len(study.trials) == 4
    assert [trial.params for trial in study.trials] == points[:4]


def test_a_grid_of_too_many_points_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "MOST_POINTS", 5)
    points = {
        "name": "vab",
        "threshold": {"categorical": [0.1, 0.2, 0.3]},
        "mixing": {"categorical": ["none", "mixup"]},
    }
    with pytest.raises(ConfigError, match="more than 5 points; give larger steps"):
        grid_points(spec_with(defense=points, search={"sampler": "grid"}))
    assert len(grid_points(spec_with(defense=points | {"mixing": "none"}, search={"sampler": "grid"}))) == 3


def as_set(points: list[dict[str, Any]]) -> set[tuple[tuple[str, Any], ...]]:
    """Combinations that can be compared; none stands twice."""
    found = {tuple(sorted(point.items())) for point in points}
    assert len(found) == len(points)
    return found


GRID = {
    "defense": [
        {"name": "none", "epochs": {"int": [1, 2]}},
        {"name": "vab", "mixing": {"categorical": ["none", "attention"]},
         "mask_threshold": {"float": [0.1, 0.2], "step": 0.1, "when": {"mixing": "attention"}}},
    ],
    "scenario_defaults": {"poison_rate": {"categorical": [0.1, 0.2]}},
    "scenarios": [
        {"attack": "badnets", "size": {"int": [2, 3]}, "inset": {"categorical": [0, 1], "when": {"size": 2}}},
        {"attack": "blend", "alpha": {"categorical": [0.1, 0.2, 0.3]}},
        {"attack": "wanet"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("met", ["all", "one"])
def test_a_grid_is_every_combination_of_what_belongs_together_once(met: str) -> None:
    defenses = [{"defense": "none", "none.epochs": epochs} for epochs in (1, 2)]
    defenses += [{"defense": "vab", "vab.mixing": "none"}]
    defenses += [{"defense": "vab", "vab.mixing": "attention", "vab.mask_threshold": share} for share in (0.1, 0.2)]
    badnets = [{"badnets.size": 2, "badnets.inset": inset} for inset in (0, 1)] + [{"badnets.size": 3}]
    blend = [{"blend.alpha": alpha} for alpha in (0.1, 0.2, 0.3)]
    if met == "one":
        names = (("badnets", badnets), ("blend", blend), ("wanet", [{}]))
        attackers = [{"scenario": name, **own} for name, owns in names for own in owns]
    else:
        attackers = [first | second for first in badnets for second in blend]
    expected = [
        defense | attacker | {"scenario.poison_rate": rate}
        for defense in defenses for attacker in attackers for rate in (0.1, 0.2)
    ]  # fmt: skip
    found = grid_points(spec_with(**GRID, search={"sampler": "grid", "scenarios": met}))
    assert as_set(found) == as_set(expected)
    assert len(found) == 5 * (7 if met == "one" else 9) * 2


@pytest.mark.parametrize("met", ["all", "one"])
def test_a_grid_is_the_whole_product_without_what_no_trial_asks_for(met: str) -> None:
    spec = spec_with(**GRID, search={"sampler": "grid", "scenarios": met})
    space = spec.space()
    expected = []
    for values in product(*(searched.grid() or () for searched in space.values())):
        picked, asked = dict(zip(space, values, strict=True)), dict[str, Any]()
        spec.trial(lambda name, _, picked=picked, asked=asked: asked.setdefault(name, picked[name]), "data")
        expected.append(asked)
    assert as_set(grid_points(spec)) == {tuple(sorted(asked.items())) for asked in expected}


def test_a_grid_over_attackers_grows_by_their_number_and_not_as_a_power_of_it() -> None:
    rates = {"categorical": [0.02, 0.05, 0.1, 0.15, 0.2]}
    scenarios = [{"attack": "badnets", "name": f"n{number}", "poison_rate": rates} for number in range(30)]
    mixing = {"name": "vab", "mixing": {"categorical": ["none", "mixup"]}}
    points = grid_points(spec_with(defense=mixing, scenarios=scenarios, search={"sampler": "grid", "scenarios": "one"}))
    assert len(as_set(points)) == 2 * 30 * 5  # and not 2 * 30 * 5**30
    assert {frozenset(point) for point in points} == {
        frozenset({"scenario", "vab.mixing", f"n{number}.poison_rate"}) for number in range(30)
    }


def test_a_grid_over_attackers_runs_each_with_its_controls(make_searcher: MakeSearcher) -> None:
    spec = spec_with(
        defense={"name": "vab", "mixing": {"categorical": ["none", "mixup"]}},
        scenarios=[{"attack": "badnets", "size": {"int": [2, 3]}}, {"attack": "blend"}],
        search={"sampler": "grid", "trials": 20, "scenarios": "one"},
    )
    searcher, study = make_searcher(spec)
    assert len(study.trials) == 6
    start(searcher, *map(str, range(10)))
    records = searcher.ledger.records.values()
    trials = [record for record in records if record.role == "trial"]
    assert as_set([trial.params for trial in study.trials]) == as_set(grid_points(spec))
    for trial, record in zip(study.trials, trials, strict=True):
        assert [scenario.name for scenario in record.config.scenarios] == [trial.params["scenario"]]
        assert len(record.controls) == 1
    assert len([record for record in records if record.role == "control"]) == 3


def test_attackers_take_turns_and_the_searcher_chooses_the_rest(make_searcher: MakeSearcher) -> None:
    spec = spec_with(
        scenarios=[{"attack": "badnets", "size": {"int": [2, 3]}}, {"attack": "blend"}],
        search={"sampler": "tpe", "trials": 8, "scenarios": "one"},
    )
    searcher, study = make_searcher(spec)
    start(searcher, *map(str, range(20)))
    met = [(trial.params["scenario"], trial.params.get("badnets.size")) for trial in study.trials]
    assert met == [("badnets", 2), ("blend", None), ("badnets", 3), ("blend", None)] * 2
    assert len({trial.params["vab.threshold"] for trial in study.trials}) == 8
    configs = [record.config for record in searcher.ledger.records.values() if record.role == "trial"]
    assert [config.scenarios[0].name for config in configs] == ["badnets", "blend"] * 4
    assert [config.scenarios[0].params.get("size") for config in configs] == [2, None, 3, None] * 2


def test_a_list_of_defenses_is_searched_with_its_own_parameters(make_searcher: MakeSearcher) -> None:
    defenses = [{"name": "none", "epochs": {"int": [1, 3]}}, {"name": "vab", "threshold": {"float": [0.1, 0.5]}}]
    searcher, study = make_searcher(spec_with(defense=defenses, search={"trials": 8}))
    start(searcher, *map(str, range(9)))
    for trial in study.trials:
        own = {"none": "none.epochs", "vab": "vab.threshold"}[trial.params["defense"]]
        assert set(trial.params) == {"defense", own}
        assert searcher.ledger.records[trial.user_attrs["trial_id"]].config.defense == trial.params["defense"]
    assert {trial.params["defense"] for trial in study.trials} == {"none", "vab"}


def test_the_study_has_the_directions_and_the_name_of_the_sweep(make_searcher: MakeSearcher) -> None:
    _, study = make_searcher(spec_with(name="other"))
    assert study.study_name == "other"
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]


def test_ray_may_pickle_it_and_finds_nothing(make_searcher: MakeSearcher, tmp_path: Path) -> None:
    searcher, _ = make_searcher(spec_with())
    assert searcher.__getstate__() == {}
    searcher.save(str(tmp_path / "ckpt"))
    searcher.restore(str(tmp_path / "ckpt"))
    assert not (tmp_path / "ckpt").exists()
    searcher.on_trial_complete("a trial of somebody else", {})
    assert module.SweepSearcher.__getstate__ is type(searcher).__getstate__


def test_a_full_disk_ends_the_sweep_and_resume_goes_on_with_the_trial(make_searcher: MakeSearcher) -> None:
    searcher, _ = make_searcher(spec_with())
    start(searcher, "0", "1")
    end(searcher, "0")
    searcher.on_trial_complete("1", {"attempt": 1, "disk_full": "No space left on device", "done": True})
    record = searcher.ledger.records["t0000"]
    assert searcher.stopper.stop_all()
    assert "No space left on device" in str(searcher.ledger.broken)
    assert start(searcher, "2") == ["FINISHED"]
    searcher.agenda.abandon("Not finished: its files cannot be written any more.")
    assert (record.status, record.interrupted, record.trainings[RUN].status) == (FAILED, True, FAILED)


def test_what_finishes_once_nothing_can_be_written_is_left_for_resume(make_searcher: MakeSearcher) -> None:
    """Its scores may not have been written."""
    searcher, _ = make_searcher(spec_with())
    start(searcher, "0", "1")
    searcher.ledger.give_up(OSError("No space left on device"))
    end(searcher, "1")
    assert searcher.ledger.records["t0000"].trainings[RUN].status == RUNNING


def test_a_study_that_cannot_be_told_costs_no_finished_trial(make_searcher: MakeSearcher) -> None:
    searcher, study = make_searcher(spec_with())
    start(searcher, "0", "1")
    end(searcher, "0")

    def full(*_: Any, **__: Any) -> None:
        raise StorageInternalError("database or disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "tell", full)
        end(searcher, "1")
    searcher.on_trial_complete("1", error=True)  # Ray takes the error for one of the trial's, and tries again
    record = searcher.ledger.records["t0000"]
    assert (record.status, record.error) == (FINISHED, None)
    assert searcher.stopper.stop_all()
    assert isinstance(searcher.ledger.broken, StorageInternalError)


class Told(Watcher):
    """Notes each end with what its rows say of the attack."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str, object]] = []

    def trial_ended(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        self.ends.append((record.trial_id, record.status, rows[0]["weak_attack"]))


def test_an_end_is_told_once_its_controls_are_known(make_searcher: MakeSearcher) -> None:
    told = Told()
    searcher, _ = make_searcher(spec_with(), followers=[told])
    start(searcher, "0", "1", "2")
    end(searcher, "1")
    end(searcher, "2", val_asr=None)  # so that its objective is undefined
    assert told.ends == []
    end(searcher, "0", val_asr=0.3)
    assert told.ends == [("c0000", FINISHED, True), ("t0000", FINISHED, True), ("t0001", FAILED, True)]


def test_what_is_cut_short_is_told_too(make_searcher: MakeSearcher) -> None:
    told = Told()
    searcher, _ = make_searcher(spec_with(), followers=[told])
    start(searcher, "0", "1", "2")
    end(searcher, "1")
    searcher.agenda.abandon("Not finished: the sweep was interrupted.")
    assert [name for name, *_ in told.ends] == ["t0000", "c0000", "t0001"]
    assert [status for _, status, _ in told.ends] == [FINISHED, FAILED, FAILED]


# A trial of several trainings

TWO_SEEDS: dict[str, Any] = {"seeds": [0, 1], "search": {"trials": 1, "retries": 0, "interest": 0.4}}


def test_a_trial_that_leaves_its_race_stops_what_runs_of_it(make_searcher: MakeSearcher, tmp_path: Path) -> None:
    told = Told()
    searcher, study = make_searcher(spec_with(**TWO_SEEDS), followers=[told])
    assert start(searcher, *"01234") == ["c0000", "c0001", "t0000", "t0000", "None"]
    begin_on_a_host(searcher, "2", "3")
    end(searcher, "0")
    end(searcher, "1")
    end(searcher, "2", val_asr=0.9)  # of two seeds, the mean is above 0.4 whatever the other gives
    record = searcher.ledger.records["t0000"]
    assert (record.status, record.ended_by) == (PRUNED, "badnets")
    assert [searcher.stopper(ray_id, {}) for ray_id in "23"] == [False, True]
    assert start(searcher, "4") == ["None"], "a worker still runs it"
    assert [path.name for path in (tmp_path / "states").glob("*")] == ["t0000-1"]
    end(searcher, "3", val_asr=0.1)
    assert [row["status"] for row in record.rows({})] == [FINISHED, PRUNED], "it ended too late"
    assert not searcher.stopper("3", {})
    assert list((tmp_path / "states").glob("*")) == []
    assert start(searcher, "4") == ["FINISHED"]
    assert states(study) == ["COMPLETE"]
    assert study.trials[0].user_attrs["raced_out"] == record.error
    assert [name for name, *_ in told.ends] == ["c0000", "c0001", "t0000"]


def test_what_waits_to_be_tried_again_of_a_trial_that_left_leaves_no_states(
    make_searcher: MakeSearcher, tmp_path: Path
) -> None:
    spec = spec_with(seeds=[0, 1, 2], search={"trials": 1, "retries": 1, "interest": 0.4})
    searcher, _ = make_searcher(spec)
    assert start(searcher, *"012345") == ["c0000", "c0001", "c0002", "t0000", "t0000", "t0000"]
    for ray_id in "012":
        end(searcher, ray_id)
    begin_on_a_host(searcher, "3")
    searcher.on_trial_complete("3", error=True)
    end(searcher, "4", val_asr=0.9)
    end(searcher, "5", val_asr=0.8)
    assert searcher.ledger.records["t0000"].status == PRUNED
    assert list((tmp_path / "states").glob("*")) == []
    assert start(searcher, "6") == ["FINISHED"]


def test_what_broke_off_of_a_trial_that_left_is_not_tried_again(
    make_searcher: MakeSearcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "NOTICED_AFTER_S", inf)
    there = [Host(name, f"10.0.0.{name}", {"CPU": 3}) for name in "12"]
    spec = spec_with(**TWO_SEEDS | {"seeds": [0, 1, 2]})
    said: list[str] = []
    searcher, _ = make_searcher(spec, fleet=Fleet({"CPU": 1}, lambda: there), said=said.append)
    assert start(searcher, *"012345") == ["c0000", "c0001", "c0002", "t0000", "t0000", "t0000"]
    begin_on_a_host(searcher, *"345")
    searcher.on_trial_complete("3", error=True)  # whether its host is gone is not known yet
    for ray_id in "012":
        end(searcher, ray_id)
    end(searcher, "4", val_asr=0.9)
    end(searcher, "5", val_asr=0.8)
    assert searcher.ledger.records["t0000"].status == PRUNED
    assert [path.name for path in (tmp_path / "states").glob("*")] == ["t0000-0"]
    assert start(searcher, "6") == ["FINISHED"]
    assert list((tmp_path / "states").glob("*")) == []
    assert searcher.ledger.records["t0000"].trainings[RUN].status == PRUNED
    assert said == []


def test_a_training_that_fails_ends_its_trial_and_what_runs_of_it(make_searcher: MakeSearcher) -> None:
    searcher, study = make_searcher(spec_with(**TWO_SEEDS))
    start(searcher, *"0123")
    for ray_id in "01":
        end(searcher, ray_id)
    searcher.on_trial_complete("3", {"error": "The loss is nan.", "attempt": 1})
    record = searcher.ledger.records["t0000"]
    assert (record.status, record.error) == (FAILED, "badnets, seed 1: The loss is nan.")
    assert searcher.stopper("2", {})
    searcher.on_trial_complete("2", error=True)
    assert start(searcher, "4") == ["FINISHED"]
    assert [state.status for state in record.trainings.values()] == [PRUNED, FAILED]
    assert states(study) == ["FAIL"]
    assert study.trials[0].user_attrs["error"] == record.error
