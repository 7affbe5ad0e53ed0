import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainers.defenses import small_defenses, vab_small
from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.data.augmentation import Augmentation
from trainers.defenses import DEFENSES
from trainers.defenses.base import Defense, LossMeter, Report, Stage, TrainingTask
from trainers.errors import TrialError
from trainers.models import ModelConfig
from trainers.optim import Descent
from trainers.params import Parameters, param
from trainers.storage.state import load_state, save_state

Noise = Callable[..., ImageSet]
CPU = Compute(torch.device("cpu"))


@dataclass(frozen=True)
class DriftParams(Parameters):
    speed: float = param(1.0)
    first_epochs: int = param(2, ge=0)
    middle_epochs: int = param(0, ge=0)
    last_epochs: int = param(2, ge=0)
    brake: float = param(0.5)


class Drift(Defense):
    """Trains nothing: walks at random, so that positions and generators can be watched."""

    name: ClassVar[str] = "drift"
    Params = DriftParams
    params: DriftParams

    def __init__(self, params: DriftParams, task: TrainingTask):
        super().__init__(params, task)
        self.tensors["place"] = torch.zeros(())
        self.loss = 1.0

    @classmethod
    def stages(cls, params: DriftParams) -> list[Stage]:
        p = params
        return [
            Stage("first", p.first_epochs, ("first_epochs", "speed"), cls._walk),
            Stage("middle", p.middle_epochs, ("middle_epochs",), cls._walk),
            Stage("last", p.last_epochs, ("last_epochs", "brake"), cls._walk),
        ]

    def _walk(self, epoch: int) -> Report:
        self.tensors["place"] = self.tensors["place"] + torch.rand((), generator=self.generator)
        return Report(self.loss, epoch)


@pytest.fixture
def task(noise: Noise) -> TrainingTask:
    return TrainingTask(noise(10), ModelConfig(width=2), Augmentation(), CPU, seed=5)


def walk(defense: Drift) -> list[tuple[str, int, float]]:
    return [(stage.name, report.images_seen, float(defense.tensors["place"])) for stage, report in defense.epochs()]


# What a defense may be told


@pytest.mark.parametrize("kind", DEFENSES.values())
def test_no_defense_can_be_given_the_truth(kind: type[Defense]) -> None:
    assert list(inspect.signature(kind.__init__).parameters) == ["self", "params", "task"]
    told = {"data", "model", "augmentation", "compute", "seed", "unlabelled"}
    assert {f.name for f in dataclasses.fields(TrainingTask)} == told
    known = {"images", "labels", "class_names", "names", "_known"}  # the last: a fingerprint, once it is computed
    assert {f.name for f in dataclasses.fields(ImageSet)} == known
    assert inspect.signature(kind.epochs).parameters.keys() == {"self"}
    assert inspect.signature(kind.stages).parameters.keys() == {"params"}


@pytest.mark.parametrize("name", DEFENSES)
def test_the_list_is_keyed_by_name(name: str) -> None:
    assert DEFENSES[name].name == name


@pytest.mark.parametrize("kind", DEFENSES.values())
def test_the_stages_together_read_every_parameter(kind: type[Defense]) -> None:
    stages = kind.stages(kind.Params())
    assert {key for stage in stages for key in stage.reads} == set(kind.Params.keys())
    assert len({stage.name for stage in stages}) == len(stages)


# Epochs, stages and seeds


def test_stages_follow_each_other_and_empty_ones_are_left_out(task: TrainingTask) -> None:
    assert [(name, epoch) for name, epoch, _ in walk(Drift(DriftParams(), task))] == [
        ("first", 0), ("first", 1), ("last", 0), ("last", 1),
    ]  # fmt: skip
    assert [name for name, _, _ in walk(Drift(DriftParams(first_epochs=0, middle_epochs=1, last_epochs=0), task))] == [
        "middle"
    ]


