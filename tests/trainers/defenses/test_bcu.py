"""BCU: the training that it shares with the control, and the distillation."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.defenses.small_defenses import COMMON, SMALL, small, task, trace, weights
from trainers.data import ImageSet
from trainers.defenses.bcu import Bcu, BcuParams
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
    found = [(report.loss, report.model is not None) for stage, report in defense.epochs() if stage.name == "training"]
    assert found == [(loss, True) for loss in losses]
    assert same(defense.training.network, control.network)
    assert not same(defense.student, control.network)


def test_a_control_is_the_trunk(noise: Noise) -> None:
    told = task(noise(40))
    alone, grown = small("bcu", told), small("bcu", told)
    control = NoDefense(alone.params.training, told)
    assert Bcu.trunk(alone.params, 1) == NoDefense.trunk(control.params, 1)
    expected = [line for line in trace(alone) if line[0] == "distillation"]
    trace(control)
    grown.begin(control.state())
    assert trace(grown) == expected
    assert weights(alone).equal(weights(grown))


def test_another_undefended_training_is_another_trunk() -> None:
    own, other = BcuParams(training_epochs=3), BcuParams(training_epochs=3, lr=0.01)
    assert Bcu.trunk(own, 1) != Bcu.trunk(other, 1)
    assert Bcu.trunk(own, 1) == Bcu.trunk(BcuParams(training_epochs=3, head_ratio=0.2), 1)
    assert Bcu.trunk(own, 2) != Bcu.trunk(BcuParams(training_epochs=3, head_ratio=0.2), 2)


def test_the_student_starts_as_a_partly_renewed_teacher(noise: Noise) -> None:
    renewed: dict[float, float] = {}
    for scale in (0.0, 1.0, 10.0):
        defense: Any = small("bcu", task(noise(40)), ratio_scale=scale, distillation_lr=1e-12, distillation_epochs=1)
        after(defense, "distillation")
        pairs = zip(defense.training.network.parameters(), defense.student.parameters(), strict=True)
        changed = torch.cat([~torch.isclose(a, b, atol=1e-7).flatten() for a, b in pairs])
        renewed[scale] = float(changed.double().mean())
    assert renewed[0.0] == 0
    assert 0.01 < renewed[1.0] < 0.12
    assert 0.3 < renewed[10.0] < 0.95


def test_what_is_renewed_starts_like_a_new_network(noise: Noise) -> None:
    told = replace(task(noise(40)), model=ModelConfig("tiny"))
    defense: Any = small("bcu", told, ratio_scale=100.0, distillation_lr=1e-12, distillation_epochs=1)
    for module in defense.training.network.modules():
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
        student, teacher = (defense.logits_of(n, told.unlabelled) for n in (defense.student, defense.training.network))
        return float(distillation_loss(student, teacher, 1.0))

    assert distance(30) < 0.5 * distance(1)


def test_the_teacher_stays_as_it_is_and_labels_are_not_used(noise: Noise) -> None:
    heads = []
    for shuffled in (False, True):
        defense: Any = small("bcu", task(noise(40)))
        after(defense, "training")
        before = {name: tensor.clone() for name, tensor in defense.training.network.state_dict().items()}
        if shuffled:
            defense.labels = defense.labels.flip(0)
        after(defense, "distillation")
        assert all(tensor.equal(before[name]) for name, tensor in defense.training.network.state_dict().items())
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
