"""What ships with the package is usable and is what its name says."""

from collections import Counter
from typing import Any

import pytest
import torch

from search_spaces.loader import preset_names, read_preset
from sweeper.preset.grid import grid_points
from sweeper.preset.objectives import Constraint
from sweeper.preset.scarce_rates import without_scarce_rates
from sweeper.preset.spec import SweepSpec, validate
from tests.sweeper.small import misfits_of
from trainers.attacks import ATTACKS
from trainers.data.image_set import ImageSet, Splits
from trainers.defenses import DEFENSES
from trainers.defenses.parts.entropy import threshold_at


def spec(name: str) -> SweepSpec:
    return validate(read_preset(name), name)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_valid_and_named_as_its_file(name: str) -> None:
    found = spec(name)
    assert f"{found.name}.yaml" == name
    assert found.space(), "a sweep searches something"


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_fits_its_data(name: str) -> None:
    preset = read_preset(name)
    preset["model"].pop("weights", None)  # there may be no internet
    found = validate(preset, name)
    size = found.data.image_size or (16 if found.data.source == "shapes" else 32)
    count = found.data.train_size or 3000
    classes = {"gtsrb": 43, "tiny_imagenet": 200}.get(found.data.source, 10)
    labels = torch.arange(count) % classes
    images = torch.zeros(1, 3, size, size, dtype=torch.uint8).expand(count, -1, -1, -1)  # takes the memory of one
    train = ImageSet(images, labels, tuple(map(str, range(classes))))
    held_out = train if found.data.held_out_size else None
    misfits = misfits_of(found)
    made, _ = without_scarce_rates(found, preset, train, misfits)
    validate(made, name).check_against(Splits(train, train, held_out), misfits)


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("pick", [0, -1])
def test_both_corners_of_a_preset_make_a_trial(name: str, pick: int) -> None:
    config = spec(name).trial(lambda _name, searched: searched.corners()[pick], "data")
    assert DEFENSES[config.defense].Params(**config.params).as_dict() == config.params


def test_what_the_presets_are_for() -> None:
    quick, cpu, paper, ablation = (spec(n) for n in ("quick", "cifar10_cpu", "cifar10", "ablation"))
    assert (quick.data.source, len(quick.scenarios), quick.seeds, quick.search.trials) == ("shapes", 1, [0], 8)
    assert (cpu.data.train_size, cpu.model.name) == (5000, "tiny")
    assert [block.kind for block in cpu.scenario_blocks] == ["badnets", "blend"]
    assert {"vab.threshold", "vab.early_weight", "vab.late_weight"} <= set(cpu.space())
    assert len(cpu.environment()["scenario.poison_rate"].grid() or ()) <= 4
    assert (paper.model.name, paper.resources.gpu > 0) == ("resnet18", True)
    drawn = paper.trial(lambda _name, searched: searched.corners()[0], "data")
    assert drawn.params["mix_epochs"] + drawn.params["suppression_epochs"] == 200
    assert ablation.search.sampler == "grid"
    assert set(ablation.space()) == {"vab.mixing", "vab.suppression"}
    assert len(grid_points(ablation)) == ablation.search.trials == 2 * 5
    ladder = {("none", "filter"), ("attention", "filter"), ("attention", "none"), ("attention", "suspicious"),
              ("attention", "both")}  # fmt: skip
    assert ladder < {(point["vab.mixing"], point["vab.suppression"]) for point in grid_points(ablation)}


def test_fine_tuning_on_a_cpu_is_short() -> None:
    found = spec("finetune_cpu")
    assert (found.data.train_size, found.data.image_size, found.seeds) == (2000, 64, [0])
    assert (found.model.name, found.model.weights) == ("timm:tf_efficientnet_lite0", "hub")
    assert (found.turns(), found.search.trials) == (("vab", "pt"), 6), "at most four settings of each"
    for _, params in found.corner_settings():
        own = params.as_dict()
        assert own.get("mix_epochs", own.get("clean_epochs")) + own.get("suppression_epochs", 0) <= 7
    assert [block.kind for block in found.scenario_blocks] == ["badnets", "blend"]


def test_the_second_data_set_of_the_paper_has_its_own_warm_up() -> None:
    """Credible above 1 - 0.1 e in round e, down to 0.4: a script that is said to be the authors'."""
    found = spec("imagenet_subset")
    assert (found.model.name, found.data.image_size) == ("imagenet_resnet18", 224)
    own = found.trial(lambda _name, searched: searched.corners()[0], "data").params
    assert own["warmup_rounds"] == 6
    thresholds = [
        threshold_at(e, own["threshold_start"], own["threshold_decay"], own["threshold"]) for e in range(1, 7)
    ]
    assert thresholds == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])


