import json
from typing import Any

import pandas as pd
import pytest
import yaml

from sweeper.analysis.certified import select_certified
from sweeper.analysis.selection import BoundsMissed, NothingQualifies, select
from sweeper.cli.tables import selection_lines
from sweeper.deploy.bounds import Bounds
from sweeper.deploy.deployment import deployment
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.tables import as_rows, setting_params
from tests.sweeper.certificates import certificate_of, good, replicate_rows, step
from tests.sweeper.small import DATA, control_row, finish, frame_of, record_of, row_with, spec_with, write_rows
from trainers.defenses import DEFENSES

SWEEP: dict[str, Any] = {
    "data": DATA,
    "preset": {
        "name": "small",
        "model": {"name": "tiny"},
        "augment": {"crop": 0},
        "amp": "off",
        "pass_images": 64,
        "device": "auto",
        "resources": {"gpu": 0.5},
        "data": {"source": "shapes"},
    },
    "data_fingerprint": "abc-def",
    "numerics": 2,
    "provenance": {"created": "2026-01-01", "git_commit": "123", "python": "3.11", "versions": {"torch": "2.15.0"}},
}


def frame(*points: tuple[float, float]) -> pd.DataFrame:
    return frame_of(control_row(), *(row_with(f"t{i}", val_acc=a, val_asr=s) for i, (a, s) in enumerate(points)))


def test_the_most_accurate_of_those_that_keep_the_bound() -> None:
    chosen = select(frame((0.9, 0.3), (0.8, 0.1), (0.7, 0.05), (0.6, 0.0)), max_asr=0.15)
    assert chosen.point["config_id"] == "config-t1"
    assert (chosen.others, chosen.hardest_of) == (2, [])


def test_the_bound_itself_is_allowed() -> None:
    assert select(frame((0.8, 0.15)), max_asr=0.15, min_acc=0.8).point["val_asr"] == 0.15


def test_ties_go_to_the_lower_attack_success() -> None:
    assert select(frame((0.8, 0.1), (0.8, 0.05), (0.8, 0.12)), max_asr=0.15).point["config_id"] == "config-t1"


def test_the_bound_on_accuracy_excludes() -> None:
    with pytest.raises(NothingQualifies, match=r"val_asr <= 0\.15 and val_acc >= 0\.9"):
        select(frame((0.8, 0.1)), max_asr=0.15, min_acc=0.9)


def test_it_is_the_worst_scenario_that_counts() -> None:
    rows = [row_with("t0", config="a", scenario="badnets", val_asr=0.0),
            row_with("t0", config="a", scenario="blend", val_asr=0.4)]  # fmt: skip
    with pytest.raises(NothingQualifies):
        select(frame_of(*rows), max_asr=0.2)


def test_weak_evidence_never_qualifies() -> None:
    rows = [row_with("t0", val_acc=0.9, val_asr=0.0, weak_attack=True, control_asr=0.4), row_with("t1", val_acc=0.5)]
    assert select(frame_of(*rows), max_asr=0.2).point["config_id"] == "config-t1"
    with pytest.raises(NothingQualifies, match=r"sound evidence.*\(badnets 0\.400\)"):
        select(frame_of(rows[0]), max_asr=0.2)


def test_an_attack_that_fails_undefended_stands_in_nobodys_way() -> None:
    """Unless it is not known whether it does."""
    faint = {"poison_rate": 0.01, "weak_attack": True, "control_asr": 0.3}
    rows = [row_with("t0", "a", val_acc=0.5), row_with("t1", "a", val_acc=0.9, val_asr=0.4, **faint)]
    chosen = select(frame_of(*rows), max_asr=0.2)
    assert (chosen.point["environment"], chosen.no_evidence) == ("poison_rate=0.1", ["poison_rate=0.01"])
    assert chosen.hardest_of == []
    unknown = row_with("t1", "a", poison_rate=0.01, weak_attack=None, control_asr=None)
    with pytest.raises(NothingQualifies, match=r"at poison_rate=0\.01 rests on sound evidence"):
        select(frame_of(rows[0], unknown), max_asr=0.2)


