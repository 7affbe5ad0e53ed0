import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from sweeper.run_folder.record import (
    EXTRA_COLUMNS,
    KEY_COLUMNS,
    Training,
    TrainingState,
    TrialRecord,
    control_success,
    next_id,
)
from sweeper.run_folder.tables import TABLE_COLUMNS, class_counts
from tests.sweeper.small import FACTS, epoch_figures, finish, record_of, spec_with
from trainers.measuring.evaluation import METRICS

RUN = ("badnets", 0)


def test_a_row_per_scenario_and_seed() -> None:
    scenarios = [{"attack": "badnets", "labels": "all_to_all"}, {"attack": "blend", "target": 3, "alpha": 0.3}]
    record = finish(record_of(spec=spec_with(scenarios=scenarios, seeds=[0, 5])))
    rows = record.rows(dict.fromkeys(record.controls.values(), 0.9))
    assert [(row["scenario"], row["seed"], row["target"]) for row in rows] == [
        ("badnets", 0, None), ("badnets", 5, None), ("blend", 0, 3), ("blend", 5, 3),
    ]  # fmt: skip
    assert {row["config_id"] for row in rows} == {record.config.setting_key}
    assert [row.get("param.scenario.alpha") for row in rows] == [None, None, 0.3, 0.3]
    assert [row.get("param.scenario.size") for row in rows] == [3, 3, None, None]
    assert {row["param.defense.threshold"] for row in rows} == {0.1}
    for row in rows:
        assert tuple(row)[: len(TABLE_COLUMNS)] == TABLE_COLUMNS


def test_figures_are_those_of_the_last_epoch() -> None:
    record = record_of()
    for epoch in (1, 2, 3):
        record.add_epoch(RUN, epoch_figures(epoch, val_acc=0.9 - epoch / 10), FACTS)
    record.end_training(RUN, "FINISHED")
    row = record.rows({})[0]
    assert (row["epoch"], row["val_acc"]) == (3, pytest.approx(0.6))
    assert {metric: row[metric] for metric in METRICS} == {metric: record.final(RUN)[metric] for metric in METRICS}


@pytest.mark.parametrize("status", ["RUNNING", "PRUNED", "FAILED"])
def test_only_a_finished_training_has_figures(status: str) -> None:
    record = finish(record_of())
    record.end_training(RUN, status, "why")
    row = record.rows(dict.fromkeys(record.controls.values(), 0.95))[0]
    assert {row[metric] for metric in METRICS} == {None}
    assert (row["status"], row["error"], row["control_asr"], row["weak_attack"]) == (status, "why", 0.95, False)
    assert (row["trial_status"], row["trial_error"]) == ("FINISHED", None)
    assert len(record.curve_rows()) == 3


TWO_SEEDS = spec_with(seeds=[0, 1], scenarios=[{"attack": "badnets"}, {"attack": "blend"}])
RUNS = [("badnets", 0), ("badnets", 1), ("blend", 0), ("blend", 1)]


def half_done() -> TrialRecord:
    """One of its trainings has finished, one has failed, and two have not ended."""
    record = record_of(spec=TWO_SEEDS)
    for run in RUNS[:3]:
        record.add_epoch(run, epoch_figures(1), FACTS)
        record.trainings[run].attempt = 1
    record.end_training(RUNS[0], "FINISHED")
    record.end_training(RUNS[1], "FAILED", "The loss is nan.")
    return record


def test_a_trial_that_left_its_race_keeps_what_finished_and_needs_no_more() -> None:
    record = half_done()
    record.end("PRUNED", "val_asr is at least 0.600, above the interest of 0.5")
    rows = record.rows({})
    assert [(row["scenario"], row["seed"]) for row in rows] == RUNS
    assert [(row["status"], row["error"], row["attempt"]) for row in rows] == [
        ("FINISHED", None, 1), ("FAILED", "The loss is nan.", 1), ("PRUNED", record.error, 1),
        ("PRUNED", record.error, 0),
    ]  # fmt: skip
    assert {(row["trial_status"], row["trial_error"]) for row in rows} == {("PRUNED", record.error)}
    assert [row["val_acc"] for row in rows] == [0.8, None, None, None]
    assert len(record.curve_rows()) == 3


