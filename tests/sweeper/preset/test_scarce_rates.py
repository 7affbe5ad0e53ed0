from typing import Any

import pytest
import torch

from sweeper.preset.scarce_rates import without_scarce_rates
from sweeper.preset.spec import SweepSpec, validate
from tests.sweeper.small import ONE_SETTING, make_objectives, misfits_of, preset_with
from trainers.data import ImageSet
from trainers.errors import ConfigError

CLASSES = ("a", "b", "c", "d")


def images(*counts: int) -> ImageSet:
    """So many images of each class."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return ImageSet(torch.zeros(len(labels), 3, 16, 16, dtype=torch.uint8), labels, CLASSES[: len(counts)])


TRAIN = images(50, 50, 50, 50)


def sweep(*scenarios: dict[str, Any], least: int | None = 10, **changes: Any) -> tuple[SweepSpec, dict[str, Any]]:
    search = {"sampler": "grid", "scenarios": "one", "min_poisoned": least}
    preset = preset_with(defense={"name": "vab", "threshold": 0.2}, scenarios=list(scenarios), search=search, **changes)
    return validate(preset, "small.yaml"), preset


def left(spec: SweepSpec, preset: dict[str, Any], train: ImageSet = TRAIN) -> tuple[dict[str, Any], list[str]]:
    """The rates that each scenario keeps, and what is said of the others."""
    made, words = without_scarce_rates(spec, preset, train, misfits_of(spec))
    blocks = validate(made, "small.yaml").scenario_blocks
    return {b.values["name"]: list(b.values["poison_rate"].grid() or ()) for b in blocks}, words


def test_a_rate_stays_from_the_number_of_images_on_that_is_asked_for() -> None:
    # Of 200 images: 9, 10, 20. Of the 50 of the target class, for SIG: 2 (2.25), 3 (2.5) and 5, and 10 at 0.2.
    rates = {"categorical": [0.045, 0.05, 0.1, 0.2]}
    spec, preset = sweep({"attack": "badnets"}, {"attack": "sig"}, scenario_defaults={"poison_rate": rates})
    assert left(spec, preset) == (
        {"badnets": [0.05, 0.1, 0.2], "sig": [0.2]},
        [
            "badnets at rate 0.045 (9 poisoned images)",
            "sig at rate 0.045 (2 poisoned images), 0.05 (3 poisoned images), 0.1 (5 poisoned images)",
        ],
    )


def test_one_image_is_no_plural() -> None:
    spec, preset = sweep({"attack": "badnets", "poison_rate": {"categorical": [0.005, 0.2]}}, least=2)
    assert left(spec, preset)[1] == ["badnets at rate 0.005 (1 poisoned image)"]


def test_a_rate_of_nothing_is_the_clean_set_and_stays() -> None:
    spec, preset = sweep(
        {"attack": "badnets", "poison_rate": {"categorical": [0.0, 0.01, 0.1]}},
        {"attack": "blend", "poison_rate": 0.1},
        objectives=make_objectives(("val_acc", "maximize")),
    )
    assert left(spec, preset)[0] == {"badnets": [0.0, 0.1], "blend": [0.1]}


def test_more_than_can_be_poisoned_is_left_out_with_the_reason() -> None:
    rates = {"float": [0.3, 0.9], "step": 0.3}
    spec, preset = sweep({"attack": "narcissus", "poison_rate": rates}, {"attack": "badnets", "poison_rate": rates})
    kept, words = left(spec, preset)
    assert kept == {"badnets": [0.3, 0.6]}  # the target class may not be poisoned by one, and alone by the other
    assert [text.split(" (")[0] for text in words] == ["narcissus at rate 0.3", "badnets at rate 0.9"]
    assert words[0].startswith(
        "narcissus at rate 0.3 (A poison_rate of 0.3 is 60 samples, but only 50 can be poisoned by narcissus), 0.6 ("
    )


def test_a_scenario_without_a_rate_goes_and_the_rest_of_the_others_stays() -> None:
    blend = {"attack": "blend", "name": "faint", "alpha": {"categorical": [0.1, 0.2]}}
    spec, preset = sweep({"attack": "badnets", "poison_rate": 0.01}, blend, scenario_defaults={"poison_rate": 0.1})
    made, words = without_scarce_rates(spec, preset, TRAIN, misfits_of(spec))
    assert words == ["badnets at rate 0.01 (2 poisoned images)"]
    assert made == preset | {"scenarios": [blend | {"poison_rate": {"categorical": [0.1]}}]}
    assert preset["scenarios"][0] == {"attack": "badnets", "poison_rate": 0.01}, "what was read is not written into"


def test_what_was_left_out_is_left_out_of_the_trials() -> None:
    rates = {"categorical": [0.01, 0.1]}
    spec, preset = sweep({"attack": "badnets", "poison_rate": rates}, {"attack": "blend", "poison_rate": rates})
    made, _ = without_scarce_rates(spec, preset, TRAIN, misfits_of(spec))
    space = validate(made, "small.yaml").space()
    assert {name: searched.grid() for name, searched in space.items()} == {
        "scenario": ("badnets", "blend"), "badnets.poison_rate": (0.1,), "blend.poison_rate": (0.1,),
    }  # fmt: skip


def test_a_conditional_parameter_of_the_attack_stays_conditional() -> None:
    rates = {"categorical": [0.01, 0.1, 0.2]}
    size = {"int": [2, 3], "when": {"poison_rate": 0.1}}
    spec, preset = sweep({"attack": "badnets", "poison_rate": rates, "size": size})
    made, _ = without_scarce_rates(spec, preset, TRAIN, misfits_of(spec))
    assert made["scenarios"] == [{"attack": "badnets", "poison_rate": {"categorical": [0.1, 0.2]}, "size": size}]


def test_nothing_is_left_out_unless_it_is_asked_for() -> None:
    spec, preset = sweep({"attack": "badnets", "poison_rate": 0.005}, least=None)
    assert without_scarce_rates(spec, preset, TRAIN, misfits_of(spec)) == (preset, [])


def test_if_nothing_is_left_the_reasons_are_said() -> None:
    spec, preset = sweep({"attack": "badnets", "poison_rate": 0.01}, {"attack": "sig", "poison_rate": 0.1})
    with pytest.raises(ConfigError) as caught:
        without_scarce_rates(spec, preset, TRAIN, misfits_of(spec))
    assert str(caught.value) == (
        "No scenario has a poison rate left that gives 10 poisoned images (search.min_poisoned): "
        "badnets at rate 0.01 (2 poisoned images); sig at rate 0.1 (5 poisoned images)."
    )


def test_a_continuous_rate_cannot_be_counted() -> None:
    objectives = [
        {"metric": "val_asr", "direction": "maximize"}, {"metric": "poison_rate", "direction": "minimize"}
    ]  # fmt: skip
    rate = {"float": [0.01, 0.1]}
    preset = preset_with(
        defense=ONE_SETTING,
        scenarios=[{"attack": "badnets", "poison_rate": rate}],
        objectives=objectives,
        search={"scenarios": "one", "min_poisoned": 10},
    )
    spec = validate(preset, "small.yaml")
    with pytest.raises(ConfigError, match="needs poison rates with a step, or a list"):
        without_scarce_rates(spec, preset, TRAIN, misfits_of(spec))


def test_an_attack_that_does_not_fit_the_data_is_no_scarce_rate() -> None:
    spec, preset = sweep({"attack": "badnets", "target": 7, "poison_rate": 0.2})
    misfits = misfits_of(spec)
    assert without_scarce_rates(spec, preset, TRAIN, misfits) == (preset, []), "it stays as it is"
    assert "target must be a class from 0 to 3" in misfits.sentence()


@pytest.mark.parametrize(
    ("attacker", "reason"),
    [
        ({"attack": "tact", "source": 3}, r"tact poisons images of class 3 \(d\), but the data has none"),
        ({"attack": "laundry", "cover_rate": 0.001}, "A cover_rate of 0.001 rounds to no sample of 150"),
    ],
)
def test_what_no_rate_would_mend_is_noted_with_its_scenario(attacker: dict[str, Any], reason: str) -> None:
    rates = {"categorical": [0.1, 0.2]}
    spec, preset = sweep({"attack": "badnets"}, attacker, scenario_defaults={"poison_rate": rates})
    train = images(50, 50, 50, 0)
    assert train.num_classes == 4
    misfits = misfits_of(spec)
    without_scarce_rates(spec, preset, train, misfits)
    with pytest.raises(ConfigError, match=rf"^scenarios\.1 \({attacker['attack']}\): {reason}"):
        misfits.refuse()