def test_with_one_defense_in_view_the_controls_stay() -> None:
    rows = [row_with("t0", val_acc=0.5), row_with("t1", defense="abl", val_acc=0.9), control_row(val_acc=0.93)]
    chosen = select(frame_of(*rows), max_asr=0.2, defense="vab")
    assert (chosen.point["config_id"], chosen.point["control_acc"]) == ("config-t0", pytest.approx(0.93))
    with pytest.raises(NothingQualifies, match="No trial with the defense pt finished; there are abl, vab"):
        select(frame_of(*rows), max_asr=0.2, defense="pt")


def test_a_control_that_failed_is_no_evidence_either() -> None:
    with pytest.raises(NothingQualifies) as caught:
        select(frame_of(row_with(weak_attack=None, control_asr=None)), max_asr=0.2)
    assert str(caught.value) == (
        "No setting rests on sound evidence. The control did not finish in badnets: sweeper status says why."
    )


def test_of_weak_attacks_the_success_without_a_defense_is_given_and_what_to_do() -> None:
    faint = {"weak_attack": True, "control_asr": 0.4, "val_asr": 0.0}
    rows = [row_with("t0", "a", **faint), row_with("t0", "a", scenario="sig", weak_attack=None, control_asr=None)]
    with pytest.raises(NothingQualifies) as caught:
        select(frame_of(*rows), max_asr=0.2)
    assert str(caught.value) == (
        "No setting rests on sound evidence. Without a defense the attack fails: control_asr is below 0.8 (badnets "
        "0.400). Raise poison_rate, give the attack a stronger trigger, or train the control longer (control.epochs). "
        "The control did not finish in sig: sweeper status says why."
    )


def test_the_nearest_is_named_with_its_figures() -> None:
    with pytest.raises(NothingQualifies) as caught:
        select(frame((0.9, 0.9), (0.8, 0.3), (0.7, 0.4)), max_asr=0.15)
    text = str(caught.value)
    assert text == (
        "No setting has worst val_asr <= 0.15. Nearest is vab config-t1 (t1): its worst val_asr of 0.300 is above 0.15 "
        "(val_asr_excess 0.250, floor 0.050, val_acc 0.800)."
    )


def test_the_bounds_that_the_nearest_misses_are_named() -> None:
    row = row_with("t0", val_acc=0.105, val_asr=0.0, asr_floor=0.0, val_min_class_acc=0.0)
    with pytest.raises(BoundsMissed) as caught:
        select(frame_of(control_row(), row), max_asr=0.9, min_class_acc=0.5)
    assert str(caught.value) == (
        "No setting has worst val_asr <= 0.9 and val_min_class_acc >= 0.5. Nearest is vab config-t0 (t0): its "
        "val_min_class_acc of 0.000 is below 0.5 (val_asr_excess 0.000, floor 0.000, worst val_asr 0.000, val_acc "
        "0.105)."
    )
    with pytest.raises(BoundsMissed, match=r": its worst val_asr of 0\.300 is above 0\.2 and its val_acc of 0\.600 is "
                       r"below 0\.7 \(val_asr_excess 0\.250, floor 0\.050\)\."):  # fmt: skip
        select(frame((0.6, 0.3)), max_asr=0.2, min_acc=0.7)


def test_without_any_trial_it_says_so() -> None:
    with pytest.raises(NothingQualifies, match="No trial finished"):
        select(frame_of(control_row(), row_with(status="FAILED")), max_asr=0.2)


def test_a_sweep_without_attack_selects_nothing() -> None:
    clean = row_with(poison_rate=0.0, val_asr=None, weak_attack=None, control_asr=None)
    with pytest.raises(NothingQualifies, match="was measured under attack"):
        select(frame_of(clean), max_asr=0.2)


