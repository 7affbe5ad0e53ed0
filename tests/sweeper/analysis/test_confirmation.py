from typing import Any

import pytest

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.confirmation import confirmations, leaders
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import TrialRecord
from tests.sweeper.small import (
    ONE_SETTING,
    control_row,
    finish,
    frame_of,
    make_objectives,
    record_of,
    row_with,
    spec_with,
)
from trainers.errors import ConfigError


def trials_of(spec: SweepSpec, *thresholds: float, rate: float | None = None) -> dict[str, TrialRecord]:
    """Finished trials, each with its threshold and the next accuracy."""
    found = {}
    for number, threshold in enumerate(thresholds):

        def choose(name: str, searched: Any, threshold: float = threshold) -> Any:
            return threshold if name == "vab.threshold" else rate if "poison_rate" in name else searched.corners()[0]

        config = spec.trial(choose, "data")
        controls = {(s.name, r): config.control(s, r, spec.control.as_dict()).key for s, r in config.runs()}
        name = f"t{number + (100 if rate == 0.2 else 0):04d}"
        found[name] = finish(
            TrialRecord(name, "trial", config, controls), val_acc=0.5 + number / 10, val_asr=number / 10
        )
    return found


def frame(records: dict[str, TrialRecord]) -> Any:
    rows = [row for r in records.values() for row in r.rows(dict.fromkeys(r.controls.values(), 0.99))]
    return frame_of(*rows)


def test_the_leaders_run_with_fresh_seeds() -> None:
    spec = spec_with(seeds=[0, 4])
    records = trials_of(spec, 0.1, 0.2, 0.3)
    extra = confirmations(spec, frame(records), records, top=2, seeds=3)
    assert [record.trial_id for record in extra] == [f"k000{n}" for n in range(6)]
    assert {record.role for record in extra} == {"confirmation"}
    assert [record.config.repeats for record in extra if record.config] == [(5,), (6,), (7,)] * 2
    leading = leaders(frame(records), 2)
    assert [record.config.setting_key for record in extra if record.config] == [leading[0]] * 3 + [leading[1]] * 3
    for record in extra:
        assert record.config
        (scenario,) = record.config.scenarios
        seed = record.config.repeats[0]
        key = record.config.control(scenario, seed, spec.control.as_dict()).key
        assert record.controls == {("badnets", seed): key}


def test_compared_defenses_each_have_leaders() -> None:
    """The second one stands on no joint frontier."""
    spec = spec_with(defense=[ONE_SETTING, {"name": "none", "epochs": 1}])
    records = {}
    for number, (kind, acc) in enumerate((("vab", 0.9), ("none", 0.3))):
        config = spec.trial(lambda _name, _searched, kind=kind: kind, "data")
        controls = {(s.name, r): config.control(s, r, spec.control.as_dict()).key for s, r in config.runs()}
        name = f"t000{number}"
        records[name] = finish(TrialRecord(name, "trial", config, controls), val_acc=acc, val_asr=1 - acc)
    assert len(leaders(frame(records), 5)) == 1
    extra = confirmations(spec, frame(records), records, top=1, seeds=2)
    assert [record.config.defense for record in extra if record.config] == ["none"] * 2 + ["vab"] * 2


def test_what_was_confirmed_is_not_run_again() -> None:
    spec = spec_with()
    records = trials_of(spec, 0.1)
    first = confirmations(spec, frame(records), records, top=1, seeds=2)
    known = records | {record.trial_id: finish(record) for record in first}
    more = confirmations(spec, frame(records), known, top=1, seeds=3)
    assert [(r.trial_id, r.config.repeats) for r in more if r.config] == [("k0002", (3,))]
    assert confirmations(spec, frame(records), known, top=1, seeds=2) == []


def test_a_leader_meets_every_attacker() -> None:
    spec = spec_with(scenarios=[{"attack": "badnets", "poison_rate": {"categorical": [0.1, 0.2]}}])
    records = trials_of(spec, 0.1, rate=0.1) | trials_of(spec, 0.3, rate=0.2)
    extra = confirmations(spec, frame(records), records, top=5, seeds=1)
    met = {(r.config.params["threshold"], r.config.scenarios[0].poison_rate) for r in extra if r.config}
    assert met == {(0.1, 0.1), (0.1, 0.2), (0.3, 0.1), (0.3, 0.2)}


