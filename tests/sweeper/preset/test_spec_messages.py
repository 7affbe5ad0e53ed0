"""Unknown keys and wrong types at every level: one sentence with file, key and what is allowed."""

from typing import Any

import pytest

from search_spaces.distributions import Searched
from search_spaces.loader import PresetError
from sweeper.preset.spec import DEFAULT_RACE, validate
from tests.sweeper.small import make_objectives, misfits_of, preset_with, spec_with
from trainers.compute import ComputeConfig
from trainers.data.shapes import make_shapes
from trainers.errors import ConfigError

BADNETS = {"attack": "badnets", "poison_rate": 0.1}
VAB = {"name": "vab"}


def message(preset: dict[Any, Any]) -> str:
    with pytest.raises(PresetError) as caught:
        validate(preset, "small.yaml")
    text = str(caught.value)
    assert text.startswith("small.yaml: ")
    assert "\n" not in text
    return text.removeprefix("small.yaml: ")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"colour": 1}, ["colour: unknown key", "known are name, seed, data"]),
        ({"search": {"trails": 3}}, ["search.trails: unknown key", "sampler, trials", "Did you mean trials?"]),
        ({"resources": {"gpus": 1}}, ["resources.gpus: unknown key", "cpu, gpu"]),
        (
            {"objectives": [{"metric": "val_acc", "direction": "maximize", "weight": 2}]},
            ["objectives.0.weight: unknown key", "metric, aggregate, direction"],
        ),
        (
            {"constraints": [{"metric": "val_acc", "min": 0.5, "hard": True}]},
            ["constraints.0.hard: unknown key", "max, min"],
        ),
        (
            {"data": {"sources": "shapes"}},
            ["data: sources is no parameter here", "source, train_size", "Did you mean source?"],
        ),
        ({"model": {"layers": 3}}, ["model: layers is no parameter here", "name, width, depth"]),
        ({"augment": {"rotate": True}}, ["augment: rotate is no parameter here", "crop"]),
        ({"control": {"epoch": 3}}, ["control: epoch is no parameter here", "epochs"]),
        (
            {"defense": {"name": "vab", "treshold": 0.1}},
            ["defense: treshold is no parameter here", " Did you mean threshold?"],
        ),
        ({"scenarios": [{**BADNETS, "alpha": 0.1}]}, ["scenarios.0.alpha is no parameter here", "size, corner"]),
        ({"scenario_defaults": {"alpha": 0.1}}, ["alpha is no parameter here", "poison_rate"]),
        ({"search": {"races": "off"}}, ["search.races: unknown key", "Did you mean race?"]),
    ],
)
def test_an_unknown_key_is_named_with_those_that_are_known(changes: dict[str, Any], parts: list[str]) -> None:
    text = message(preset_with(**changes))
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"name": 3}, ["name: ", "valid string", "got 3"]),
        ({"name": "../x"}, ["name: ", "pattern", "'../x'"]),
        ({"name": ...}, ["name: is missing"]),
        ({"defense": ...}, ["defense: is missing"]),
        ({"scenarios": ...}, ["scenarios: is missing"]),
        ({"scenarios": []}, ["scenarios: ", "at least 1 item"]),
        ({"scenarios": {"attack": "badnets"}}, ["scenarios: ", "valid list"]),
        ({"seed": "0"}, ["seed: ", "valid integer", "'0'"]),
        ({"seeds": []}, ["seeds: ", "at least 1"]),
        ({"seeds": [0, -1]}, ["seeds.1: ", "greater than or equal to 0", "got -1"]),
        ({"search": {"trials": 0}}, ["search.trials: ", "greater than or equal to 1", "got 0"]),
        ({"search": {"trials": 2.5}}, ["search.trials: ", "valid integer", "got 2.5"]),
        ({"search": {"trials": True}}, ["search.trials: ", "valid integer", "got True"]),
        ({"search": {"scheduler": "hyperband"}}, ["search.scheduler: ", "'none' or 'asha'"]),
        ({"search": {"time_budget": 0}}, ["search.time_budget: ", "greater than 0"]),
        ({"search": 3}, ["search: ", "got 3"]),
        ({"resources": {"cpu": 0}}, ["resources.cpu: ", "greater than or equal to 1"]),
        ({"resources": {"gpu": -0.5}}, ["resources.gpu: ", "greater than or equal to 0"]),
        ({"device": "tpu"}, ["device: ", "'auto', 'cpu' or 'cuda'"]),
        ({"amp": "yes"}, ["amp: amp must be one of auto, on, off (or null), but got 'yes'"]),
        ({"cuda_graphs": True}, ["cuda_graphs needs compile: true"]),
        ({"pass_images": 7}, ["pass_images: ", "greater than or equal to 8"]),
        ({"data": "shapes"}, ["data: must be a mapping of source", "'shapes'"]),
        ({"data": {"train_size": "many"}}, ["data: train_size must be a whole number at least 2", "'many'"]),
        ({"model": {"name": "vgg"}}, ["model: name must be one of tiny, resnet18", "'vgg'"]),
        ({"control": {"epochs": 0}}, ["control: epochs must be a whole number at least 1", "got 0"]),
        ({"control": {"lr": {"float": [0.1, 0.2]}}}, ["control: lr must be a number above 0"]),
        ({"defense": "vab"}, ["defense: name must be one of none, vab", "got vab"]),
        ({"defense": {"threshold": 0.1}}, ["defense: name must be one of none, vab", "got nothing"]),
        ({"defense": []}, ["defense: must list at least one defense"]),
        ({"defense": [VAB, VAB]}, ["defense: must list at least one defense, each once"]),
        ({"defense": {"name": "vab", "threshold": -0.1}}, ["threshold must be a number at least 0", "-0.1"]),
        ({"defense": {"name": "vab", "threshold": "low"}}, ["threshold must be a number", "'low'"]),
        ({"defense": {"name": "vab", "threshold": None}}, ["threshold must be a number", "None"]),
        ({"defense": {"name": "vab", "threshold": {"float": [0.5, float("inf")]}}}, ["threshold must be", "got inf"]),
        ({"defense": {"name": "vab", "mixing": {"categorical": ["none", "cut"]}}}, ["mixing must be one of", "'cut'"]),
        ({"defense": {"name": "vab", "threshold": {"float": [0.5]}}}, ["threshold float must be [low, high]"]),
        (
            {"defense": {"name": "vab", "mask_threshold": {"float": [0, 1], "when": {"mixing": "attention"}}}},
            ["mask_threshold: when asks for mixing, which this block does not set"],
        ),
        (
            {"defense": {"name": "vab", "mix_epochs": 0, "suppression_epochs": 0}},
            ["mix_epochs and suppression_epochs must not both be 0"],
        ),
        ({"scenarios": [{"poison_rate": 0.1}]}, ["scenarios.0.attack must be one of", "got nothing"]),
        ({"scenarios": ["badnets"]}, ["scenarios.0.attack must be one of", "got badnets"]),
        (
            {"scenarios": [{"attack": {"categorical": ["badnets", "blend"]}}]},
            ["scenarios.0.attack must be one of badnets, blend"],
        ),
        ({"scenarios": [{**BADNETS, "poison_rate": -0.1}]}, ["scenarios.0.poison_rate must be", "-0.1"]),
        ({"scenarios": [BADNETS, {**BADNETS, "name": "b", "size": 0}]}, ["scenarios.1.size must be", "at least 1"]),
        ({"scenarios": [{**BADNETS, "poison_rate": {"float": [0.5, 1]}}]}, ["poison_rate must be", "below 1"]),
        ({"scenarios": [{**BADNETS, "corner": "middle"}]}, ["corner must be one of top_left", "'middle'"]),
        ({"scenarios": [{**BADNETS, "target": 1.5}]}, ["scenarios.0.target must be a class", "1.5"]),
        ({"scenarios": [{**BADNETS, "labels": "none"}]}, ["labels must be one of all_to_one, all_to_all"]),
        ({"scenarios": [{**BADNETS, "name": ""}]}, ["scenarios.0.name must be"]),
        ({"scenarios": [{**BADNETS, "name": 7}]}, ["scenarios.0.name must be"]),
        ({"objectives": []}, ["objectives: ", "at least 1"]),
        ({"objectives": [{"metric": "val_acc", "direction": "up"}]}, ["objectives.0.direction", "'maximize'"]),
        ({"objectives": [{"metric": "val_acc"}]}, ["objectives.0.direction: is missing"]),
        ({"objectives": [{"metric": "accuracy", "direction": "maximize"}]}, ["objectives.0.metric", "'val_acc'"]),
        ({"constraints": [{"metric": "val_acc", "min": 0.1, "max": 0.2}]}, ["needs exactly one of max and min"]),
        ({"constraints": [{"metric": "val_acc", "min": "0.1"}]}, ["constraints.0.min: ", "valid number"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(changes: dict[str, Any], parts: list[str]) -> None:
    text = message(preset_with(**changes))
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    "changes",
    [
        {"defense": {"name": ["vab"]}},
        {"defense": {"name": {"categorical": ["vab", "none"]}}},
        {"defense": {"name": "vab", "threshold": {1: 2}}},
        {"defense": {"name": "vab", "threshold": {"float": [0.1, 0.2], 1: 2, "x": 3}}},
        {"defense": {"name": "vab", 3: 4}},
        {"scenarios": [{"attack": ["badnets"]}]},
        {"scenarios": [{"attack": None}]},
        {"scenarios": [{**BADNETS, 3: 4}]},
        {"scenarios": [{**BADNETS, "poison_rate": {}}]},
        {"scenarios": [{**BADNETS, "poison_rate": [0.1]}]},
        {"scenarios": [{**BADNETS, "target": {"categorical": [[0], [1]]}}]},
        {"scenario_defaults": {"poison_rate": None}, "scenarios": [{"attack": "badnets"}]},
        {"data": {1: 2}},
        {1: 2},
    ],
)
def test_strange_yaml_is_refused_in_a_sentence_too(changes: dict[Any, Any]) -> None:
    assert message(preset_with() | changes)


@pytest.mark.parametrize("name", ["../../x", "a/b", "a, b", "x\ny"])
def test_a_scenario_name_becomes_a_file_name_and_must_be_fit_for_it(name: str) -> None:
    assert "scenarios.0.name must be" in message(preset_with(scenarios=[{**BADNETS, "name": name}]))


@pytest.mark.parametrize("metric", ["test_acc", "test_asr", "test_ra", "test_asr_floor"])
def test_nothing_of_the_test_split_steers_a_search(metric: str) -> None:
    assert "objectives.0.metric" in message(preset_with(objectives=make_objectives((metric, "maximize"))))
    assert "constraints.0.metric" in message(preset_with(constraints=[{"metric": metric, "min": 0.5}]))


@pytest.mark.parametrize(
    "pairs",
    [
        [("poison_rate", "maximize"), ("val_asr", "maximize")],
        [("poison_rate", "minimize"), ("val_asr", "minimize")],
        [("poison_rate", "minimize"), ("val_acc", "maximize")],
        [("poison_rate", "minimize")],
    ],
)
def test_the_poison_rate_never_earns_a_defender_credit(pairs: list[tuple[str, str]]) -> None:
    text = message(preset_with(objectives=make_objectives(*pairs)))
    assert "poison_rate may only be minimized, beside attack success maximized" in text


def test_the_control_may_bound_a_search_only() -> None:
    assert "constraint only" in message(preset_with(objectives=make_objectives(("control_asr", "maximize"))))
    assert spec_with(constraints=[{"metric": "control_asr", "min": 0.8}]).constraints[0].min == 0.8


def test_a_sweep_without_attack_may_look_at_accuracy_alone() -> None:
    clean = [{"attack": "badnets", "poison_rate": 0}]
    assert "val_asr_excess is undefined" in message(preset_with(scenarios=clean))
    assert spec_with(scenarios=clean, objectives=make_objectives(("val_acc", "maximize")))
    sometimes = [{"attack": "badnets", "poison_rate": {"categorical": [0, 0.1]}}]
    assert "always above 0" in message(preset_with(scenarios=sometimes))
    assert spec_with(scenarios=[*sometimes, {"attack": "blend"}])


def test_where_a_trial_meets_one_scenario_each_must_give_the_figures() -> None:
    scenarios = [{"attack": "badnets"}, {"attack": "blend", "name": "clean", "poison_rate": 0}]
    one = {"search": {"scenarios": "one"}}
    assert spec_with(scenarios=scenarios)
    assert "undefined unless each has a poison_rate that is always above 0" in message(
        preset_with(scenarios=scenarios, **one)
    )
    assert spec_with(scenarios=scenarios, objectives=make_objectives(("val_acc", "maximize")), **one)


@pytest.mark.parametrize(
    ("defense", "named"),
    [
        ({"name": "vab", "threshold": {"float": [0.1, 0.3]}}, "vab.threshold"),
        ([{"name": "vab"}, {"name": "none"}], "defense"),
    ],
)
def test_an_attacker_cannot_choose_the_defense(defense: Any, named: str) -> None:
    text = message(preset_with(defense=defense, objectives=make_objectives(("val_asr", "maximize"))))
    assert f"attacker's sweep, against one defense; {named} must have one value" in text


@pytest.mark.parametrize("interest", [0, -0.1, 1.01, "much", None])
def test_the_interest_is_an_attack_success(interest: object) -> None:
    text = message(preset_with(search={"interest": interest}))
    assert text.startswith("search.interest: should be "), text


def test_races_are_off_bounds_or_learned_and_yaml_says_false_for_off() -> None:
    text = message(preset_with(search={"race": "paired"}))
    assert text == "search.race: should be 'off', 'bounds' or 'learned', but got 'paired'."
    races = [spec_with(search={"race": value}).race for value in ("off", False, "bounds", "learned", None)]
    assert races == [None, None, "bounds", "learned", DEFAULT_RACE]


def test_a_race_needs_an_objective_that_something_bounds() -> None:
    objectives = make_objectives(("detection_auroc", "maximize"))
    text = message(preset_with(objectives=objectives, search={"race": "bounds"}))
    assert text == (
        "search.race: bounds needs an accuracy or attack success among the objectives, since nothing bounds "
        "detection_auroc before it is measured; set it to off."
    )
    without = spec_with(objectives=objectives)
    assert (without.race, without.can_race) == (None, False)


def test_a_grid_has_no_continuous_parameter() -> None:
    log = {"name": "vab", "lr": {"float": [0.1, 0.5], "log": True}}
    assert "grid needs steps, but vab.lr is continuous" in message(preset_with(defense=log, search={"sampler": "grid"}))
    rate = {"poison_rate": {"float": [0.1, 0.2]}, "attack": "badnets"}
    text = message(preset_with(defense=VAB, scenarios=[rate], search={"sampler": "grid"}))
    assert "badnets.poison_rate is continuous" in text


@pytest.mark.parametrize("seeds", [{"seed": 2**63}, {"seeds": [0, 2**63]}])
def test_a_seed_fits_into_the_tables(seeds: dict[str, Any]) -> None:
    assert "should be less than or equal to 9223372036854775807" in message(preset_with(**seeds))


def test_a_grid_holds_the_environment_itself() -> None:
    searched = [{"attack": "badnets", "poison_rate": {"categorical": [0.05, 0.1]}}]
    spec = spec_with(defense=VAB, scenarios=searched, search={"sampler": "grid"})
    assert spec.environment() == {}
    assert list(spec.space()) == ["badnets.poison_rate"]


def test_an_own_distribution_takes_the_place_of_the_shared_one() -> None:
    own = {"attack": "blend", "name": "own", "poison_rate": {"float": [0.1, 0.2], "step": 0.1}}
    spec = spec_with(
        scenario_defaults={"poison_rate": {"categorical": [0.05, 0.1]}, "target": 3},
        scenarios=[{"attack": "badnets"}, {"attack": "blend", "target": 4}, own],
    )
    assert list(spec.environment()) == ["scenario.poison_rate", "own.poison_rate"]
    config = spec.trial(lambda _name, searched: searched.corners()[-1], "data")
    assert [(s.name, s.poison_rate, s.target) for s in config.scenarios] == [
        ("badnets", 0.1, 3), ("blend", 0.1, 4), ("own", 0.2, 3)
    ]  # fmt: skip


def test_the_environment_holds_every_searched_attack_parameter_and_no_other() -> None:
    searched = [{"attack": "badnets", "poison_rate": {"float": [0.05, 0.1], "step": 0.05}, "size": {"int": [2, 4]}}]
    assert set(spec_with(scenarios=searched).environment()) == {"badnets.poison_rate", "badnets.size"}
    assert spec_with(scenarios=searched).space()["vab.threshold"] == Searched("float", (0.1, 0.5))


@pytest.mark.parametrize(("given", "read"), [(True, "on"), (False, "off"), ("auto", "auto"), (None, None)])
def test_yaml_reads_on_and_off_as_true_and_false(given: Any, read: str | None) -> None:
    assert spec_with(amp=given).compute.amp == read


def test_the_compute_of_a_trial_is_that_of_the_preset() -> None:
    config = spec_with(resources={"cpu": 3}, amp=False, pass_images=64, seeds=[4, 5], seed=7).trial(
        lambda _n, s: s.corners()[0], "f"
    )
    assert config.compute == ComputeConfig("cpu", 3, amp="off", pass_images=64)
    assert (config.repeats, config.sweep_seed, config.data_fingerprint) == ((4, 5), 7, "f")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"control": {"epochs": 1, "frozen_parts": "stage9"}}, "control: frozen_parts must be "),
        (
            {"defense": {"name": "vab", "victim_model": "timm:vit_tiny_patch16_224"}},
            "defense vab: victim_model: timm:vit_tiny_patch16_224 does not take images of 20x20 pixels",
        ),
        (
            {"scenarios": [{"attack": "narcissus", "surrogate": "timm:vit_tiny_patch16_224"}]},
            "scenarios.0 (narcissus): surrogate: timm:vit_tiny_patch16_224 does not take images of 20x20 pixels",
        ),
        (
            {"scenarios": [{"attack": "dynamic", "surrogate": "timm:vit_tiny_patch16_224"}]},
            "scenarios.0 (dynamic): surrogate: timm:vit_tiny_patch16_224 does not take images of 20x20 pixels",
        ),
    ],
)
def test_what_the_control_and_networks_beside_the_model_must_fit(changes: dict[str, Any], text: str) -> None:
    spec = spec_with(**changes)
    with pytest.raises(ConfigError) as caught:
        spec.check_against(make_shapes(200, 100, 0, image_size=20), misfits_of(spec))
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("scenario", "parts"),
    [
        ({"attack": "badnets", "target": {"int": [0, 10]}}, ["target must be a class from 0 to 9", "got 10"]),
        ({"attack": "badnets", "target": {"categorical": [0, 12, 1]}}, ["target must be a class", "got 12"]),
        ({"attack": "badnets", "size": {"categorical": [3, 17, 2]}}, ["size 17", "16x16"]),
        (
            {"attack": "badnets", "poison_rate": {"float": [0.001, 0.101], "step": 0.05}},
            ["0.001 rounds to no sample", "0.0025 or more"],
        ),
        ({"attack": "badnets", "trigger": "/nowhere/patch.png"}, ["/nowhere/patch.png"]),
        ({"attack": "wanet", "grid": {"int": [2, 17]}}, ["grid must be at most 16", "16x16", "got 17"]),
    ],
)
def test_the_data_refuses_any_value_on_offer(scenario: dict[str, Any], parts: list[str]) -> None:
    spec = spec_with(scenarios=[{"attack": "blend"}, scenario])
    with pytest.raises(ConfigError) as caught:
        spec.check_against(make_shapes(200, 100, 0), misfits_of(spec))
    text = str(caught.value)
    assert text.startswith(f"scenarios.1 ({scenario['attack']}): ")
    assert "\n" not in text
    assert all(part in text for part in parts), text