def environments(hard_asr: float = 0.1) -> pd.DataFrame:
    return frame_of(
        row_with("t0", poison_rate=0.05, val_acc=0.95, val_asr=0.0),
        row_with("t1", poison_rate=0.1, val_acc=0.7, val_asr=hard_asr),
        row_with("t2", poison_rate=0.1, val_acc=0.6, val_asr=hard_asr),
    )


def test_an_easy_attacker_earns_nothing() -> None:
    chosen = select(environments(), max_asr=0.15)
    assert chosen.point["config_id"] == "config-t1"
    assert chosen.hardest_of == ["poison_rate=0.05", "poison_rate=0.1"]


def test_every_environment_must_have_a_setting() -> None:
    with pytest.raises(NothingQualifies, match=r"at poison_rate=0\.1 has worst val_asr"):
        select(environments(hard_asr=0.5), max_asr=0.15)


def test_one_rate_may_be_looked_at_alone() -> None:
    chosen = select(environments(hard_asr=0.5), max_asr=0.15, poison_rate=0.05)
    assert chosen.point["config_id"] == "config-t0"
    with pytest.raises(NothingQualifies, match=r"poison rate 0\.2; there are 0\.05, 0\.1"):
        select(environments(), max_asr=0.15, poison_rate=0.2)


def test_the_deployed_content_holds_setting_evidence_and_source() -> None:
    table = frame_of(
        control_row(),
        row_with("t0", config="a", seed=0, **{"param.defense.threshold": 0.2}),
        row_with("t0", config="a", seed=1, val_asr=0.12, **{"param.defense.threshold": 0.2}),
        row_with("t1", config="b", val_acc=0.1),
    )
    bounds = {"max_asr": 0.2, "min_acc": 0.0, "poison_rate": None}
    content = deployment(select(table, max_asr=0.2), table, SWEEP, bounds)
    assert content["defense"] == "vab"
    assert content["params"]["threshold"] == 0.2
    assert (content["model"], content["augment"], content["amp"]) == ({"name": "tiny"}, {"crop": 0}, "off")
    assert (content["pass_images"], content["computed_in"]) == (64, "float32 on CUDA")
    assert content["chosen_for"] == {**bounds, "environment": None, "hardest_of": [], "no_evidence": []}
    assert (content["val_acc"], content["val_asr"], content["seeds"]) == (0.8, pytest.approx(0.11), 2)
    assert [(e["trial_id"], e["seed"], e["val_asr"]) for e in content["evidence"]] == [("t0", 0, 0.1), ("t0", 1, 0.12)]
    assert content["evidence"][0]["control_asr"] == 1.0
    assert content["source"]["sweep"] == "small"
    assert content["source"]["data_fingerprint"] == "abc-def"
    assert content["source"]["git_commit"] == "123"
    assert yaml.safe_load(yaml.safe_dump(content)) == content


@pytest.mark.parametrize("both", [False, True], ids=["one defense", "beside another defense"])
def test_deployed_parameters_are_those_of_the_trial_after_the_way_through_parquet(tmp_path: Any, both: bool) -> None:
    """Whole numbers stay whole beside nulls, lists stay lists, and no parameter of another defense is there."""
    control, trial = finish(record_of("c0000", "control")), finish(record_of("t0000"))
    rows = [row for record in (control, trial) for row in record.rows({})]
    if both:
        other = finish(record_of("t0001", spec=spec_with(defense={"name": "none", "epochs": 3, "schedule": "cosine"})))
        rows += other.rows({})
    folder = RunFolder(tmp_path)
    write_rows(folder, rows)
    for row in as_rows(folder.read_trials()):
        params = yaml.safe_load(yaml.safe_dump(setting_params(row)))
        expected = {"c0000": control, "t0000": trial}.get(row["trial_id"], trial if not both else None)
        config = (expected or other).config
        assert {k: type(v) for k, v in params.items()} == {
            k: list if isinstance(v, tuple) else type(v) for k, v in config.params.items()
        }
        assert DEFENSES[config.defense].Params(**params).as_dict() == config.params