def test_the_end_of_a_stage(task: TrainingTask) -> None:
    defense = Drift(DriftParams(middle_epochs=1), task)
    assert not defense.stage_ended
    assert [defense.stage_ended for _ in defense.epochs()] == [False, True, True, False, True]


def test_nothing_is_trained_after_the_end(task: TrainingTask) -> None:
    defense = Drift(DriftParams(), task)
    walk(defense)
    assert walk(defense) == []


def test_epochs_may_be_taken_up_again(task: TrainingTask) -> None:
    defense = Drift(DriftParams(), task)
    next(defense.epochs())
    assert [name for name, _, _ in walk(defense)] == ["first", "last", "last"]


def test_equal_prefixes_give_equal_numbers(task: TrainingTask) -> None:
    plain, braked, fast = (
        walk(Drift(DriftParams(**options), task)) for options in ({}, {"brake": 0.9}, {"speed": 2.0})
    )
    assert plain[:2] == braked[:2]
    assert plain[2] != braked[2]
    assert plain[0] != fast[0]
    assert plain == walk(Drift(DriftParams(), task))
    other = dataclasses.replace(task, seed=6)
    assert plain[0] != walk(Drift(DriftParams(), other))[0]


def test_a_parameter_that_is_added_later_enters_no_seed_at_its_default(task: TrainingTask) -> None:
    @dataclass(frozen=True)
    class Later(DriftParams):
        wind: float = param(0.0)

    class LaterDrift(Drift):
        @classmethod
        def stages(cls, params: DriftParams) -> list[Stage]:
            first, *others = super().stages(params)
            return [dataclasses.replace(first, reads=("wind", *first.reads)), *others]

    plain = walk(Drift(DriftParams(), task))
    assert walk(LaterDrift(Later(), task)) == plain == walk(LaterDrift(Later(wind=0), task))
    assert walk(LaterDrift(Later(wind=1.0), task))[0] != plain[0]


def test_every_stage_has_a_seed_of_its_own(task: TrainingTask) -> None:
    defense = Drift(DriftParams(), task)
    assert len({defense.stage_seed(index) for index in range(3)}) == 3


def test_the_steps_of_a_stage_differ(task: TrainingTask) -> None:
    places = [0.0, *(place for _, _, place in walk(Drift(DriftParams(first_epochs=4), task)))]
    assert len(set(np.diff(places).round(6).tolist())) == 6


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_trial(task: TrainingTask, loss: float) -> None:
    defense = Drift(DriftParams(), task)
    epochs = defense.epochs()
    next(epochs)
    defense.loss = loss
    with pytest.raises(TrialError, match=f"The loss is {loss} in epoch 2 of stage first"):
        next(epochs)


# State


@pytest.mark.parametrize("trained", range(5))
def test_a_loaded_state_goes_on_with_the_same_numbers(task: TrainingTask, tmp_path: Path, trained: int) -> None:
    whole = walk(Drift(DriftParams(), task))
    first = Drift(DriftParams(), task)
    for _, _ in zip(range(trained), first.epochs(), strict=False):
        pass
    save_state(tmp_path / "state", first.state())
    second = Drift(DriftParams(), task)
    second.load(load_state(tmp_path / "state"))
    assert walk(second) == whole[trained:]


# The tools


def test_networks_are_part_of_the_state_and_have_seeds_of_their_own(task: TrainingTask) -> None:
    one, again = Drift(DriftParams(), task), Drift(DriftParams(), task)
    networks = [one.new_network("a"), one.new_network("b"), again.new_network("a")]
    a, b, same = (network.head.weight for network in networks)
    assert a.equal(same)
    assert not a.equal(b)
    assert set(one.state()["modules"]) == {"a", "b"}
    assert one.new_network("c", ModelConfig(width=3)).head.in_features == 12