@pytest.mark.parametrize(
    ("status", "interrupted", "left"),
    [("FINISHED", False, "FINISHED"), ("FAILED", False, "PRUNED"), ("FAILED", True, "FAILED")],
)
def test_what_has_not_ended_ends_with_its_trial(status: str, interrupted: bool, left: str) -> None:
    """A trial that failed needs no more of its trainings; one that the sweep's end cut off does."""
    record = half_done()
    record.end(status, "why", interrupted)
    assert [state.status for state in record.trainings.values()] == ["FINISHED", "FAILED", left, left]
    assert [state.error for state in record.trainings.values()] == [None, "The loss is nan.", "why", "why"]
    assert record.open == interrupted


@pytest.mark.parametrize(
    ("status", "error", "attempt", "host"),
    [("FINISHED", None, 2, "10.0.0.1"), ("FAILED", "The loss is nan.", 1, None), ("PRUNED", None, None, None)],
)
def test_in_a_record_of_version_1_trainings_ended_as_their_trial(
    status: str, error: str | None, attempt: int | None, host: str | None
) -> None:
    record = finish(record_of(spec=TWO_SEEDS))
    fields = json.loads(record.to_json()) | {"status": status, "error": error, "attempt": attempt, "host": host}
    del fields["trainings"], fields["ended_by"]
    again = TrialRecord.from_json(json.dumps(fields))
    assert again.trainings == {run: TrainingState(status, error, attempt or 1, host) for run in RUNS}
    assert len({id(state) for state in again.trainings.values()}) == 4
    assert [row["val_acc"] for row in again.rows({})] == [0.8 if status == "FINISHED" else None] * 4
    assert TrialRecord.from_json(again.to_json()) == again


def test_a_training_is_its_trial_against_one_scenario_with_one_seed() -> None:
    record = record_of("t0007", spec=TWO_SEEDS)
    trainings = [Training(record, run) for run in record.trainings]
    assert [training.run for training in trainings] == RUNS
    assert [training.name for training in trainings] == [f"t0007-{number}" for number in range(4)]
    assert trainings[3].label == "t0007 (blend, seed 1)"
    assert [[(s.name, seed) for s, seed in training.config.runs()] for training in trainings] == [[run] for run in RUNS]
    assert {training.config.setting_key for training in trainings} == {record.config_id}
    record.end_training(RUNS[3], "FAILED", "why")
    assert (trainings[3].state.status, trainings[2].state.status) == ("FAILED", "RUNNING")
    assert Training(record_of(), RUN).label == "t0000", "one training needs no further name"


@pytest.mark.parametrize(("control", "weak"), [(None, None), (0.0, True), (0.7999, True), (0.8, False), (1.0, False)])
def test_an_attack_is_weak_below_its_bound(control: float | None, weak: bool | None) -> None:
    record = finish(record_of())
    row = record.rows(dict.fromkeys(record.controls.values(), control))[0]
    assert (row["control_asr"], row["weak_attack"]) == (control, weak)


def test_without_poison_no_attack_is_weak() -> None:
    objectives = [{"metric": "val_acc", "direction": "maximize"}]
    spec = spec_with(scenarios=[{"attack": "badnets", "poison_rate": 0}], objectives=objectives)
    record = finish(record_of(spec=spec), val_asr=None)
    row = record.rows(dict.fromkeys(record.controls.values()))[0]
    assert (row["poison_rate"], row["weak_attack"], row["val_asr"]) == (0, None, None)


def test_counts_of_the_classes_are_text_in_a_row_and_in_no_curve() -> None:
    counts = [["cat", 3, 4], ['d\'og "x"', 0, 5]]
    record = finish(record_of(), val_class_counts=counts)
    again = TrialRecord.from_json(record.to_json())
    cell = again.rows({})[0]["val_class_counts"]
    assert json.loads(cell) == counts
    assert class_counts(cell) == {"cat": (3, 4), 'd\'og "x"': (0, 5)}
    assert not any("val_class_counts" in row for row in again.curve_rows())