def confirmed(config: str, *asr: float, acc: float = 0.8, n_eval: int = 10_000, **changes: Any) -> list[dict[str, Any]]:
    """Confirming runs of a setting, a seed for each attack success."""
    known = {"role": "confirmation", "val_acc": acc, "n_eval": n_eval} | changes
    trial = f"k-{config}-{known.get('poison_rate')}"
    return [row_with(f"{trial}-{seed}", config, seed=seed, val_asr=value, **known) for seed, value in enumerate(asr, 1)]


def searched(*configs: str, asr: float = 0.0) -> list[dict[str, Any]]:
    return [row_with(f"t-{config}", config, val_asr=asr, val_acc=0.99) for config in configs]


def test_confirming_runs_do_not_stand_on_the_frontier() -> None:
    rows = [*searched("a", asr=0.1), *confirmed("b", 0.0, 0.0, 0.0)]
    assert select(frame_of(*rows), max_asr=0.5).point["config_id"] == "a"


@pytest.mark.parametrize(("over", "qualifies"), [("worst", False), ("mean", True), ("cvar", False)])
def test_the_aggregate_over_scenarios_can_be_chosen(over: Any, qualifies: bool) -> None:
    rows = [row_with("t0", "a", scenario="x", val_asr=0.0), row_with("t0", "a", scenario="y", val_asr=0.2)]
    if qualifies:
        assert select(frame_of(*rows), max_asr=0.15, over=over).point["val_asr"] == pytest.approx(0.1)
    else:
        with pytest.raises(NothingQualifies):
            select(frame_of(*rows), max_asr=0.15, over=over)


def met(config: str, **figures: tuple[float, float]) -> list[dict[str, Any]]:
    """A setting that met attackers one by one: accuracy and attack success under each."""
    return [
        row_with(f"t-{config}-{name}", config, scenario=name, attack=name, val_acc=acc, val_asr=asr)
        for name, (acc, asr) in figures.items()
    ]


def test_who_met_several_attackers_must_keep_the_bounds_against_each() -> None:
    rows = [*met("a", badnets=(0.95, 0.9), blend=(0.7, 0.05)), *met("b", badnets=(0.9, 0.02), blend=(0.65, 0.05))]
    chosen = select(frame_of(*rows), max_asr=0.15)
    assert (chosen.point["config_id"], chosen.point["environment"]) == ("b", "blend")
    with pytest.raises(NothingQualifies, match=r"No setting keeps the bounds at blend and .*; nearest is vab a: at "
                       r"badnets its worst val_asr of 0\.900 is above 0\.15 \(val_asr_excess 0\.850, floor 0\.050, "
                       r"val_acc 0\.950\)"):  # fmt: skip
        select(frame_of(*rows[:2], *met("b", badnets=(0.9, 0.02))), max_asr=0.15)


def test_of_several_attackers_that_broke_a_setting_the_worst_is_named() -> None:
    rows = met("a", badnets=(0.9, 0.3), blend=(0.7, 0.05), sig=(0.9, 0.8))
    rows += met("b", badnets=(0.9, 0.02), sig=(0.9, 0.02))
    with pytest.raises(NothingQualifies, match=r"nearest is vab a: at sig its worst val_asr of 0\.800 is"):
        select(frame_of(*rows), max_asr=0.15)


def test_the_evidence_of_a_setting_is_all_that_it_met() -> None:
    table = frame_of(*met("a", badnets=(0.9, 0.1), blend=(0.7, 0.05)), *met("b", badnets=(0.1, 0.1), blend=(0.1, 0.1)))
    content = deployment(select(table, max_asr=0.15), table, SWEEP, {})
    assert {(e["trial_id"], e["scenario"]) for e in content["evidence"]} == {
        ("t-a-badnets", "badnets"), ("t-a-blend", "blend"),
    }  # fmt: skip
    assert content["val_acc"] == 0.7