def test_a_leader_meets_also_an_attacker_at_which_every_trial_left_its_race() -> None:
    spec = spec_with(scenarios=[{"attack": "badnets", "poison_rate": {"categorical": [0.1, 0.2]}}])
    broken = trials_of(spec, 0.1, 0.3, rate=0.2)
    for record in broken.values():
        record.end("PRUNED", "val_asr_excess is at least 0.900, above the interest of 0.5")
    records = trials_of(spec, 0.1, rate=0.1) | broken
    extra = confirmations(spec, frame(records), records, top=5, seeds=1)
    met = {(r.config.params["threshold"], r.config.scenarios[0].poison_rate) for r in extra if r.config}
    assert met == {(0.1, 0.1), (0.1, 0.2)}


def test_an_attacker_who_fails_undefended_is_not_met_again() -> None:
    spec = spec_with(scenarios=[{"attack": "badnets", "poison_rate": {"categorical": [0.1, 0.2]}}])
    records = {**trials_of(spec, 0.1, 0.2, rate=0.1), **trials_of(spec, 0.1, 0.2, rate=0.2)}
    rows = frame(records)
    rows.loc[rows["poison_rate"] == 0.2, ["weak_attack", "control_asr"]] = [True, 0.3]
    extra = confirmations(spec, rows, records, top=1, seeds=2)
    assert [r.config.scenarios[0].poison_rate for r in extra if r.config] == [0.1, 0.1]


def test_who_leads() -> None:
    rows = [
        control_row(),
        row_with("t0", "accurate", val_acc=0.9, val_asr=0.5), row_with("t1", "balanced", val_acc=0.8, val_asr=0.1),
        row_with("t2", "safe", val_acc=0.4, val_asr=0.0), row_with("t3", "beaten", val_acc=0.3, val_asr=0.3),
        row_with("t4", "weak", val_acc=1.0, val_asr=0.0, weak_attack=True),
    ]  # fmt: skip
    assert leaders(frame_of(*rows), 5) == ["balanced", "accurate", "safe"]
    assert leaders(frame_of(*rows), 5, AttackBounds(max_excess=0.2)) == ["balanced", "safe", "accurate"]
    assert leaders(frame_of(*rows), 1, AttackBounds(max_excess=0.04)) == ["safe"]
    assert leaders(frame_of(*rows), 1, AttackBounds(max_asr=0.05)) == ["safe"]


def test_leaders_keep_both_bounds_if_both_are_given() -> None:
    """At a floor of 0.3 attack success is high, and the trigger adds little."""
    rows = [
        row_with("t0", "high floor", val_acc=0.9, val_asr=0.35, asr_floor=0.3),
        row_with("t1", "low floor", val_acc=0.8, val_asr=0.04, asr_floor=0.0),
    ]
    assert leaders(frame_of(*rows), 1, AttackBounds(max_excess=0.1)) == ["high floor"]
    assert leaders(frame_of(*rows), 1, AttackBounds(max_excess=0.1, max_asr=0.2)) == ["low floor"]


def test_attack_success_is_bounded_in_the_scenario_in_which_it_is_highest() -> None:
    """Which is not the one in which the trigger adds most."""
    high = row_with("t0", "a", scenario="x", val_acc=0.9, val_asr=0.35, asr_floor=0.34)
    rows = [high, row_with("t0", "a", scenario="y", val_acc=0.9, val_asr=0.1, asr_floor=0.02)]
    rows += [row_with("t1", "b", scenario=name, val_acc=0.8, val_asr=0.07, asr_floor=0.02) for name in ("x", "y")]
    assert leaders(frame_of(*rows), 1, AttackBounds(max_asr=0.2)) == ["b"]
    assert leaders(frame_of(*rows), 1, AttackBounds(max_excess=0.2)) == ["a"]


def test_without_sound_evidence_there_is_no_leader() -> None:
    spec = spec_with()
    weak = frame_of(control_row(), row_with(weak_attack=True))
    with pytest.raises(ConfigError, match="nothing to confirm"):
        confirmations(spec, weak, {"t0000": record_of()}, top=1, seeds=3)