def test_the_excess_of_attack_success_is_computed_where_an_earlier_version_did_not_report_it() -> None:
    record = finish(record_of(), epochs=1, val_asr=0.75, asr_floor=0.5, test_asr=0.25, test_asr_floor=0.5)
    text = json.loads(record.to_json())
    for _, _, epochs in text["epochs"]:
        for figures in epochs:
            del figures["val_asr_excess"], figures["test_asr_excess"]
    for told in (record, TrialRecord.from_json(json.dumps(text))):
        assert [(row["val_asr_excess"], row["test_asr_excess"]) for row in told.rows({})] == [(0.25, 0.0)]
        assert {row["val_asr_excess"] for row in told.curve_rows()} == {0.25}


def test_a_record_of_an_earlier_version_has_no_figures_of_classes() -> None:
    fields = json.loads(finish(record_of()).to_json())
    named = [name for name in METRICS if name.endswith(("balanced_acc", "min_class_acc"))]
    for *_, epochs in fields["epochs"]:
        for figures in epochs:
            for name in named:
                del figures[name]
    row = TrialRecord.from_json(json.dumps(fields)).rows({})[0]
    assert len(named) == 4
    assert {row[name] for name in (*named, "val_class_counts")} == {None}
    assert row["val_acc"] == 0.8


def test_of_an_epoch_reported_again_the_first_stays() -> None:
    record = record_of()
    for acc in (0.1, 0.2):
        for epoch in (1, 2):
            record.add_epoch(RUN, epoch_figures(epoch, val_acc=acc * epoch), FACTS)
    rows = record.curve_rows()
    assert [(row["epoch"], row["val_acc"]) for row in rows] == [(1, 0.1), (2, 0.2)]
    assert {(row["trial_id"], row["role"], row["scenario"], row["stage"]) for row in rows} == {
        ("t0000", "trial", "badnets", "mix")
    }


def test_a_trial_without_an_epoch_has_its_row() -> None:
    row = record_of().rows({})[0]
    assert (row["status"], row["n_eval"], row["poison_share"], row["attempt"]) == ("RUNNING", None, None, 0)


def test_the_columns_of_keys_and_extras() -> None:
    assert (*KEY_COLUMNS, *METRICS, *EXTRA_COLUMNS) == TABLE_COLUMNS
    assert len(set(TABLE_COLUMNS)) == len(TABLE_COLUMNS)


def test_a_setting_keeps_the_name_that_commit_6f02d73_gave_it() -> None:
    params = {
        "batch_size": 64, "decay": 0.1, "early_weight": 0.1, "late_weight": 0.9525571158597872, "lr": 0.05,
        "mask_threshold": 0.5343891560305959, "milestones": [0.25, 0.5, 0.75], "mix_beta": 1.0, "mix_epochs": 16,
        "mixing": "attention", "momentum": 0.9, "resplit_period": 8, "schedule": "cosine", "smoothing": 0.75,
        "split": "threshold", "suppression": "both", "suppression_epochs": 4, "temperature": 3.0,
        "threshold": 0.2518300181292034, "threshold_decay": 0.4, "threshold_start": 1.0, "upsampling": "bilinear",
        "victim_batch_size": 128, "victim_lr": 0.002, "victim_model": None, "victim_weight_decay": 0.0005,
        "warmup_rounds": 2, "warmup_steps": 60, "weight_decay": 0.0005,
    }  # fmt: skip
    fields = json.loads(finish(record_of()).to_json())
    fields["config"]["params"] = params
    del fields["config_id"]
    record = TrialRecord.from_json(json.dumps(fields))
    assert record.rows({})[0]["config_id"] == record.curve_rows()[0]["config_id"] == "0a88e20e9f73"
    assert TrialRecord.from_json(record.to_json()).config_id == "0a88e20e9f73"


def test_a_setting_keeps_its_name_when_a_later_version_would_give_it_another() -> None:
    fields = json.loads(finish(record_of()).to_json())
    assert fields["config_id"] == record_of().config.setting_key
    fields["config_id"] = "123456789abc"
    assert TrialRecord.from_json(json.dumps(fields)).rows({})[0]["config_id"] == "123456789abc"


# Names


@pytest.mark.parametrize(
    ("known", "name"),
    [([], "c0000"), (["c0000"], "c0001"), (["c0007", "c0002"], "c0008"), (["c9999"], "c10000"), (["c10000"], "c10001")],
)
def test_the_next_id_follows_the_highest_whatever_is_missing(known: list[str], name: str) -> None:
    assert next_id("c", known) == name