def test_an_attack_that_works_beside_one_that_does_not_is_no_idle_threat() -> None:
    """At a rate at which BadNets fails without a defense, Blend breaks the setting."""
    faint = {"poison_rate": 0.02, "val_acc": 0.8}
    both = [
        row_with("t0", "a", scenario="badnets", val_acc=0.9, val_asr=0.0),
        row_with("t0", "a", scenario="blend", val_acc=0.9, val_asr=0.0),
        row_with("t1", "a", scenario="badnets", val_asr=0.0, weak_attack=True, control_asr=0.3, **faint),
        row_with("t1", "a", scenario="blend", val_asr=0.97, **faint),
    ]
    with pytest.raises(NothingQualifies, match=r"at poison_rate=0\.02 rests on sound evidence\. .* \(badnets 0\.300\)"):
        select(frame_of(*both), max_asr=0.1)
    both[-1] |= {"weak_attack": True, "control_asr": 0.4}
    assert select(frame_of(*both), max_asr=0.1).no_evidence == ["poison_rate=0.02"]


# The worst class


def counts(*pairs: tuple[int, int]) -> str:
    """Images of each class classified rightly, and images, as a row holds them."""
    return json.dumps([[name, *pair] for name, pair in zip("abcdefghij", pairs, strict=False)])


def test_a_setting_must_keep_the_bound_on_its_worst_class() -> None:
    rows = [
        row_with("t0", "a", val_acc=0.9, val_min_class_acc=0.1),
        row_with("t1", "b", val_acc=0.7, val_min_class_acc=0.4),
        row_with("t2", "c", val_acc=0.8),
    ]
    chosen = select(frame_of(*rows), max_asr=0.2, min_class_acc=0.4)
    assert (chosen.point["config_id"], chosen.others) == ("b", 0)
    assert select(frame_of(*rows), max_asr=0.2).point["config_id"] == "a", "of which nothing was asked"
    with pytest.raises(NothingQualifies) as caught:
        select(frame_of(*rows), max_asr=0.2, min_acc=0.5, min_class_acc=0.6)
    assert str(caught.value) == (
        "No setting has worst val_asr <= 0.2 and val_acc >= 0.5 and val_min_class_acc >= 0.6. Nearest is vab b (t1): "
        "its val_min_class_acc of 0.400 is below 0.6 (val_asr_excess 0.050, floor 0.050, worst val_asr 0.100, val_acc "
        "0.700)."
    )


def test_of_a_setting_the_worst_scenario_counts_whatever_is_asked_of_attack_success() -> None:
    rows = [row_with("t0", "a", scenario=name, val_min_class_acc=low) for name, low in (("x", 0.6), ("y", 0.2))]
    assert select(frame_of(*rows), max_asr=0.2, min_class_acc=0.2, over="mean").point["config_id"] == "a"
    with pytest.raises(NothingQualifies, match=r"val_min_class_acc >= 0\.3\. Nearest .* val_min_class_acc of 0\.200"):
        select(frame_of(*rows), max_asr=0.2, min_class_acc=0.3, over="mean")


def test_who_met_several_attackers_must_keep_the_bound_on_the_worst_class_against_each() -> None:
    rows = [
        row | {"val_min_class_acc": low}
        for row, low in zip(met("a", x=(0.9, 0.1), y=(0.8, 0.1)), (0.5, 0.1), strict=True)
    ]
    rows += [row | {"val_min_class_acc": 0.5} for row in met("b", y=(0.7, 0.1))]
    with pytest.raises(NothingQualifies, match=r"nearest is vab a: at y its val_min_class_acc of 0\.100 is "):
        select(frame_of(*rows), max_asr=0.2, min_class_acc=0.3)


