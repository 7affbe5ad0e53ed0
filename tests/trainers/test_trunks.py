"""Trunks: the stages that several settings share give the same numbers wherever they were trained."""

import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.test_trial import BCU, NONE, VAB, numbers, scenario, trial
from trainers.data import ImageSet, Splits
from trainers.defenses import DEFENSES
from trainers.storage import trunks as trunks_module
from trainers.storage.state import load_state, save_state
from trainers.storage.state_store import StateStore
from trainers.trial import EpochResult, SharedTrunk, TrialConfig, run_trial, trunk_file

Noise = Callable[..., ImageSet]

SMALL: dict[str, dict[str, Any]] = {
    "vab": VAB,
    "pt": {"partial_epochs": 2, "score_epochs": 1, "clean_epochs": 2, "finetune_epochs": 2, "batch_size": 16},
    "dlp": {"supervised_epochs": 2, "unlearning_epochs": 1, "finetune_epochs": 2, "refilter_period": 1},
    "abl": {"isolation_epochs": 2, "isolation_rate": 0.1, "finetune_epochs": 2, "unlearning_epochs": 1},
    "bcu": BCU,
}
OTHERS: dict[tuple[str, int], dict[str, Any]] = {
    ("vab", 1): {"ema_decay": 0.5, "frozen_parts": "stem", "backbone_lr_factor": 0.5, "temperature": 2.0},
    ("vab", 2): {"suppression": "credible", "late_weight": 0.3, "temperature": 2.0},
    ("pt", 1): {"lr": 0.01, "clean_start": "partial", "ema_decay": 0.5, "frozen_parts": "stem"},
    ("pt", 2): {"unlearning_weight": 0.3, "finetune_lr": 0.01},
    ("dlp", 1): {"unlearning_lr": 0.01, "temperature": 1.0},
    ("dlp", 2): {"unlabelled_weight": 3.0, "guesses": 1},
    ("abl", 1): {"cutout": 0, "unlearning_lr": 0.01},
    ("abl", 2): {"unlearning_weight": 0.3, "unlearning_rest": True},
    ("bcu", 1): {"head_ratio": 0.3, "distillation_lr": 0.05},
}
"""By defense and number of first stages: values that these do not read."""


@pytest.fixture
def splits(noise: Noise) -> Splits:
    return Splits(noise(32), noise(16, seed=1), noise(20, seed=2))


def run(config: TrialConfig, splits: Splits, store: StateStore | None = None, **how: Any) -> list[EpochResult]:
    return list(run_trial(config, splits, store, **how))


def pair(name: str, stages: int) -> tuple[TrialConfig, TrialConfig]:
    """Two settings that agree on what their first stages read."""
    one = trial(defense=name, params=SMALL[name])
    return one, replace(one, params=one.params | OTHERS[name, stages])


def kept(results: list[EpochResult]) -> list[tuple[int, str | None]]:
    """Epochs at which a trunk was passed, and why it is not kept."""
    return [(r.measurement.epoch, r.kept.error) for r in results if r.kept is not None]


@pytest.mark.parametrize(("name", "stages"), OTHERS)
def test_a_sibling_has_the_numbers_of_a_training_of_its_own(
    splits: Splits, tmp_path: Path, name: str, stages: int
) -> None:
    first, second = pair(name, stages)
    assert first.trunk(stages) == second.trunk(stages)
    assert first.trunk(stages + 1) != second.trunk(stages + 1)
    shared = SharedTrunk(tmp_path, stages)
    grown_first = run(first, splits, trunk=shared)
    grown = run(second, splits, trunk=shared)
    assert numbers(grown_first) == numbers(run(first, splits))
    assert numbers(grown) == numbers(run(second, splits))
    assert [path.name for path in tmp_path.iterdir()] == [trunk_file(first.trunk(stages))]
    length = sum(s.epochs for s in DEFENSES[name].stages(DEFENSES[name].Params(**first.params))[:stages])
    assert kept(grown_first) == kept(grown) == [(length, None)]