@pytest.mark.parametrize(("name", "role"), [("t0000", "trial"), ("t12345", "trial"), ("c0003", "control"),
                                            ("k0001", "confirmation")])  # fmt: skip
def test_a_record_of_any_role_comes_back(name: str, role: str) -> None:
    record = finish(record_of(name))
    record.role = role
    assert TrialRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    "changes",
    [{"trial_id": "t0000/../../x"}, {"trial_id": "t0000x"}, {"trial_id": "t000"}, {"role": "judge"}, {"role": None}],
)
def test_what_no_sweep_would_write_is_no_record(changes: dict[str, Any]) -> None:
    fields = json.loads(finish(record_of()).to_json())
    with pytest.raises(ValueError, match="its trial_id or role is not valid"):
        TrialRecord.from_json(json.dumps(fields | changes))


def in_trainings(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda fields: fields["trainings"][0][2].update(changes)


def in_figures(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda fields: fields["epochs"][0][2][0].update(changes)


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        *((lambda fields, changes=changes: fields.update(changes), name) for name, changes in (
            ("status", {"status": "WEIRD"}), ("error", {"error": 5}), ("searched", {"searched": "x"}),
            ("searched", {"searched": {"a": [1, 2]}}), ("ended_at", {"ended_at": "x"}), ("controls", {"controls": []}),
        )),
        (in_trainings(status="WEIRD"), "status"), (in_trainings(error=5), "error"), (in_trainings(host=5), "host"),
        (in_trainings(attempt=None), "attempt"), (in_figures(val_acc="x"), "val_acc"),
        (in_figures(val_asr=True), "val_asr"), (in_figures(stage=5), "stage"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_no_record(harm: Callable[[dict[str, Any]], None], what: str) -> None:
    fields = json.loads(finish(record_of("c0000", "control")).to_json())
    harm(fields)
    with pytest.raises(ValueError, match=f"its {what} (is|are) not valid"):
        TrialRecord.from_json(json.dumps(fields))


def test_figures_that_are_not_finite_come_back() -> None:
    record = finish(record_of(), val_acc=float("inf"))
    assert TrialRecord.from_json(record.to_json()) == record


# How it ended


def test_what_was_cut_short_is_gone_on_with_and_what_failed_is_not() -> None:
    record = record_of()
    assert record.open
    record.end("FAILED", "the sweep was interrupted", interrupted=True)
    assert record.open
    record.end("FAILED", "The loss is nan.")
    assert not record.open
    assert (record.status, record.error) == ("FAILED", "The loss is nan.")


def test_a_record_knows_when_it_ended() -> None:
    record = record_of()
    record.began_at -= 100
    before = time.time()
    record.end("FINISHED")
    assert record.ended_at is not None
    assert before <= record.ended_at <= time.time()


def test_attack_success_without_defense_is_that_of_controls_that_finished() -> None:
    """On the validation half; a trial or a confirming run is no control, and one that failed says nothing."""
    records = [record_of(f"c000{n}", "control", spec_with(seed=n)) for n in range(3)]
    finish(records[0], val_asr=0.9, test_asr=0.2)
    finish(records[1], val_asr=0.7)
    records[1].end("FAILED", "The loss is nan.")
    again = finish(record_of("k0000"), val_asr=0.1)
    again.role = "confirmation"
    (first,), (second,), (third,) = (record.controls.values() for record in records)
    assert control_success([finish(record_of()), *records, again]) == {first: 0.9, second: None, third: None}


def test_an_older_record_names_what_its_defense_did_and_not_what_it_would_do_today() -> None:
    spec = spec_with(defense={"name": "abl", "cutout": 2, "unlearning_rest": False})
    fields = json.loads(finish(record_of(spec=spec)).to_json())
    for name in ("cutout", "unlearning_rest"):
        del fields["config"]["params"][name]
    today = TrialRecord.from_json(json.dumps(fields)).rows({})[0]
    assert (today["param.defense.cutout"], today["param.defense.unlearning_rest"]) == (2, False)
    del fields["config_id"]
    before = TrialRecord.from_json(json.dumps(fields)).rows({})[0]
    assert (before["param.defense.cutout"], before["param.defense.unlearning_rest"]) == (0, True)
