from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from trainers.attacks.badnets import BadNets
from trainers.compute import Compute
from trainers.data import ImageSet, Splits
from trainers.errors import ConfigError
from trainers.params import param
from trainers.scenario import Scenario, ScenarioConfig, build_scenario, scenario_seed

Noise = Callable[..., ImageSet]
CPU = Compute(torch.device("cpu"))


@pytest.fixture
def splits(noise: Noise) -> Splits:
    return Splits(noise(40), noise(24, seed=1))


def config(**changes: Any) -> ScenarioConfig:
    return ScenarioConfig(**{"name": "s", "attack": "badnets", "poison_rate": 0.2, **changes})


def build(made: ScenarioConfig, splits: Splits, sweep_seed: int = 0, repeat: int = 0) -> Scenario:
    return build_scenario(made, splits, sweep_seed, repeat, CPU)


def pixels(scenario: Scenario) -> list[bytes]:
    truth = scenario.truth
    parts = [scenario.data.images, scenario.data.labels, truth.poisoned, truth.cover]
    for half in (truth.val, truth.test):
        parts += [half.images, half.labels, half.eligible, half.triggered, half.targets]
    return [part.numpy().tobytes() for part in parts]


# The halves of the test split


def test_the_halves_are_disjoint_and_complete(splits: Splits) -> None:
    truth = build(config(), splits).truth
    both = torch.cat([truth.val.images, truth.test.images]).flatten(1)
    assert len(both.unique(dim=0)) == 24
    assert {tuple(image) for image in both.tolist()} == {tuple(i) for i in splits.test.images.flatten(1).tolist()}
    for half in (truth.val, truth.test):
        assert half.labels.bincount(minlength=4).tolist() == [3, 3, 3, 3]
        for image, label in zip(half.images, half.labels, strict=True):
            (index,) = (splits.test.images == image).flatten(1).all(1).nonzero().flatten().tolist()
            assert splits.test.labels[index] == label


def test_the_halves_are_the_same_in_every_sweep_and_scenario(splits: Splits) -> None:
    first = build(config(), splits).truth
    for other in (build(config(), splits, sweep_seed=7, repeat=3), build(config(attack="blend", target=2), splits)):
        assert other.truth.val.images.equal(first.val.images)
        assert other.truth.test.images.equal(first.test.images)


# What is poisoned and what is triggered


def test_the_training_split_is_poisoned_and_the_truth_kept_apart(splits: Splits) -> None:
    before = splits.train.images.clone(), splits.train.labels.clone()
    scenario = build(config(target=2), splits)
    assert (splits.train.images.equal(before[0]), splits.train.labels.equal(before[1])) == (True, True)
    mask = scenario.truth.poisoned
    assert int(mask.sum()) == 8
    assert scenario.truth.attacked
    assert not scenario.truth.cover.any()
    assert scenario.data.labels[mask].tolist() == [2] * 8
    assert scenario.data.images[~mask].equal(splits.train.images[~mask])
    assert scenario.data.labels[~mask].equal(splits.train.labels[~mask])


def test_what_is_handed_over_says_nothing_of_where_it_came_from(splits: Splits) -> None:
    named = Splits(replace(splits.train, names=tuple(f"{n}.png" for n in range(40))), splits.test)
    assert build(config(), named).data.names is None


def test_cover_samples_are_not_poisoned_ones(splits: Splits) -> None:
    """They wear the trigger and keep their labels: who throws them away has found no poison."""
    scenario = build(config(attack="wanet", params={"cover_rate": 0.1, "strength": 4.0}), splits)
    truth = scenario.truth
    assert (int(truth.poisoned.sum()), int(truth.cover.sum())) == (8, 4)
    assert not (truth.poisoned & truth.cover).any()
    assert scenario.data.labels[truth.cover].equal(splits.train.labels[truth.cover])


def test_the_cost_is_measured_against_the_clean_images(splits: Splits) -> None:
    cost = build(config(), splits).cost
    assert cost.changed_share == 8 / 40
    assert cost.psnr is not None
    assert cost.psnr < 30


def test_all_to_one_triggers_the_other_classes(splits: Splits) -> None:
    for half in (build(config(target=1), splits).truth.val, build(config(target=1), splits).truth.test):
        assert half.eligible.tolist() == [i for i, label in enumerate(half.labels.tolist()) if label != 1]
        assert half.targets.tolist() == [1] * 9
        untouched = half.images[half.eligible].clone()
        board = [[255, 0, 255], [0, 255, 0], [255, 0, 255]]
        assert half.triggered[:, :, 5:, 5:].tolist() == [[board] * 3] * 9
        assert half.triggered[:, :, :5].equal(untouched[:, :, :5])
        assert half.triggered[:, :, :, :5].equal(untouched[:, :, :, :5])


def test_all_to_all_triggers_every_class(splits: Splits) -> None:
    half = build(config(labels="all_to_all"), splits).truth.val
    assert half.eligible.tolist() == list(range(12))
    assert half.targets.tolist() == [(label + 1) % 4 for label in half.labels.tolist()]
    assert len(half.triggered) == 12