def test_views_are_augmented_and_normalised_by_the_whole_set(task: TrainingTask) -> None:
    defense = Drift(DriftParams(), dataclasses.replace(task, augmentation=Augmentation(crop=0, flip=False)))
    pixels = task.data.images.numpy() / 255
    mean, deviation = pixels.mean((0, 2, 3), keepdims=True), pixels.std((0, 2, 3), keepdims=True)
    view = defense.view(torch.tensor([7, 2]))
    assert np.allclose(view.numpy(), ((pixels - mean) / deviation)[[7, 2]], atol=1e-5)
    moved = Drift(DriftParams(), task)
    assert not moved.view(torch.tensor([7, 2])).equal(moved.view(torch.tensor([7, 2])))


def test_logits_are_those_of_eval_mode_in_order(task: TrainingTask) -> None:
    defense = Drift(DriftParams(), task)
    network = defense.new_network("a")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    logits = defense.logits_of(network, task.data.images, batch_size=3)
    assert logits.shape == (10, 4)
    assert not logits.requires_grad
    assert not network.training
    with torch.no_grad():
        singles = [network(defense.normalise(task.data.images[i : i + 1])).logits for i in range(10)]
    assert logits.allclose(torch.cat(singles), atol=1e-5)
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())
    # Images of others are normalised by the training set too.
    assert defense.logits_of(network, task.data.images[4:6]).allclose(torch.cat(singles[4:6]), atol=1e-5)


def test_a_step_goes_down_the_gradient_and_forgets_the_last_one(task: TrainingTask) -> None:
    kind: Any = DEFENSES["none"]
    defense = kind(kind.Params(epochs=1), task)
    weight = nn.Parameter(torch.tensor(2.0))
    descent = Descent(defense.network, torch.optim.SGD([weight], 0.25), 0.25)
    for _ in range(2):
        defense.step(descent, weight**2)  # w -> w - 0.25 * 2 w
    assert weight.item() == 0.5
    assert defense.step_in_passes(descent, (weight**2 for _ in range(3))).item() == 0.75
    assert weight.item() == -0.25, "the gradients of all passes are added: 0.5 - 0.25 * 3"


@pytest.mark.parametrize("name", ["none", "vab"])
def test_moments_read_from_a_file_are_laid_out_as_their_weights(noise: Noise, tmp_path: Path, name: str) -> None:
    """Fused kernels go through both in the order in which they lie in memory."""
    kind: Any = DEFENSES[name]
    small = vab_small.SMALL | {"mix_epochs": 2} if name == "vab" else {"epochs": 3, "batch_size": 16}
    told = replace(small_defenses.task(noise(40)), compute=Compute(torch.device("cpu"), fused=True))
    whole, again = (kind(kind.Params(**small), told) for _ in range(2))
    epochs = whole.epochs()
    for _ in range(2):
        next(epochs)
    save_state(tmp_path / "state", whole.state())
    expected = [report.loss for _, report in epochs]
    again.load(load_state(tmp_path / "state"))
    for descent in again.descents.values():
        for weight, kept in descent.optimizer.state.items():
            moments = [value for value in kept.values() if value is not None and value.shape == weight.shape]
            assert all(value.stride() == weight.stride() for value in moments)
    assert [report.loss for _, report in again.epochs()] == expected


def test_the_meter_is_the_mean_over_batches() -> None:
    meter = LossMeter(torch.device("cpu"))
    assert (meter.mean(), meter.images) == (None, 0)
    for loss, images in ((1.0, 8), (4.0, 2)):
        meter.add(torch.tensor(loss, requires_grad=True), images)
    assert (meter.mean(), meter.images) == (2.5, 10)


def test_a_state_in_memory_is_one_of_that_moment(task: TrainingTask, noise: Noise) -> None:
    kind: Any = DEFENSES["none"]
    params = kind.Params(epochs=3, batch_size=4)
    whole = kind(params, task)
    expected = [report.loss for _, report in whole.epochs()]
    first, second = kind(params, task), kind(params, task)
    going_on = first.epochs()
    next(going_on)
    second.load(first.state())
    for _ in going_on:  # must not reach into what the other one loaded
        pass
    assert [report.loss for _, report in second.epochs()] == expected[1:]