def test_seconds_count_the_trunk_and_say_what_was_not_computed_again(splits: Splits, tmp_path: Path) -> None:
    first, second = pair("vab", 2)
    trained = [r.measurement for r in run(first, splits, trunk=SharedTrunk(tmp_path, 2))]
    grown = [r.measurement for r in run(second, splits, trunk=SharedTrunk(tmp_path, 2))]
    assert [m.seconds_shared for m in trained] == [0.0] * 5
    assert [m.seconds for m in grown[:4]] == [m.seconds for m in trained[:4]]
    assert [m.seconds_shared for m in grown] == [*(m.seconds for m in trained[:4]), trained[3].seconds]
    assert grown[4].seconds > grown[3].seconds


def test_a_control_is_the_trunk_of_what_begins_undefended(splits: Splits, tmp_path: Path) -> None:
    bcu = trial(defense="bcu", params=BCU)
    control = bcu.control(scenario(), 0, NONE)
    shared = SharedTrunk(tmp_path, 1)
    assert kept(run(control, splits, trunk=shared)) == [(2, None)]
    grown = run(bcu, splits, trunk=shared)
    assert grown[1].measurement.seconds_shared > 0
    assert numbers(grown) == numbers(run(bcu, splits))
    other = run(bcu.control(scenario(), 0, NONE | {"lr": 0.01}), splits, trunk=shared)
    assert len(list(tmp_path.iterdir())) == 2
    assert numbers(other)[0] != numbers(grown)[0]


@pytest.mark.parametrize("stages", [1, 2])
def test_a_sibling_that_is_cut_off_goes_on_from_its_own_state(splits: Splits, tmp_path: Path, stages: int) -> None:
    first, second = pair("vab", stages)
    shared = SharedTrunk(tmp_path / "trunks", stages)
    run(first, splits, trunk=shared)
    whole = run(second, splits, trunk=shared)
    for epochs in range(1, len(whole)):
        store = StateStore(tmp_path / str(epochs), every_s=0)
        begun = run_trial(second, splits, store, trunk=shared)
        for _ in range(epochs):
            next(begun)
        begun.close()
        again = run(second, splits, StateStore(tmp_path / str(epochs)), trunk=shared)
        assert numbers(again) == numbers(whole)
        assert [r.measurement.seconds_shared > 0 for r in again] == [True] * len(whole)
        assert kept(again) == kept(whole)


def test_a_training_that_is_cut_off_in_its_trunk_keeps_it_later(splits: Splits, tmp_path: Path) -> None:
    first, _ = pair("vab", 2)
    shared, store = SharedTrunk(tmp_path / "trunks", 2), StateStore(tmp_path / "states", every_s=0)
    begun = run_trial(first, splits, store, trunk=shared)
    next(begun)
    begun.close()
    assert not (tmp_path / "trunks").exists()
    assert kept(run(first, splits, store, trunk=shared)) == [(4, None)]
    shutil.rmtree(tmp_path / "trunks")
    (told,) = [r.kept for r in run(first, splits, store, trunk=shared) if r.kept is not None]
    assert told.gone


@pytest.mark.parametrize(
    ("name", "stages", "none"),
    [("pt", 2, {"finetune_epochs": 0}), ("abl", 2, {"unlearning_epochs": 0}), ("dlp", 2, {"finetune_epochs": 0})],
)
def test_a_training_that_ends_with_its_trunk_is_measured_in_its_last_epoch(
    splits: Splits, tmp_path: Path, name: str, stages: int, none: dict[str, Any]
) -> None:
    first = trial(defense=name, params=SMALL[name])
    last = replace(first, params=first.params | none)
    assert first.trunk(stages) == last.trunk(stages)
    shared = SharedTrunk(tmp_path, stages)
    run(first, splits, trunk=shared)
    found = run(last, splits, trunk=shared)
    assert found[-1].measurement.test_acc is not None
    assert numbers(found) == numbers(run(last, splits))
    assert numbers(run(first, splits, trunk=shared)) == numbers(run(first, splits)), "and keeps it for the others"