def test_of_an_attackers_sweep_the_leading_attackers_run_again() -> None:
    spec = spec_with(
        scenarios=[{"attack": "badnets", "poison_rate": {"float": [0.01, 0.1]}}],
        defense=ONE_SETTING,
        objectives=make_objectives(("val_asr", "maximize"), ("poison_rate", "minimize")),
        constraints=[{"metric": "control_asr", "min": 0.8}],
    )
    records = {}
    for number, (rate, asr) in enumerate(((0.02, 0.5), (0.05, 0.4), (0.1, 0.9))):
        config = spec.trial(lambda _name, _searched, rate=rate: rate, "data")
        controls = {(s.name, r): config.control(s, r, spec.control.as_dict()).key for s, r in config.runs()}
        records[f"t000{number}"] = finish(TrialRecord(f"t000{number}", "trial", config, controls), val_asr=asr)
    extra = confirmations(spec, frame(records), records, top=2, seeds=2)
    met = [(r.config.scenarios[0].poison_rate, r.config.repeats) for r in extra if r.config]
    assert met == [(0.1, (1,)), (0.1, (2,)), (0.02, (1,)), (0.02, (2,))], "the second is beaten by the first"
    for bound, option in ((AttackBounds(max_asr=0.1), "--max-asr"), (AttackBounds(max_excess=0.1), "--max-excess")):
        with pytest.raises(ConfigError, match=f"{option} ranks settings of a defense"):
            confirmations(spec, frame(records), records, top=2, seeds=2, most=bound)
    weak = frame(records).assign(control_asr=0.5)
    with pytest.raises(ConfigError, match="No attacker keeps the constraints"):
        confirmations(spec, weak, records, top=2, seeds=2)


def test_a_milder_attacker_makes_nobody_a_leader() -> None:
    """Two rates were dealt out: each setting is ranked among those that met its own."""
    rows = [control_row()]
    for rate, accuracies in ((0.05, (0.95, 0.94, 0.93)), (0.2, (0.7, 0.6, 0.5))):
        rows += [
            row_with(f"t-{acc}", f"at {acc}", poison_rate=rate, val_acc=acc, val_asr=acc / 10) for acc in accuracies
        ]
    assert leaders(frame_of(*rows), 3) == ["at 0.95", "at 0.7", "at 0.94"]


def test_who_met_several_attackers_is_ranked_by_the_worst() -> None:
    figures = {
        "lucky": ((0.99, 0.0), (0.3, 0.9)),
        "even": ((0.9, 0.05), (0.8, 0.05)),
        "poor": ((0.2, 0.04), (0.2, 0.04)),
    }
    rows = [
        row_with(f"t-{name}-{scenario}", name, scenario=scenario, attack=scenario, val_acc=acc, val_asr=asr)
        for name, each in figures.items()
        for scenario, (acc, asr) in zip(("badnets", "blend"), each, strict=True)
    ]
    assert leaders(frame_of(*rows), 1) == ["even"]
    assert leaders(frame_of(*rows), 2, AttackBounds(max_excess=0.1))[0] == "even"


def test_a_leader_may_stand_at_the_bound_itself() -> None:
    rows = [row_with("t0", "at", val_acc=0.9, val_asr=0.2), row_with("t1", "below", val_acc=0.8, val_asr=0.1)]
    assert leaders(frame_of(*rows), 2, AttackBounds(max_asr=0.2)) == ["at", "below"]
    rows = [row | {"val_asr_excess": row["val_asr"]} for row in rows]
    assert leaders(frame_of(*rows), 2, AttackBounds(max_excess=0.2)) == ["at", "below"]


def test_a_good_rank_makes_up_for_no_bad_one() -> None:
    """Ranks: a first and fourth, b third twice, c second and first, d fourth and second."""
    figures = {
        "a": ((0.9, 0.1), (0.3, 0.6)),
        "b": ((0.7, 0.0), (0.7, 0.0)),
        "c": ((0.8, 0.05), (0.9, 0.1)),
        "d": ((0.5, 0.5), (0.8, 0.05)),
    }
    rows = [
        row_with(f"t-{name}-{scenario}", name, scenario=scenario, attack=scenario, val_acc=acc, val_asr_excess=added)
        for name, each in figures.items()
        for scenario, (acc, added) in zip(("badnets", "blend"), each, strict=True)
    ]
    assert leaders(frame_of(*rows), 4) == ["c", "b", "d", "a"]
