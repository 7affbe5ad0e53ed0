from collections.abc import Callable

import pytest

from search_spaces.loader import PresetError, preset_names
from sweeper.spec import SweepSpec
from trainers.data.shapes import make_shapes
from trainers.errors import ConfigError

Make = Callable[..., SweepSpec]


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_is_valid(make_spec: Make, preset: str) -> None:
    assert make_spec(preset=preset).name == preset.removesuffix(".yaml")


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
        ("scenarios.0.poison_rate=0", ["val_asr is undefined"]),
        ("search.sampler=grid", ["grid", "vab.threshold is continuous"]),
        ("objectives=[{metric: test_acc, direction: maximize}]", ["objectives.0.metric", "test_acc"]),
        ("objectives=[{metric: poison_rate, direction: maximize}]", ["poison_rate may only be minimized"]),
        ("objectives=[{metric: control_asr, direction: maximize}]", ["control_asr"]),
        ("search.scheduler=asha", ["asha needs one objective"]),
        ("seeds=[1, 1]", ["seeds", "twice"]),
        ("model.depth=16", ["model.depth is for wide_resnet only"]),
        ("device=cuda", ["resources.gpu"]),
        ("scenarios.0.poison_rate={float: [0.01, 0.1]}", ["badnets.poison_rate is continuous", "step"]),
        ("scenarios.0.poison_rate={categorical: [0, 0.1]}", ["val_asr is undefined", "always above 0"]),
        ("scenarios.0.labels={categorical: [all_to_one, all_to_all]}", ["labels", "cannot be searched"]),
        ("constraints=[{metric: val_asr, max: .nan}]", ["constraints.0.max", "finite"]),
        (
            "defense.mask_threshold={float: [0.1, 0.2], when: {mixing: atention}}",
            ["mask_threshold: when asks for mixing = atention", "none, attention"],
        ),
        ("constraints=[{metric: val_asr}]", ["constraints.0", "exactly one of max and min"]),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(make_spec: Make, override: str, words: list[str]) -> None:
    with pytest.raises(PresetError) as caught:
        make_spec(override)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_two_scenarios_of_one_name_are_refused(make_spec: Make) -> None:
    with pytest.raises(PresetError, match="same name"):
        make_spec("scenarios=[{attack: blend}, {attack: blend, alpha: 0.2}]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scenarios.0.target=10", "target must be a class from 0 to 9, but got 10"),
        ("scenarios.0.poison_rate=0.0001", "is no sample of 200"),
        ("scenarios.0.size=20", "does not fit images of 16x16"),
        ("scenarios.0.size={int: [3, 20]}", "does not fit images of 16x16"),
        ("scenarios.0.poison_rate=0.95", "only 180 can be poisoned"),
    ],
)
def test_what_only_the_data_can_tell(make_spec: Make, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_spec(override).check_against(make_shapes(200, 50, 0))


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
    )
    assert spec.environment() == {}
    assert "badnets.poison_rate" in spec.space()


def test_a_list_of_defenses_is_searched_over(make_spec: Make) -> None:
    spec = make_spec("defense=[{name: none, epochs: 3}, {name: vab, threshold: {float: [0.1, 0.2]}}]")
    assert list(spec.space()) == ["defense", "vab.threshold"]
    drawn = spec.trial(lambda name, searched: "none" if name == "defense" else 0.1, "data")
    assert (drawn.defense, drawn.params["epochs"]) == ("none", 3)


def test_a_parameter_whose_condition_fails_keeps_its_default(make_spec: Make) -> None:
    values = {"vab.mixing": "none", "vab.mask_threshold": 0.6}
    drawn = make_spec().trial(lambda name, searched: values.get(name, searched.corners()[0]), "data")
    assert drawn.params["mask_threshold"] == 0.1