def test_a_control_that_is_tried_again_does_not_begin_at_what_it_kept(splits: Splits, tmp_path: Path) -> None:
    control = trial(defense="bcu", params=BCU).control(scenario(), 0, NONE)
    shared = SharedTrunk(tmp_path, 1)
    whole, again = run(control, splits, trunk=shared), run(control, splits, trunk=shared)
    assert numbers(again) == numbers(whole)
    assert again[-1].measurement.test_acc is not None


def test_a_trunk_is_later_than_a_state_within_it(splits: Splits, tmp_path: Path) -> None:
    first, second = pair("vab", 2)
    shared, store = SharedTrunk(tmp_path / "trunks", 2), StateStore(tmp_path / "states", every_s=0)
    begun = run_trial(second, splits, store)
    next(begun)
    begun.close()
    run(first, splits, trunk=shared)
    assert run(second, splits, store, trunk=shared)[-1].measurement.seconds_shared > 0


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    save_state(path, load_state(path) | {"trunk": "another"})


def without_a_network(path: Path) -> None:
    state = load_state(path)
    state["defense"]["modules"]["victim"] = {}
    save_state(path, state)


def without_figures(path: Path) -> None:
    save_state(path, {key: value for key, value in load_state(path).items() if key != "measured"})


def no_state(path: Path) -> None:
    path.unlink()
    path.mkdir()
    path.rmdir()
    path.write_text("{}", encoding="utf-8")


@pytest.mark.parametrize("spoil", [damaged, empty, foreign, without_a_network, without_figures, no_state])
def test_a_trunk_that_cannot_be_used_is_trained_again(
    splits: Splits, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    first, second = pair("vab", 2)
    shared = SharedTrunk(tmp_path, 2)
    run(first, splits, trunk=shared)
    (path,) = tmp_path.iterdir()
    spoil(path)
    again = run(second, splits, trunk=shared)
    assert numbers(again) == numbers(run(second, splits))
    assert again[-1].measurement.seconds_shared == 0
    assert run(first, splits, trunk=shared)[-1].measurement.seconds_shared > 0, "and it is whole again"


@pytest.fixture(params=["while it is written", "before it"])
def full_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if request.param == "before it":
        usage = shutil.disk_usage("/")
        monkeypatch.setattr(trunks_module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    else:
        monkeypatch.setattr(trunks_module, "write_state", fail)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_costs_the_trunk_alone(splits: Splits, tmp_path: Path) -> None:
    first, second = pair("vab", 2)
    for config in (first, second):
        results = run(config, splits, trunk=SharedTrunk(tmp_path, 2))
        ((epoch, why),) = kept(results)
        assert epoch == 4
        assert why in ("No space left on device", "less than 3 times its size is free on the disk")
        assert numbers(results) == numbers(run(config, splits))
        assert list(tmp_path.iterdir()) == []


def test_a_training_that_nobody_waits_for_any_more_keeps_no_trunk(splits: Splits, tmp_path: Path) -> None:
    """The driver removes the states of a training that is not needed while its worker still computes."""
    first, _ = pair("vab", 2)
    store = StateStore(tmp_path / "states", attempt=1)
    with pytest.raises(Exception, match="cut off"):
        run(first, splits, store, trunk=SharedTrunk(tmp_path / "trunks", 2))
    assert not (tmp_path / "trunks").exists()


def test_what_a_trunk_depends_on() -> None:
    one = trial(defense="vab", params=VAB)
    assert one.trunk(2) != replace(one, sweep_seed=1).trunk(2)
    assert one.trunk(2) != replace(one, repeats=(1,)).trunk(2)
    assert one.trunk(2) != replace(one, scenarios=(scenario(poison_rate=0.3),)).trunk(2)
    assert one.trunk(2) != replace(one, data_fingerprint="g").trunk(2)
    assert one.trunk(2) != replace(one, params=one.params | {"lr": 0.3}).trunk(2)
    assert one.trunk(1) == replace(one, params=one.params | {"lr": 0.3}).trunk(1)
    assert one.trunk(1) != one.trunk(2)
