import subprocess
import sys
from collections.abc import Callable

import pytest

from search_spaces.distributions import Searched
from search_spaces.loader import PresetError, preset_names
from sweeper.preset.spec import SweepSpec
from tests.sweeper.small import misfits_of, spec_with
from trainers.data.shapes import make_shapes
from trainers.errors import ConfigError

Make = Callable[..., SweepSpec]


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_is_valid(make_spec: Make, preset: str) -> None:
    assert make_spec(preset=preset).name == preset.removesuffix(".yaml")


def test_a_preset_without_networks_of_libraries_waits_for_none_of_them() -> None:
    script = """
import sys
from search_spaces.loader import read_preset
from sweeper.preset.spec import validate
validate(read_preset("quick.yaml"), "quick.yaml")
print([name for name in ("timm", "torchvision") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("colour=red", ["quick.yaml", "colour", "known are name, seed, data"]),
        ("data.sorce=x", ["quick.yaml: data", "sorce", "known are source"]),
        ("search.trails=3", ["search.trails", "known are sampler, trials"]),
        ("search.trials=abc", ["search.trials", "valid integer", "'abc'"]),
        ("search.sampler=magic", ["search.sampler", "'tpe'", "'magic'"]),
        ("defense.threshold=1.2", ["defense", "threshold must be a number at least 0 and at most 1", "1.2"]),
        ("defense.threshold={float: [0.1, 1.2]}", ["threshold must be a number at least 0 and at most 1", "1.2"]),
        ("defense.threshold={float: [0.5, 0.1]}", ["threshold", "low below high"]),
        ("defense.name=magic", ["defense", "none, vab", "magic"]),
        ("defense.thresh=0.1", ["defense", "thresh", "threshold"]),
        ("scenarios.0.poison_rate=1", ["scenarios.0", "poison_rate must be a number at least 0 and below 1", "1"]),
        ("scenarios.0.attack=magic", ["scenarios.0", "badnets, blend", "magic"]),
        ("scenarios.0.poison_rate=0", ["val_asr_excess is undefined"]),
        ("search.sampler=grid", ["grid", "vab.threshold is continuous"]),
        ("objectives=[{metric: test_acc, direction: maximize}]", ["objectives.0.metric", "test_acc"]),
        ("objectives=[{metric: poison_rate, direction: maximize}]", ["poison_rate may only be minimized"]),
        ("objectives=[{metric: control_asr, direction: maximize}]", ["control_asr"]),
        ("objectives=[{metric: images_seen, direction: minimize}]", ["images_seen", "a constraint only"]),
        ("search.grace=1", ["search.grace", "less than 1", "1"]),
        ("search.grace_epochs=5", ["search.grace_epochs", "unknown key", "scheduler, grace, race"]),
        ("seeds=[1, 1]", ["seeds", "twice"]),
        ("model.depth=16", ["model.depth is for wide_resnet only"]),
        ("device=cuda", ["resources.gpu"]),
        ("scenarios.0.poison_rate={float: [0.01, 0.1]}", ["badnets.poison_rate is continuous", "step"]),
        ("scenarios.0.poison_rate={categorical: [0, 0.1]}", ["val_asr_excess is undefined", "always above 0"]),
        ("scenarios.0.labels={categorical: [all_to_one, all_to_all]}", ["labels", "cannot be searched"]),
        ("constraints=[{metric: val_asr, max: .nan}]", ["constraints.0.max", "finite"]),
        (
            "defense.mask_threshold={float: [0.1, 0.2], when: {mixing: atention}}",
            ["mask_threshold: when asks for mixing = atention", "none, attention"],
        ),
        ("constraints=[{metric: val_asr}]", ["constraints.0", "exactly one of max and min"]),
        ("defense.split_scope=label", ["defense", "split_scope must be one of set, class", "'label'"]),
        ("data.imbalance=0.5", ["data", "imbalance must be a number at least 1 (or null)", "0.5"]),
        (
            "objectives=[{metric: test_min_class_acc, direction: maximize}]",
            ["objectives.0.metric", "test_min_class_acc"],
        ),
        ("search.scenarios=two", ["search.scenarios", "'all'", "'one'"]),
        ("search.min_poisoned=10", ["search.min_poisoned needs search.scenarios: one"]),
        ("search={scenarios: one, min_poisoned: 0}", ["search.min_poisoned", "greater than or equal to 1"]),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(make_spec: Make, override: str, words: list[str]) -> None:
    with pytest.raises(PresetError) as caught:
        make_spec(override)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["vab", "abl", "pt", "dlp"])
def test_where_scores_are_compared_may_be_searched(make_spec: Make, name: str) -> None:
    spec = make_spec(f"defense={{name: {name}, split_scope: {{categorical: [set, class]}}}}")
    assert spec.space() == {f"{name}.split_scope": Searched("categorical", ("set", "class"))}
    keys = [spec.trial(lambda _name, _searched, scope=scope: scope, "data").setting_key for scope in ("set", "class")]
    plain = make_spec(f"defense={{name: {name}}}").trial(lambda *_: None, "data").setting_key
    assert keys[0] == plain != keys[1], "the default is what it was before there was another"


def test_a_sweep_may_be_for_the_worst_class(make_spec: Make) -> None:
    spec = make_spec(
        "objectives=[{metric: val_balanced_acc, direction: maximize}, {metric: val_asr, direction: minimize}]",
        "constraints=[{metric: val_min_class_acc, min: 0.2}]",
        "data.imbalance=10",
    )
    assert (spec.objectives[0].metric, spec.constraints[0].min, spec.data.imbalance) == ("val_balanced_acc", 0.2, 10.0)


def test_two_scenarios_of_one_name_are_refused(make_spec: Make) -> None:
    with pytest.raises(PresetError, match="same name"):
        make_spec("scenarios=[{attack: blend}, {attack: blend, alpha: 0.2}]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scenarios.0.target=10", "target must be a class from 0 to 9, but got 10"),
        ("scenarios.0.poison_rate=0.0001", "rounds to no sample of 200"),
        ("scenarios.0.size=20", "does not fit images of 16x16"),
        ("scenarios.0.size={int: [3, 20]}", "does not fit images of 16x16"),
        ("scenarios.0.poison_rate=0.95", "only 180 can be poisoned"),
    ],
)
def test_what_only_the_data_can_tell(make_spec: Make, override: str, message: str) -> None:
    spec = make_spec(override)
    with pytest.raises(ConfigError, match=message):
        spec.check_against(make_shapes(200, 50, 0), misfits_of(spec))


def test_a_default_is_one_parameter_that_scenarios_share(make_spec: Make) -> None:
    spec = make_spec(preset="cifar10_cpu.yaml")
    drawn = spec.trial(lambda name, searched: searched.corners()[-1], "data")
    assert list(spec.environment()) == ["scenario.poison_rate"]
    assert [scenario.poison_rate for scenario in drawn.scenarios] == [0.1, 0.1]
    assert [scenario.params.get("alpha") for scenario in drawn.scenarios] == [None, 0.2]


def test_the_attacker_searches_its_own_parameters(make_spec: Make) -> None:
    spec = make_spec(
        "objectives=[{metric: val_asr, direction: maximize}, {metric: poison_rate, direction: minimize}]",
        "scenarios.0.poison_rate={float: [0.01, 0.1]}",
        "defense={name: vab, threshold: 0.2}",
    )
    assert spec.environment() == {}
    assert "badnets.poison_rate" in spec.space()


def test_a_defender_minimizes_what_the_trigger_adds_unless_it_says_otherwise(make_spec: Make) -> None:
    assert [(o.metric, o.direction) for o in spec_with().objectives] == [
        ("val_acc", "maximize"), ("val_asr_excess", "minimize"),
    ]  # fmt: skip
    assert not spec_with().attacking
    assert [(o.metric, o.direction) for o in make_spec().objectives] == [
        ("val_acc", "maximize"), ("val_asr_excess", "minimize"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("objectives", "metric"),
    [
        ("[{metric: val_acc, direction: maximize}]", "val_asr_excess"),
        ("[{metric: val_acc, direction: maximize}, {metric: val_asr, direction: minimize}]", "val_asr"),
        ("[{metric: val_asr, direction: maximize}]", "val_asr"),
        ("[{metric: val_asr, direction: minimize}, {metric: val_asr_excess, direction: maximize}]", "val_asr_excess"),
    ],
)
def test_the_success_of_attacks_is_that_of_the_objectives(make_spec: Make, objectives: str, metric: str) -> None:
    spec = make_spec(f"objectives={objectives}", "defense={name: vab, threshold: 0.2}")
    assert spec.attack_metric == metric
    assert spec.attacking == (f"{metric}, direction: maximize" in objectives)


def test_a_list_of_defenses_is_searched_over(make_spec: Make) -> None:
    spec = make_spec("defense=[{name: none, epochs: 3}, {name: vab, threshold: {float: [0.1, 0.2]}}]")
    assert list(spec.space()) == ["defense", "vab.threshold"]
    drawn = spec.trial(lambda name, searched: "none" if name == "defense" else 0.1, "data")
    assert (drawn.defense, drawn.params["epochs"]) == ("none", 3)


def test_defenses_that_take_turns_are_several_and_not_on_a_grid(make_spec: Make) -> None:
    several = "defense=[{name: vab}, {name: none}]"
    assert make_spec(several, "search={defenses: turns}").turns() == ("vab", "none")
    assert make_spec(several).turns() == ()
    for overrides in (("search={defenses: turns}",), (several, "search={defenses: turns, sampler: grid}")):
        with pytest.raises(PresetError, match="turns needs several defenses"):
            make_spec(*overrides)


def test_a_parameter_whose_condition_fails_keeps_its_default(make_spec: Make) -> None:
    values = {"vab.mixing": "none", "vab.mask_threshold": 0.6}
    drawn = make_spec().trial(lambda name, searched: values.get(name, searched.corners()[0]), "data")
    assert drawn.params["mask_threshold"] == 0.1


ATTACKERS = (
    "scenarios=[{attack: badnets, poison_rate: {categorical: [0.05, 0.1]}, size: {int: [2, 4]}}, "
    "{attack: blend, name: faint, alpha: {categorical: [0.1, 0.2]}}, {attack: wanet}]"
)
ONE = "search={trials: 4, scenarios: one}"


def test_which_scenario_a_trial_meets_is_a_choice(make_spec: Make) -> None:
    spec = make_spec(ATTACKERS, ONE, "defense={name: vab, threshold: {float: [0.1, 0.2]}}")
    space = spec.space()
    assert space["scenario"] == Searched("categorical", ("badnets", "faint", "wanet"))
    assert set(space) == {"scenario", "vab.threshold", "badnets.poison_rate", "badnets.size", "faint.alpha"}
    assert "scenario" not in make_spec(ATTACKERS).space()


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("badnets", ["scenario", "badnets.poison_rate", "badnets.size"]), ("faint", ["scenario", "faint.alpha"]),
        ("wanet", ["scenario"]),
    ],
)  # fmt: skip
def test_a_trial_holds_the_scenario_that_was_chosen_and_asks_for_its_parameters_alone(
    make_spec: Make, name: str, asked: list[str]
) -> None:
    seen: list[str] = []

    def choose(key: str, searched: Searched) -> object:
        seen.append(key)
        return name if key == "scenario" else searched.corners()[-1]

    spec = make_spec(ATTACKERS, ONE, "defense={name: vab}", "seeds=[0, 1]")
    drawn = spec.trial(choose, "data")
    assert [scenario.name for scenario in drawn.scenarios] == [name]
    assert seen == asked
    assert [(s.name, repeat) for s, repeat in drawn.runs()] == [(name, 0), (name, 1)]
    whole = make_spec(ATTACKERS, "defense={name: vab}").trial(lambda _, searched: searched.corners()[-1], "data")
    assert [s for s in whole.scenarios if s.name == name] == list(drawn.scenarios)


def test_each_scenario_is_an_attacker_with_parameters_of_its_own(make_spec: Make) -> None:
    shared = "scenario_defaults={target: {categorical: [0, 3]}}"
    parts = make_spec(ATTACKERS, ONE, shared).environments()
    assert [part["scenario"].grid() for part in parts] == [("badnets",), ("faint",), ("wanet",)]
    assert [set(part) - {"scenario"} for part in parts] == [
        {"scenario.target", "badnets.poison_rate", "badnets.size"}, {"scenario.target", "faint.alpha"},
        {"scenario.target"},
    ]  # fmt: skip
    assert parts[0]["badnets.size"].grid() == (2, 3, 4)
    everything = {"scenario", "scenario.target", "badnets.poison_rate", "badnets.size", "faint.alpha"}
    assert set(make_spec(ATTACKERS, ONE, shared).environment()) == everything
    (together,) = make_spec(ATTACKERS, shared).environments()
    assert set(together) == everything - {"scenario"}


def test_a_grid_and_an_attackers_sweep_choose_the_scenario_themselves(make_spec: Make) -> None:
    threshold = "defense={name: vab, threshold: {categorical: [0.1, 0.2]}}"
    grid = make_spec(ATTACKERS, "search={sampler: grid, scenarios: one}", threshold)
    objectives = "objectives=[{metric: val_asr, direction: maximize}, {metric: poison_rate, direction: minimize}]"
    for spec in (grid, make_spec(ATTACKERS, ONE, objectives, "defense={name: vab}")):
        assert spec.environments() == [{}]
        assert spec.environment() == {}
        assert "scenario" in spec.space()


def test_a_scenario_of_one_trial_must_still_be_comparable_value_by_value(make_spec: Make) -> None:
    with pytest.raises(PresetError, match=r"faint\.alpha is continuous"):
        make_spec("scenarios=[{attack: badnets}, {attack: blend, name: faint, alpha: {float: [0.1, 0.2]}}]", ONE)


def test_rates_that_poison_too_little_can_be_left_out_where_trials_meet_one_scenario(make_spec: Make) -> None:
    assert make_spec(ATTACKERS, "search={scenarios: one, min_poisoned: 10}").search.min_poisoned == 10
    assert make_spec().search.min_poisoned is None


@pytest.mark.parametrize(("test_size", "warned"), [(10, True), (20, False)])
def test_classes_without_an_image_in_the_half_for_validation_are_warned_of(
    make_spec: Make, test_size: int, warned: bool
) -> None:
    splits = make_spec(f"data.test_size={test_size}", "data.train_size=50").load()
    first = ", ".join(splits.test.class_names[5:8])
    known = [f"5 of 10 classes have test images, but none in the half for validation: {first}"]
    assert [text.split(", ...")[0] for text in splits.findings.warnings] == (known if warned else [])
