"""Where settings part: the boundary between stages that saves most."""

from typing import Any

import pytest

from sweeper.preset.blocks import defense_block
from sweeper.search.branching import Fork, branching_lines, fork
from tests.sweeper.small import ONE_SETTING, make_objectives, spec_with
from trainers.defenses import DEFENSES

LENGTHS = {"warmup_rounds": 1, "mix_epochs": 10, "suppression_epochs": 4}


def fork_of(branches: int, **searched: Any) -> Fork:
    """The fork of V&B's settings: stages of 2, 10 and 4 epochs."""
    block = defense_block({"name": "vab", **LENGTHS, **searched})
    return fork(block, DEFENSES["vab"].stages(DEFENSES["vab"].Params(**LENGTHS)), branches)


def test_the_latest_boundary_saves_most() -> None:
    assert fork_of(4, threshold={"float": [0.1, 0.5]}, temperature={"float": [1, 5]}) == Fork(
        2, frozenset(("vab.temperature",))
    )
    assert fork_of(4, threshold={"float": [0.1, 0.5]}, lr={"float": [0.01, 0.1]}) == Fork(1, frozenset(("vab.lr",)))


def test_two_choices_save_less_than_many_values_before() -> None:
    """Of 8 settings two at a time share 12 epochs, which saves 6 each; or all of them share 2, which saves 1.75."""
    searched = {"suppression": {"categorical": ["both", "none"]}, "lr": {"float": [0.01, 0.1]}}
    assert fork_of(8, **searched).stages == 2
    few = {"suppression": {"categorical": ["both"]}, "lr": {"float": [0.01, 0.1]}}
    assert fork_of(8, **few) == Fork(1, frozenset(("vab.suppression", "vab.lr"))), "one choice is no difference"


@pytest.mark.parametrize("searched", [{}, {"threshold": {"float": [0.1, 0.5]}}, {"victim_lr": {"float": [0.1, 0.5]}}])
def test_nothing_is_read_late(searched: dict[str, Any]) -> None:
    assert fork_of(4, **searched) == Fork(0)


def test_one_branch_saves_nothing() -> None:
    assert fork_of(1, temperature={"float": [1, 5]}) == Fork(0)


def test_what_decides_whether_an_early_parameter_is_drawn_is_early() -> None:
    searched = {
        "temperature": {"float": [1, 5]},
        "suppression": {"categorical": ["both", "none"]},
        "mix_beta": {"float": [0.5, 1], "when": {"suppression": "both"}},
    }
    assert fork_of(4, **searched) == Fork(2, frozenset(("vab.temperature",)))


def test_a_trunk_without_epochs_is_none() -> None:
    block = defense_block({"name": "vab", "temperature": {"float": [1, 5]}})
    stages = DEFENSES["vab"].stages(DEFENSES["vab"].Params(mix_epochs=0))
    assert fork(block, stages, 4).stages == 2
    bare = [stage for stage in stages if stage.name != "warmup"]
    assert fork(block, bare, 4) == Fork(0)


def test_what_is_said_of_each_defense() -> None:
    pt = {"name": "pt", "partial_epochs": 2, "isolation_rate": {"float": [0.05, 0.2]}}
    vab = ONE_SETTING | {"late_weight": {"float": [0.1, 1]}, "temperature": {"float": [1, 5]}}
    spec = spec_with(defense=[vab, pt], search={"trials": 4, "branches": 2})
    assert not any("groups" in line for line in branching_lines(spec))
    assert branching_lines(spec) == [
        "2 settings of vab at a time share warmup and mix, and differ in late_weight, temperature.",
        "search.branches is ignored for pt: each searched parameter, if there is one, is read by the first stage that "
        "takes any time.",
    ]
    assert branching_lines(spec_with(defense=vab)) == []


def test_fewer_groups_than_take_turns_are_said() -> None:
    pt = {"name": "pt", "partial_epochs": 2, "isolation_rate": {"float": [0.05, 0.2]}}
    rates = [{"attack": "badnets", "poison_rate": {"categorical": [0.05, 0.1, 0.2]}}]
    search = {"branches": 4, "defenses": "turns", "sampler": "random"}
    few, enough = (
        branching_lines(spec_with(defense=[ONE_SETTING, pt], scenarios=rates, search=search | {"trials": trials}))
        for trials in (20, 21)
    )
    assert few[-1] == (
        "20 trials are 5 groups of 4 settings, but there are 6 pairs of defense and attacker to take turns: raise "
        "search.trials to at least 24, or some are never tried."
    )
    assert len(enough) == len(few) - 1


def test_attackers_share_nothing_which_is_said() -> None:
    blend = {"attack": "blend", "alpha": {"float": [0.1, 0.5]}}
    spec = spec_with(
        defense=ONE_SETTING, scenarios=[blend], objectives=make_objectives(("val_asr", "maximize")),
        search={"branches": 4},
    )  # fmt: skip
    assert branching_lines(spec) == [
        "search.branches is ignored, since each trial of an attacker's sweep meets data of its own."
    ]
