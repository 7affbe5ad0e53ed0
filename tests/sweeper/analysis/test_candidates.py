from typing import Any

import pytest

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.candidates import MOST, candidates
from sweeper.analysis.selection import BoundsMissed, NothingQualifies
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import TrialRecord
from tests.sweeper.small import finish, frame_of, row_with, spec_with
from trainers.errors import ConfigError

WITHIN = AttackBounds(max_excess=0.1)


def trial(spec: SweepSpec, number: int, acc: float, excess: float, rate: float = 0.1, **figures: Any) -> TrialRecord:
    """A finished trial; its threshold is drawn so that each number is another setting."""

    def choose(name: str, searched: Any) -> Any:
        if name == "vab.threshold":
            return 0.1 + number % 100 / 1000
        return rate if "poison_rate" in name else searched.corners()[0]

    config = spec.trial(choose, "data")
    controls = {(s.name, r): config.control(s, r, spec.control.as_dict()).key for s, r in config.runs()}
    record = TrialRecord(f"t{number:04d}", "trial", config, controls)
    return finish(record, val_acc=acc, val_asr=0.05 + excess, asr_floor=0.05, **figures)


def table(*records: TrialRecord, weak: str = "", control: float = 0.99) -> Any:
    rows = [row for r in records for row in r.rows(dict.fromkeys(r.controls.values(), control))]
    for row in rows:
        if row["scenario"] == weak:
            row |= {"weak_attack": True, "control_asr": 0.3}
    return frame_of(*rows)


def known(*records: TrialRecord) -> dict[str, TrialRecord]:
    return {record.trial_id: record for record in records}


def test_settings_of_the_frontier_within_the_bound_the_most_accurate_first() -> None:
    spec = spec_with()
    records = [
        trial(spec, 0, acc=0.7, excess=0.01),
        trial(spec, 1, acc=0.9, excess=0.08),
        trial(spec, 2, acc=0.95, excess=0.3),  # above the bound
        trial(spec, 3, acc=0.6, excess=0.05),  # dominated
    ]
    field = candidates(table(*records), known(*records), WITHIN)
    assert [one.config_id for one in field.candidates] == [records[1].config_id, records[0].config_id]
    assert [(one.accuracy, one.attack) for one in field.candidates] == [
        (0.9, pytest.approx(0.08)),
        (0.7, pytest.approx(0.01)),
    ]
    assert list(field.attackers) == ["badnets"]
    assert field.left_out == []


def test_of_near_equal_settings_the_safest() -> None:
    spec = spec_with()
    records = [trial(spec, 0, 0.903, 0.09), trial(spec, 1, 0.900, 0.02), trial(spec, 2, 0.897, 0.01)]
    (first, second) = candidates(table(*records), known(*records), WITHIN).candidates
    assert (first.accuracy, second.accuracy) == (0.900, 0.897), (
        "0.897 lies more than 0.005 below the first of its group"
    )


def test_never_more_than_ten() -> None:
    spec = spec_with()
    records = [trial(spec, n, 0.5 + n * 0.01, 0.001 * n) for n in range(25)]
    field = candidates(table(*records), known(*records), WITHIN)
    assert 5 <= len(field.candidates) <= MOST
    assert field.candidates[0].accuracy == max(one.accuracy for one in field.candidates) > 0.7


def test_the_least_accuracy() -> None:
    spec = spec_with()
    records = [trial(spec, 0, 0.7, 0.01), trial(spec, 1, 0.9, 0.08)]
    (only,) = candidates(table(*records), known(*records), WITHIN, min_acc=0.8).candidates
    assert only.accuracy == 0.9
    with pytest.raises(BoundsMissed, match=r"val_acc >= 0\.95 in the search, so none is a candidate"):
        candidates(table(*records), known(*records), WITHIN, min_acc=0.95)


def test_none_within_the_bound() -> None:
    spec = spec_with()
    records = [trial(spec, 0, 0.7, 0.4), trial(spec, 1, 0.9, 0.8)]
    with pytest.raises(BoundsMissed, match=r"Nearest is vab \w+: val_asr_excess 0\.400, val_acc 0\.700"):
        candidates(table(*records), known(*records), WITHIN)


def test_a_bound_on_attack_success_counts_the_floor() -> None:
    spec = spec_with()
    records = [trial(spec, 0, 0.7, 0.01), trial(spec, 1, 0.9, 0.08)]
    (only,) = candidates(table(*records), known(*records), AttackBounds(max_asr=0.1)).candidates
    assert only.attack == pytest.approx(0.06)