def test_rows_of_an_earlier_version_keep_no_bound_on_the_worst_class() -> None:
    table = frame_of(*searched("a"))
    assert select(table, max_asr=0.2).point["config_id"] == "a"
    with pytest.raises(NothingQualifies, match=r"^No setting has accuracies of single classes, since an earlier"):
        select(table, max_asr=0.2, min_class_acc=0.1)


def test_the_chosen_setting_tells_which_classes_it_lost() -> None:
    """In trainings of the search, and in those with fresh seeds."""
    rows = [*searched("a"), *confirmed("a", 0.0, 0.0, 0.0)]
    rows = [row | {"val_class_counts": counts((0, 10), (9, 10)), "seed": n} for n, row in enumerate(rows)]
    rows += [control_row(trial=f"c{n}", seed=n, val_class_counts=counts((8, 10), (9, 10))) for n in range(4)]
    table = frame_of(*rows)
    lost = (
        "vab a has lost the class a (in 4 of 4 trainings): its accuracy there is below a tenth of that without a "
        "defense."
    )
    for chosen in (select(table, max_asr=0.2), select_certified(table, good(), 0.95, max_excess=0.1)):
        assert deployment(chosen, table, SWEEP, {})["lost_classes"] == ["a"]
        lines = selection_lines(chosen, Bounds(max_asr=0.2), "")
        assert f"{lost} --min-class-acc bounds the mean over seeds, not every training." in lines
        lines = selection_lines(chosen, Bounds(max_asr=0.2, min_class_acc=0.0001), "")
        assert lost in lines, "a training may lose a class though the mean keeps the bound"


def test_a_class_without_a_validation_image_is_named() -> None:
    known = {"val_min_class_acc": 0.9, "val_class_counts": counts((90, 100), (0, 0))}
    table = frame_of(*(row | known for row in searched("a")))
    for chosen in (select(table, max_asr=0.2), select_certified(table, good(), 0.95, max_excess=0.1)):
        assert deployment(chosen, table, SWEEP, {})["unmeasured_classes"] == ["b"]
        unknown = "No validation image shows the class b: the accuracy on it cannot be known, and may be 0."
        assert unknown in selection_lines(chosen, Bounds(max_asr=0.2), "")


# The certified setting


def test_what_was_certified_is_deployed_with_its_replicates_as_evidence() -> None:
    """Those that were counted: the last one ran ahead, and the others belong to other settings."""
    rows = [*searched("a", "b"), *replicate_rows("a", [0.0] * 33), *replicate_rows("b", [0.5], setting=1)]
    table = frame_of(*rows)
    known = good(left_out=["sig (its control did not finish)"])
    content = deployment(select_certified(table, known, 0.9, max_excess=0.2), table, SWEEP, {"max_excess": 0.2})
    assert (content["val_acc"], content["seeds"], content["chosen_for"]["max_excess"]) == (0.99, 1, 0.2)
    assert [(e["trial_id"], e["role"]) for e in content["evidence"]] == [
        ("t-a", "trial"), *((f"r0{number:03d}", "replicate") for number in range(32)),
    ]  # fmt: skip
    assert {e["test_asr_excess"] for e in content["evidence"][1:]} == {0.0}
    certified = content["certified"]
    assert (certified["metric"], certified["bound"], certified["confidence"]) == ("test_asr_excess", 0.1, 0.95)
    assert (certified["replicates"], certified["pilots"], certified["failures"]) == (32, 0, 0)
    assert (certified["attackers"], certified["left_out"]) == (["badnets"], ["sig (its control did not finish)"])
    assert 0.09 < certified["upper"] <= 0.1
    assert (certified["accuracy"], certified["min_class_acc"]) == (pytest.approx(0.7), pytest.approx(0.5))
    assert not {"setting", "seeds"} & set(certified)
    assert yaml.safe_load(yaml.safe_dump(content)) == content
    assert deployment(select(table, max_excess=0.2), table, SWEEP, {})["certified"] is None


