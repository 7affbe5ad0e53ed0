"""BCU: the training that it shares with the control, and the distillation."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.defenses.small_defenses import COMMON, SMALL, small, task, trace
from trainers.data import ImageSet
from trainers.defenses.base import Undefended
from trainers.defenses.bcu import BcuParams
from trainers.defenses.none import NoDefense
from trainers.defenses.parts.distillation import distillation_loss
from trainers.errors import ConfigError
from trainers.models import ModelConfig

Noise = Callable[..., ImageSet]


def after(defense: Any, stage: str) -> None:
    """Train to the end of a stage."""
    for current, _ in defense.epochs():
        if current.name == stage and defense.stage_ended:
            return


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    return all(a.equal(b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_the_first_stage_is_the_undefended_training(noise: Noise) -> None:
    told = task(noise(40))
    defense: Any = small("bcu", told)
    control = NoDefense(defense.params.training, told)
    losses = [report.loss for _, report in control.epochs()]
    found = []
    for stage, report in defense.epochs():
        if stage.name == "training":
            found.append((report.loss, report.model is not None))
    assert found == [(losses[0], False), (losses[1], True)]
    assert same(defense.teacher, control.network)
    assert not same(defense.student, control.network)


def test_what_the_control_left_stands_for_it(noise: Noise) -> None:
    told = task(noise(40))
    alone: Any = small("bcu", told)
    control = NoDefense(alone.params.training, told)
    losses = [report.loss for _, report in control.epochs()]
    assert None not in losses
    left = Undefended(control.network.state_dict(), [float(loss or 0) for loss in losses], [3.0, 4.0])
    sharing: Any = small("bcu", replace(told, undefended=left))
    seconds = []
    for stage, report in sharing.epochs():
        if stage.name == "training":
            seconds.append(report.seconds)
    assert seconds == [3.0, 4.0]
    assert trace(alone) == trace(small("bcu", replace(told, undefended=left)))
    assert same(alone.student, sharing.student)


@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_control_that_is_gone_in_the_middle_is_made_good(noise: Noise, before: int) -> None:
    told = task(noise(40))
    params = {"training_epochs": 3}
    alone: Any = small("bcu", told, **params)
    control = NoDefense(alone.params.training, told)
    losses = [float(report.loss or 0) for _, report in control.epochs()]
    left = Undefended(control.network.state_dict(), losses, [3.0] * 3)
    sharing: Any = small("bcu", replace(told, undefended=left), **params)
    for _ in zip(range(before), sharing.epochs(), strict=False):
        pass
    again: Any = small("bcu", told, **params)
    again.load(sharing.state())
    later = [report.loss for _, report in again.epochs()]
    assert [report.loss for _, report in alone.epochs()][before:] == later
    assert same(alone.teacher, again.teacher)
    assert same(alone.student, again.student)


def test_the_student_starts_as_a_partly_renewed_teacher(noise: Noise) -> None:
    renewed: dict[float, float] = {}
    for scale in (0.0, 1.0, 10.0):
        defense: Any = small("bcu", task(noise(40)), ratio_scale=scale, distillation_lr=1e-12, distillation_epochs=1)
        after(defense, "distillation")
        pairs = zip(defense.teacher.parameters(), defense.student.parameters(), strict=True)
        changed = torch.cat([~torch.isclose(a, b, atol=1e-7).flatten() for a, b in pairs])
        renewed[scale] = float(changed.double().mean())
    assert renewed[0.0] == 0
    assert 0.01 < renewed[1.0] < 0.12
    assert 0.3 < renewed[10.0] < 0.95


def test_what_is_renewed_starts_like_a_new_network(noise: Noise) -> None:
    told = replace(task(noise(40)), model=ModelConfig("tiny"))
    defense: Any = small("bcu", told, ratio_scale=100.0, distillation_lr=1e-12, distillation_epochs=1)
    for module in defense.teacher.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.zeros_(module.weight)
    defense._renew()
    for module in defense.student.modules():
        if isinstance(module, torch.nn.Conv2d):
            count = module.weight.numel()
            expected = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * count))


def test_the_student_comes_closer_to_the_teacher_on_unlabelled_images(noise: Noise) -> None:
    told = task(noise(64))
    assert told.unlabelled is not None

    def distance(epochs: int) -> float:
        defense: Any = small("bcu", told, training_epochs=4, distillation_epochs=epochs, distillation_lr=0.05,
                             ratio_scale=20.0)  # fmt: skip
        after(defense, "distillation")
        student, teacher = (defense.logits_of(n, told.unlabelled) for n in (defense.student, defense.teacher))
        return float(distillation_loss(student, teacher, 1.0))

    assert distance(30) < 0.5 * distance(1)


def test_the_teacher_stays_as_it_is_and_labels_are_not_used(noise: Noise) -> None:
    heads = []
    for shuffled in (False, True):
        defense: Any = small("bcu", task(noise(40)))
        after(defense, "training")
        before = {name: tensor.clone() for name, tensor in defense.teacher.state_dict().items()}
        if shuffled:
            defense.labels = defense.labels.flip(0)
        after(defense, "distillation")
        assert all(tensor.equal(before[name]) for name, tensor in defense.teacher.state_dict().items())
        heads.append(defense.student.head.weight.detach().clone())
    assert heads[0].equal(heads[1])


@pytest.mark.parametrize(("count", "seen"), [(None, 40), (10, 10)])
def test_so_many_unlabelled_images_are_seen(noise: Noise, count: int | None, seen: int) -> None:
    defense = small("bcu", task(noise(40)), unlabelled_count=count)
    assert [report.images_seen for stage, report in defense.epochs() if stage.name == "distillation"] == [seen] * 3


def test_a_control_of_the_same_parameters_is_the_one_that_is_asked_for() -> None:
    params = BcuParams(**(COMMON | SMALL["bcu"]))
    kind = NoDefense.Params
    assert kind(**{"epochs": 2, **COMMON}) == params.training


def test_without_unlabelled_images_there_is_no_bcu(noise: Noise) -> None:
    with pytest.raises(ConfigError, match="bcu needs unlabelled images"):
        small("bcu", replace(task(noise(40)), unlabelled=None))


def test_some_of_the_images_are_not_the_first_ones(noise: Noise) -> None:
    """Folders are read class by class."""
    told = task(noise(40))
    defense: Any = small("bcu", told, unlabelled_count=10)
    assert told.unlabelled is not None
    where = [int((told.unlabelled == image).flatten(1).all(1).nonzero()[0]) for image in defense.unlabelled_images]
    assert len(set(where)) == 10
    assert max(where) > 19, "ten draws of forty from the first half only: one in a thousand"


def test_a_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert BcuParams(unlabelled="folder:images").unlabelled == f"folder:{tmp_path / 'images'}"
    assert BcuParams(unlabelled="clean").unlabelled == "clean"