def test_a_traffic_sign_is_not_mirrored() -> None:
    assert not spec("gtsrb").augment.flip


@pytest.mark.parametrize("name", ["defenses_cpu", "defenses_cifar10"])
def test_every_defense_is_searched_by_itself_and_within_a_budget(name: str) -> None:
    found = spec(name)
    assert found.turns() == ("vab", "pt", "dlp", "abl", "bcu")
    assert set(found.turns()) == set(DEFENSES) - {"none"}
    assert 0 < found.search.trials // len(found.turns()) <= 20
    assert [constraint.metric for constraint in found.constraints] == ["images_seen"]
    assert [block.kind for block in found.scenario_blocks] == ["badnets", "blend", "sig", "adaptive_blend"]
    for kind in found.turns():
        assert sum(name.startswith(f"{kind}.") for name in found.space()) >= 4


def scenarios_of(point: dict[str, Any]) -> str:
    return str(point["scenario"])


@pytest.mark.parametrize("name", ["attacks_cpu", "attacks_cifar10_cpu"])
def test_every_attack_meets_every_setting_over_two_seeds(name: str) -> None:
    found = spec(name)
    assert sorted(block.kind for block in found.scenario_blocks) == sorted(ATTACKS)
    assert (found.search.scenarios, found.search.sampler, len(found.seeds)) == ("one", "grid", 2)
    met = Counter(map(scenarios_of, grid_points(found)))
    assert met == dict.fromkeys(ATTACKS, 2)
    assert found.search.trials == met.total()


def kept(name: str) -> tuple[SweepSpec, dict[str, tuple[float, ...]], list[str]]:
    """A preset on as many images as it asks for: what it becomes, the rates of each attack, and what is left out."""
    preset = read_preset(name)
    found = spec(name)
    labels = torch.arange(found.data.train_size or 3000) % 10
    train = ImageSet(torch.zeros(len(labels), 3, 16, 16, dtype=torch.uint8), labels, tuple("abcdefghij"))
    made, left_out = without_scarce_rates(found, preset, train, misfits_of(found))
    smaller = validate(made, name)
    return smaller, {b.kind: b.values["poison_rate"].grid() or () for b in smaller.scenario_blocks}, left_out


@pytest.mark.parametrize(("name", "settings"), [("poison_rate_map", 2), ("breaking_point", 1)])
def test_a_map_goes_over_the_rates_of_every_attack(name: str, settings: int) -> None:
    whole = spec(name)
    shared = whole.space()["scenario.poison_rate"].grid() or ()
    assert len(shared) >= 5
    assert (min(shared) <= 0.005, max(shared)) == (True, 0.2)
    assert (whole.search.scenarios, whole.search.sampler, whole.search.min_poisoned) == ("one", "grid", 10)
    assert sorted(block.kind for block in whole.scenario_blocks) == sorted(ATTACKS)

    found, rates, left_out = kept(name)
    assert sorted(rates) == sorted(ATTACKS), "no attack is left out"
    assert all(len(own) >= (2 if ATTACKS[kind].rate_of_target else len(shared) - 2) for kind, own in rates.items())
    assert len(left_out) == sum(len(own) < len(shared) for own in rates.values()), "a phrase for each attack"
    grid = grid_points(found)
    assert len(grid) == settings * sum(map(len, rates.values())) <= found.search.trials, "all of it is run"
    assert Counter(map(scenarios_of, grid)) == {kind: settings * len(own) for kind, own in rates.items()}


@pytest.mark.parametrize("name", ["poison_rate_map", "breaking_point"])
def test_where_every_rate_of_every_setting_counts_no_trial_leaves_its_race(name: str) -> None:
    assert spec(name).race is None


def test_a_breaking_point_is_that_of_one_setting() -> None:
    found = spec("breaking_point")
    assert set(found.space()) == {"scenario", "scenario.poison_rate"}
    assert len(found.seeds) >= 2
    assert min(len(own) for own in kept("breaking_point")[1].values()) >= 3


def test_the_adaptive_attacker_goes_for_success_with_little_poison() -> None:
    found = spec("adaptive_attacker")
    assert found.attacking
    assert [(o.metric, o.direction) for o in found.objectives] == [("val_asr", "maximize"), ("poison_rate", "minimize")]
    assert found.constraints == [Constraint(metric="control_asr", min=0.8)]
    assert [block.kind for block in found.scenario_blocks] == ["entropy_aware"]
    assert "entropy_aware.poison_rate" in found.space()
    assert all(name.startswith("entropy_aware.") for name in found.space()), "the defense is fixed"
    assert len(found.seeds) >= 2