def test_a_replicate_that_failed_is_evidence_too() -> None:
    replicates = replicate_rows("a", [0.0] * 57)
    nothing = {"test_asr_excess": None, "test_acc": None, "status": "FAILED", "trial_status": "FAILED"}
    replicates[0] |= nothing
    table = frame_of(*searched("a"), *replicates)
    known = certificate_of([step(0, 1.0, accuracy=None, failed="killed"), *(step(n) for n in range(1, 57))])
    content = deployment(select_certified(table, known, 0.95, max_excess=0.1), table, SWEEP, {})
    assert (content["evidence"][1]["status"], content["evidence"][1]["test_acc"]) == ("FAILED", None)
    assert content["certified"]["failures"] == 1


def test_the_guarantee_is_said_in_words() -> None:
    table = frame_of(*searched("a"))
    steps = [step(0, pilot=True), step(1, 1.0, accuracy=None, failed="killed"), *(step(n) for n in range(2, 58))]
    known = certificate_of(steps, left_out=["sig (its control did not finish)"], bound=0.1)
    chosen = select_certified(table, known, 0.95, max_excess=0.1)
    assert chosen.guarantee is not None
    lines = selection_lines(chosen, Bounds(0.1, confidence=0.95), "threshold=0.2")
    assert lines[:2] == [
        "vab a is certified.",
        "Over fresh attacks and trainings, the trigger adds at most 0.10 to the mean worst attack success "
        "(test_asr_excess); this statement is wrong in at most 5 of 100 sweeps.",
    ]
    assert lines[2].startswith("The bound reached is 0.1")
    assert lines[2].endswith("Replicates: 58 (pilots: 1, failed: 1), mean 0.017 ± 0.131.")
    assert lines[3].startswith("Each at a confidence of 0.95 of its own, not jointly: at most ")
    assert "% of further trainings exceed 0.10 (1 of 58 did); the mean accuracy is at least 0." in lines[3]
    assert lines[4:6] == [
        "Attacks that were tried: badnets.",
        "Left out, so nothing is certified about them: sig (its control did not finish).",
    ]
    assert lines[6].startswith("In the search: vab a (t-a): val_acc 0.990, worst val_asr_excess 0.000 (val_asr 0.000,")
    assert "qualified" not in lines[6]
    assert lines[7:] == [
        "Found by the search: threshold=0.2",
        "The search's figures rest on one seed: how much they vary is unknown.",
    ]


def test_the_guarantee_on_attack_success_says_that_the_floor_is_in_it() -> None:
    known = good(80, metric="test_asr", bound=0.125, confidence=0.99)
    chosen = select_certified(frame_of(*searched("a")), known, 0.95, max_asr=0.2)
    lines = selection_lines(chosen, Bounds(max_asr=0.2, confidence=0.95), "")
    assert lines[1] == (
        "Over fresh attacks and trainings, the mean worst attack success (test_asr) is at most 0.125, floor included; "
        "this statement is wrong in at most 1 of 100 sweeps."
    )
    assert not any(line.startswith("Left out") for line in lines)


def test_figures_of_a_guarantee_are_rounded_to_the_safe_side() -> None:
    chosen = select_certified(frame_of(*searched("a")), good(), 0.95, max_excess=0.1)
    known = chosen.guarantee
    assert known is not None
    lines = selection_lines(chosen, Bounds(0.1, confidence=0.95), "")
    upper = float(lines[2].split()[4].rstrip(","))
    exceeding = float(lines[3].split("at most ")[1].split("%")[0]) / 100
    accuracy = float(lines[3].split("at least ")[1].split()[0])
    assert known.upper <= upper < known.upper + 0.001
    assert known.exceedance_upper <= exceeding < known.exceedance_upper + 0.001
    assert known.accuracy_lower - 0.001 < accuracy <= known.accuracy_lower
