"""A preset and the data that it is for: classes by name, and what does not fit."""

from typing import Any

import pytest
import torch

from search_spaces.loader import PresetError, apply_overrides
from sweeper.preset.class_numbers import describe_classes
from sweeper.preset.fitting import Fitted, fit_to_data
from sweeper.preset.misfits import Misfits
from sweeper.preset.spec import SweepSpec, resolve, validate
from tests.sweeper.small import ONE_SETTING, make_objectives, misfits_of, preset_with
from trainers.data import ImageSet, Splits
from trainers.data.shapes import make_shapes
from trainers.errors import ConfigError

SHAPES = make_shapes(200, 100, 0)
NAMES = SHAPES.train.class_names  # disc, ring, square, frame, triangle, ...


def called(*names: str) -> ImageSet:
    """A set whose classes are called so, with 20 images each."""
    count = 20 * len(names)
    images = torch.randint(256, (count, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % len(names), names)


def fit(preset: dict[str, Any], train: ImageSet = SHAPES.train) -> Fitted:
    spec = validate(preset, "small.yaml")
    misfits = Misfits([block.values["name"] for block in spec.scenario_blocks])
    fitted = fit_to_data(spec, preset, train, misfits)
    misfits.refuse()
    return fitted


def refused(preset: dict[str, Any], train: ImageSet = SHAPES.train) -> str:
    with pytest.raises(ConfigError) as caught:
        fit(preset, train)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def trials(spec: SweepSpec) -> list[tuple[str, str]]:
    """Key and scenarios of the trial at every corner."""
    made = [spec.trial(lambda _, s, pick=pick: s.corners()[pick % len(s.corners())], "data") for pick in range(4)]  # type: ignore[misc]
    return [(trial.key, repr(trial.scenarios)) for trial in made]


BY_NUMBER = {
    "scenario_defaults": {"target": {"categorical": [2, 4]}},
    "scenarios": [
        {"attack": "badnets", "size": {"int": [2, 3], "when": {"target": 2}}},
        {"attack": "blend", "target": 3, "alpha": {"categorical": [0.1, 0.2], "when": {"target": [3, 4]}}},
        {"attack": "tact", "target": 0, "source": {"categorical": [5, 6]},
         "cover_classes": [7, 1], "poison_rate": 0.05},
        {"attack": "wanet", "name": "all", "labels": "all_to_all", "target": 0, "cover_rate": 0.1},
    ],
}  # fmt: skip
BY_NAME = {
    "scenario_defaults": {"target": {"categorical": ["square", "triangle"]}},
    "scenarios": [
        {"attack": "badnets", "size": {"int": [2, 3], "when": {"target": "square"}}},
        {"attack": "blend", "target": "frame", "alpha": {"categorical": [0.1, 0.2], "when": {"target": ["frame", 4]}}},
        {"attack": "tact", "target": "disc", "source": {"categorical": ["cross", "bar"]},
         "cover_classes": ["crescent", 1], "poison_rate": 0.05},
        {"attack": "wanet", "name": "all", "labels": "all_to_all", "target": "disc", "cover_rate": 0.1},
    ],
}  # fmt: skip


def test_classes_by_name_are_the_same_sweep_as_by_number() -> None:
    by_number, by_name = (fit(preset_with(**changes)) for changes in (BY_NUMBER, BY_NAME))
    assert by_name.preset == by_number.preset == preset_with(**BY_NUMBER)
    assert by_name.spec.space() == by_number.spec.space()
    assert trials(by_name.spec) == trials(by_number.spec)
    kept = resolve(by_name.spec, by_name.preset)
    assert kept == resolve(by_number.spec, by_number.preset), "what resume and confirm read"
    assert kept["scenarios"][1]["target"] == 3


def test_a_name_is_taken_from_the_command_line() -> None:
    for text, number in (("square", 2), ('"square"', 2), ("{categorical: [ring, 3]}", {"categorical": [1, 3]})):
        preset = apply_overrides(preset_with(), [f"scenarios.0.target={text}"], "small.yaml")
        assert fit(preset).preset["scenarios"][0]["target"] == number


def test_names_that_look_like_numbers() -> None:
    """A number is a place from 0, a text in quotes a name; where both could be meant, it must be said."""
    folders = called(*map(str, range(1, 11)))
    for text, number in (('"3"', 2), ("0", 0), ('"10"', 9)):
        preset = apply_overrides(preset_with(), [f"scenarios.0.target={text}"], "small.yaml")
        assert fit(preset, folders).preset["scenarios"][0]["target"] == number
    for target in (3, {"int": [0, 3]}, {"categorical": ["1", 3]}, {"int": [1, 7], "step": 2}):
        text = refused(preset_with(scenarios=[{"attack": "badnets", "target": target}]), folders)
        assert text.startswith("scenarios.0 (badnets): target: ")
        assert "write the name in quotes: " in text
    same = called(*map(str, range(12)))
    assert (
        fit(preset_with(scenarios=[{"attack": "badnets", "target": 10}]), same).preset["scenarios"][0]["target"] == 10
    )


def attacking(target: dict[str, Any]) -> dict[str, Any]:
    """An attacker's sweep, which alone may search long ranges."""
    objectives = make_objectives(("val_asr", "maximize"))
    return preset_with(defense=ONE_SETTING, objectives=objectives, scenarios=[{"attack": "badnets", "target": target}])


def test_a_range_may_be_of_any_length() -> None:
    """It is no sweep on these classes, but that is found without a look at each number."""
    target = {"int": [0, 10**15]}
    preset = attacking(target)
    assert fit(preset).preset["scenarios"][0]["target"] == target
    spec = validate(preset, "small.yaml")
    with pytest.raises(ConfigError, match=f"target must be a class from 0 to 9, but got {10**15}"):
        spec.check_against(SHAPES, misfits_of(spec))
    odd = attacking({"int": [1, 10**15], "step": 2})
    assert fit(odd, called("a", "b", "c", "100")).preset == odd
    text = refused(odd, called("a", "b", "c", "101"))
    assert text.startswith("scenarios.0 (badnets): target: 101 may be the class called 101")


@pytest.mark.parametrize("value", ["yes", "1.5", "2024-01-01", "null"])
def test_what_yaml_reads_as_something_else_is_to_be_quoted(value: str) -> None:
    train = called("no", value)
    preset = preset_with(scenarios=[{"attack": "badnets"}])
    with pytest.raises(PresetError, match="by its name \\(in quotes, if YAML reads it as something else, as yes\\)"):
        fit(apply_overrides(preset, [f"scenarios.0.target={value}"], "small.yaml"), train)
    quoted = apply_overrides(preset, [f'scenarios.0.target="{value}"'], "small.yaml")
    assert fit(quoted, train).preset["scenarios"][0]["target"] == 1


def test_a_name_and_a_number_of_one_class_are_one_choice() -> None:
    with pytest.raises(PresetError, match="lists a choice twice"):
        fit(preset_with(scenarios=[{"attack": "badnets", "target": {"categorical": ["square", 2]}}]))


def test_a_wrong_name_among_the_defaults_is_said_once() -> None:
    text = refused(
        preset_with(scenario_defaults={"target": "sqare"}, scenarios=[{"attack": "badnets"}, {"attack": "sig"}])
    )
    assert text.startswith(
        "scenario_defaults: target must be a class, but none is called 'sqare'; there are disc, ring"
    )
    assert text.endswith(" Did you mean square?")


def test_a_number_among_the_defaults_that_is_a_name_too_is_one_part() -> None:
    """Scenarios with a class of their own are judged; the others would repeat what the defaults lack."""
    folders = called(*map(str, range(1, 11)))
    scenarios = [{"attack": "badnets"}, {"attack": "sig"}, {"attack": "blend", "target": 10}]
    text = refused(preset_with(scenario_defaults={"target": 10}, scenarios=scenarios[:2]), folders)
    assert text.startswith("scenario_defaults: target: 10 may be the class called 10, but there is no class of that ")
    text = refused(preset_with(scenario_defaults={"target": 10}, scenarios=scenarios), folders)
    assert text.startswith("scenario_defaults, scenarios.2 (blend): target: 10 may be the class called 10")


def test_all_that_does_not_fit_is_in_one_sentence() -> None:
    preset = preset_with(
        defense={"name": "bcu", "unlabelled": "clean"},
        scenarios=[
            {"attack": "badnets", "size": 17},
            {"attack": "blend"},
            {"attack": "tact", "source": "rnig"},
            {"attack": "sig", "target": 10, "poison_rate": 0.5},
            {"attack": "badnets", "name": "far", "target": 10},
        ],
    )
    spec = validate(preset, "small.yaml")
    misfits = Misfits([block.values["name"] for block in spec.scenario_blocks])
    fitted = fit_to_data(spec, preset, SHAPES.train, misfits)
    with pytest.raises(ConfigError) as caught:
        fitted.spec.check_against(Splits(SHAPES.train, SHAPES.test), misfits)
    text = str(caught.value)
    assert text.startswith("5 parts of the preset do not fit the data. defense bcu: unlabelled: clean ")
    parts = [
        "defense bcu: ", "scenarios.0 (badnets): A patch of size 17",
        "scenarios.2 (tact): source must be a class, but none",
        "scenarios.3 (sig), scenarios.4 (far): target must be a class from 0 to 9, but got 10.",
    ]  # fmt: skip
    places = [text.find(part) for part in parts]
    assert places == sorted(places)
    assert "blend" not in text


def test_scenarios_keep_their_places_in_errors_when_others_are_left_out() -> None:
    preset = preset_with(
        search={"sampler": "random", "scenarios": "one", "min_poisoned": 10},
        objectives=make_objectives(("val_acc", "maximize")),
        scenarios=[
            {"attack": "badnets", "poison_rate": 0.01},
            {"attack": "tact", "source": 10},
            {"attack": "blend"},
        ],
    )
    assert refused(preset) == "scenarios.1 (tact): source must be a class from 0 to 9, but got 10."


def test_the_classes_that_attacks_name() -> None:
    spec = fit(preset_with(**BY_NAME)).spec
    assert describe_classes(spec.scenario_blocks, NAMES) == (
        "target 2 (square) or 4 (triangle) in badnets; target 3 (frame) in blend; "
        "target 0 (disc), source 5 (cross) or 6 (bar), cover_classes 7 (crescent) and 1 (ring) in tact; "
        "every class as the next one in all"
    )
    ranges = preset_with(scenarios=[{"attack": "badnets", "target": {"int": [0, 9]}}, {"attack": "tact"}])
    assert describe_classes(fit(ranges).spec.scenario_blocks, NAMES) == (
        "target 0 (disc) to 9 (dots) in badnets; target 0 (disc), source 1 (ring) in tact"
    )
    alike = preset_with(scenarios=[{"attack": "badnets"}, {"attack": "blend"}])
    assert describe_classes(fit(alike).spec.scenario_blocks, NAMES) == "target 0 (disc) in badnets, blend"