def test_without_poison_the_data_is_clean_and_still_probed(splits: Splits) -> None:
    scenario = build(config(poison_rate=0), splits)
    assert scenario.data.fingerprint == splits.train.fingerprint
    assert not scenario.truth.attacked
    assert not scenario.truth.poisoned.any()
    assert len(scenario.truth.val.eligible) == 9


def test_a_test_split_of_the_target_class_alone(noise: Noise) -> None:
    test = noise(24, seed=1)
    only = test.subset((test.labels == 0).nonzero().squeeze(1))
    half = build(config(target=0), Splits(noise(40), only)).truth.val
    assert (len(half.labels), len(half.eligible), len(half.triggered)) == (3, 0, 0)


def test_the_attack_is_prepared_on_clean_data_after_the_counts_are_known(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[tuple[str, float, int]] = []
    monkeypatch.setattr(
        BadNets,
        "prepare",
        lambda self, clean, rate, artifacts: prepared.append((clean.fingerprint, rate, artifacts.seed)),
    )
    build(config(), splits)
    assert [told[:2] for told in prepared] == [(splits.train.fingerprint, 0.2)]
    with pytest.raises(ConfigError, match="only 30 can be poisoned"):
        build(config(poison_rate=0.9), splits)
    assert len(prepared) == 1  # a surrogate is not trained in vain
    build(config(poison_rate=0.1), splits)
    build(config(), splits, repeat=1)
    seeds = [told[2] for told in prepared]
    assert seeds[0] == seeds[1] != seeds[2]  # one surrogate serves every rate


# Seeds


def test_the_same_scenario_gives_the_same_bytes(splits: Splits) -> None:
    for attack in ("badnets", "blend"):
        made = config(attack=attack)
        assert pixels(build(made, splits)) == pixels(build(config(attack=attack), splits))
        # Its name and defaults that are spelled out do not count.
        spelled = config(attack=attack, name="other", params=dict(made.params))
        assert pixels(build(spelled, splits)) == pixels(build(made, splits))
        for other in (build(made, splits, sweep_seed=1), build(made, splits, repeat=1)):
            assert not other.truth.poisoned.equal(build(made, splits).truth.poisoned)


def test_what_enters_the_seed() -> None:
    variants = [
        config(), config(attack="blend"), config(poison_rate=0.3), config(target=1), config(labels="all_to_all"),
        config(params={"size": 2}),
    ]  # fmt: skip
    seeds = [scenario_seed(made, 0, 0) for made in variants]
    seeds += [scenario_seed(config(), 1, 0), scenario_seed(config(), 0, 1)]
    assert len(set(seeds)) == len(seeds)
    assert scenario_seed(config(name="x"), 0, 0) == scenario_seed(config(), 0, 0)
    aimless = [config(labels="all_to_all", target=t) for t in (0, 1)]
    assert scenario_seed(aimless[0], 0, 0) == scenario_seed(aimless[1], 0, 0)
    pictures = [config(params={"trigger": place}) for place in (None, "here/a.png", "there/b.png")]
    assert len({scenario_seed(made, 0, 0) for made in pictures}) == 1


def test_a_parameter_that_is_added_later_enters_no_seed_at_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Later(BadNets.Params):  # type: ignore[name-defined, misc]
        tilt: int = param(0)

    @dataclass(frozen=True)
    class LaterConfig(ScenarioConfig):
        wave: int = param(1)

    before = scenario_seed(config(), 0, 0)
    assert scenario_seed(LaterConfig("s", "badnets", 0.2), 0, 0) == before
    assert scenario_seed(LaterConfig("s", "badnets", 0.2, wave=2), 0, 0) != before
    monkeypatch.setattr(BadNets, "Params", Later)
    assert config().params["tilt"] == 0
    assert scenario_seed(config(), 0, 0) == before == scenario_seed(config(params={"tilt": 0}), 0, 0)
    assert scenario_seed(config(params={"tilt": 1}), 0, 0) != before


def test_the_global_generator_is_left_alone(splits: Splits) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    build(config(attack="blend"), splits)
    assert torch.get_rng_state().equal(before)


# Configuration


def test_the_parameters_of_the_attack_are_filled_in() -> None:
    assert config().params == {"size": 3, "corner": "bottom_right", "inset": 0, "trigger": None}
    assert config(attack="blend", params={"alpha": 1}).params == {"alpha": 1.0, "trigger": None}
    assert config() == config(params={"size": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack": "sorcery"}, "attack must be one of badnets, blend"),
        ({"poison_rate": 1.0}, "poison_rate must be a number at least 0 and below 1, but got 1.0"),
        ({"poison_rate": -0.1}, "poison_rate must be"),
        ({"labels": "one_to_one"}, "labels must be one of all_to_one, all_to_all"),
        ({"target": -1}, r"target must be a class, by its number, from 0, or by its name \(in .* but got -1"),
        ({"target": 1.5}, "target must be a class, .* but got 1.5"),
        ({"target": True}, r"\(in quotes, if YAML reads it as something else, as yes\), but got True"),
        ({"target": ""}, "target must be a class, .* but got ''"),
        ({"attack": "tact", "params": {"source": [1]}}, r"source must be a class, .* but got \[1\]"),
        (
            {"attack": "tact", "params": {"cover_classes": 2}},
            r"must be a list of classes, each .* \(or null\), but got 2",
        ),
        ({"attack": "tact", "params": {"cover_classes": [None]}}, "cover_classes must be a class, .* but got None"),
        ({"params": {"size": 0}}, "size must be a whole number at least 1, but got 0"),
        ({"params": {"alpha": 0.1}}, "alpha is no parameter here; known are size, corner, inset, trigger"),
        ({"params": [1]}, "params must be"),
        ({"name": None}, "name must be text"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_classes_may_be_given_by_name(splits: Splits) -> None:
    """Seeds, and all that is drawn with them, are those of the numbers."""
    names = splits.train.class_names
    params = {"source": 2, "cover_classes": [0, 1], "cover_rate": 0.1}
    named = {"source": names[2], "cover_classes": [names[0], 1], "cover_rate": 0.1}
    by_number = config(attack="tact", target=3, params=params)
    by_name = config(attack="tact", target=names[3], params=named)
    assert by_name.by_number(names) == by_number
    assert by_number.by_number(names) == by_number
    assert pixels(build(by_name, splits)) == pixels(build(by_number, splits))
    assert by_name.classes() == {"target": names[3], "source": names[2], "cover_classes": (names[0], 1)}
    assert config(labels="all_to_all").classes() == {}


def test_a_name_of_no_class(splits: Splits) -> None:
    with pytest.raises(ConfigError, match="target must be a class, but none is called 'cta'; there are "):
        build(config(target="cta"), splits)
    with pytest.raises(ConfigError, match="cover_classes must be a class, but none is called '1'"):
        build(config(attack="tact", params={"cover_classes": ["1"]}), splits)


def test_a_target_out_of_range(splits: Splits) -> None:
    with pytest.raises(ConfigError, match=r"target must be a class from 0 to 3, but got 4"):
        build(config(target=4), splits)
    assert build(config(target=3), splits).truth.val.targets.tolist() == [3] * 9
    # All-to-all has no target class.
    assert config(labels="all_to_all", target=4).resolved_target is None
    build(config(labels="all_to_all", target=4), splits)


def test_an_attack_that_does_not_fit_the_images(splits: Splits) -> None:
    with pytest.raises(ConfigError, match="size 9 with inset 0 does not fit images of 8x8"):
        build(config(params={"size": 9}), splits)


def test_a_test_split_of_one_image(noise: Noise) -> None:
    with pytest.raises(ConfigError):
        build(config(), Splits(noise(40), noise(1)))


# Images that were set aside


def test_held_out_images_come_clean_and_with_the_attackers_share(noise: Noise, splits: Splits) -> None:
    aside = noise(60, seed=2)
    made = build(config(target=1), Splits(splits.train, splits.test, aside))
    assert made.held_out is not None
    assert made.held_out.clean.equal(aside.images)
    changed = (made.held_out.poisoned != aside.images).flatten(1).any(1)
    assert int(changed.sum()) == 12
    assert not (aside.labels[changed] == 1).any(), "the target class needs no trigger"
    again = build(config(target=1), Splits(splits.train, splits.test, aside)).held_out
    assert again is not None
    assert again.poisoned.equal(made.held_out.poisoned)
    assert build(config(), splits).held_out is None


def test_held_out_images_have_the_share_of_the_whole_set_that_is_poisoned(noise: Noise, splits: Splits) -> None:
    """A clean-label attack's rate is that of its target class: 4 of 10 images, a tenth of all."""
    made = build(
        config(attack="sig", poison_rate=0.4, params={"frequency": 2}),
        Splits(splits.train, splits.test, noise(60, seed=2)),
    )
    assert int(made.truth.poisoned.sum()) == 4
    assert made.held_out is not None
    assert int((made.held_out.poisoned != made.held_out.clean).flatten(1).any(1).sum()) == 6


def test_a_held_out_image_is_triggered_itself(noise: Noise, splits: Splits) -> None:
    made = build(config(), Splits(splits.train, splits.test, noise(60, seed=2))).held_out
    assert made is not None
    changed = (made.poisoned != made.clean).flatten(1).any(1)
    assert made.poisoned[changed][:, :, :5].equal(made.clean[changed][:, :, :5])
    assert made.poisoned[changed][:, :, :, :5].equal(made.clean[changed][:, :, :, :5])


def test_what_is_held_out_changes_nothing_of_the_rest(noise: Noise, splits: Splits) -> None:
    plain, more = build(config(), splits), build(config(), Splits(splits.train, splits.test, noise(60, seed=2)))
    assert pixels(plain) == pixels(more)


def test_without_poison_the_held_out_images_are_clean(noise: Noise, splits: Splits) -> None:
    made = build(config(poison_rate=0.0), Splits(splits.train, splits.test, noise(60, seed=2)))
    assert made.held_out is not None
    assert made.held_out.poisoned.equal(made.held_out.clean)