TWO = [{"attack": "badnets", "poison_rate": 0.1, "target": 0}, {"attack": "blend", "poison_rate": 0.1, "target": 0}]


def test_scenarios_with_a_weak_attack_are_left_out_and_named() -> None:
    spec = spec_with(scenarios=TWO)
    records = [trial(spec, 0, 0.7, 0.01), trial(spec, 1, 0.9, 0.08)]
    field = candidates(table(*records, weak="blend"), known(*records), WITHIN)
    assert list(field.attackers) == ["badnets"]
    assert field.left_out == ["blend (its attack is weak without a defense, 0.300 where 0.8 is asked for)"]
    assert len(field.candidates) == 2, "the other scenario is evidence enough"


def test_one_weak_control_of_several_leaves_the_attack_in() -> None:
    spec = spec_with(seeds=[0, 1], scenarios=TWO)
    record = trial(spec, 0, 0.9, 0.01)
    frame = table(record)
    frame.loc[(frame["scenario"] == "blend") & (frame["seed"] == 1), ["weak_attack", "control_asr"]] = [True, 0.78]
    field = candidates(frame, known(record), WITHIN)
    assert sorted(field.attackers) == ["badnets", "blend"]
    assert (field.left_out, len(field.candidates)) == ([], 1)


def test_a_trial_without_a_record_is_left_out() -> None:
    spec = spec_with()
    records = [trial(spec, 0, 0.7, 0.01), trial(spec, 1, 0.9, 0.08)]
    field = candidates(table(*records), known(records[0]), WITHIN)
    assert [one.config_id for one in field.candidates] == [records[0].config_id]


def test_a_scenario_without_poison_is_left_out() -> None:
    spec = spec_with(scenarios=[*TWO[:1], {"attack": "blend", "poison_rate": 0.0, "target": 0}])
    records = [trial(spec, 0, 0.7, 0.01)]
    field = candidates(table(*records), known(*records), WITHIN)
    assert (list(field.attackers), field.left_out) == (["badnets"], ["blend (it poisons nothing)"])


def test_a_sweep_whose_attacks_are_all_weak() -> None:
    spec = spec_with()
    records = [trial(spec, 0, 0.7, 0.01)]
    with pytest.raises(ConfigError, match=r"No attack of this sweep is evidence.*badnets: its attack is weak"):
        candidates(table(*records, weak="badnets"), known(*records), WITHIN)
    frame = table(*records).assign(weak_attack=None, control_asr=None)
    with pytest.raises(ConfigError, match="its control did not finish"):
        candidates(frame, known(*records), WITHIN)


def test_nothing_finished() -> None:
    with pytest.raises(NothingQualifies, match="No trial finished"):
        candidates(frame_of(row_with(status="FAILED", error="broken")), {}, WITHIN)


def test_the_scenario_that_broke_the_bound_most_often_comes_first() -> None:
    spec = spec_with(scenarios=TWO)
    records = [trial(spec, n, 0.7 + n / 100, 0.01) for n in range(3)]
    frame = table(*records)
    others = (frame["scenario"] == "blend") & frame["trial_id"].isin(["t0000", "t0001"])
    frame.loc[others, ["val_asr", "val_asr_excess"]] = [0.9, 0.85]
    field = candidates(frame, known(*records), WITHIN)
    assert list(field.attackers) == ["blend", "badnets"]
    assert [one.config_id for one in field.candidates] == [records[2].config_id]


def test_attackers_that_differ_between_trials_are_all_met() -> None:
    spec = spec_with(scenarios=[{"attack": "badnets", "poison_rate": {"categorical": [0.05, 0.2]}, "target": 0}])
    records = [
        trial(spec, 0, 0.7, 0.01, rate=0.05),
        trial(spec, 1, 0.9, 0.02, rate=0.05),
        trial(spec, 101, 0.8, 0.5, rate=0.2),  # the same setting as t0001, broken by the other attacker
        trial(spec, 2, 0.6, 0.03, rate=0.2),
    ]
    assert records[1].config_id == records[2].config_id
    field = candidates(table(*records), known(*records), WITHIN)
    assert [one.config_id for one in field.candidates] == [records[0].config_id, records[3].config_id]
    assert list(field.attackers) == ["badnets at poison_rate=0.2", "badnets at poison_rate=0.05"]
    assert [scenario.poison_rate for scenario in field.attackers.values()] == [0.2, 0.05]
