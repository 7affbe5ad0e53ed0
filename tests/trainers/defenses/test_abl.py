"""ABL's losses and stages."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.defenses.small_defenses import small, task, trace
from trainers.data import ImageSet
from trainers.data.augmentation import Augmentation
from trainers.defenses.abl import Abl, AblParams, local_ascent
from trainers.errors import ConfigError
from trainers.models import ModelConfig

Noise = Callable[..., ImageSet]
LOSSES = np.array([0.2, 0.9, 0.5, 2.0])
MEAN = LOSSES.mean()


@pytest.mark.parametrize("floor", [0.5, 1.5])  # the mean, 0.9, is above the one and below the other
@pytest.mark.parametrize("how", ["flooding", "batch", "sample"])
def test_the_losses_of_isolation(how: str, floor: float) -> None:
    value, slopes = {
        "flooding": (abs(MEAN - floor) + floor, np.full(4, np.sign(MEAN - floor) / 4)),
        "batch": (np.sign(MEAN - floor) * MEAN, np.full(4, np.sign(MEAN - floor) / 4)),
        "sample": ((np.sign(LOSSES - floor) * LOSSES).mean(), np.sign(LOSSES - floor) / 4),
    }[how]
    losses = torch.tensor(LOSSES, requires_grad=True)
    found = local_ascent(losses, floor, how)
    assert found.item() == pytest.approx(value)
    (gradient,) = torch.autograd.grad(found, losses)
    assert np.allclose(gradient.numpy(), slopes)


def test_the_defaults_are_those_of_the_authors_code() -> None:
    p = AblParams()
    assert (p.ascent, p.loss_floor, p.isolation_epochs, p.isolation_rate) == ("flooding", 0.5, 10, 0.01)
    assert (p.lr, p.momentum, p.weight_decay, p.batch_size) == (0.1, 0.9, 1e-4, 128)
    assert [p.lr_at(epoch, p.finetune_epochs) for epoch in (0, 39, 40, 59)] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert (p.finetune_epochs, p.unlearning_epochs, p.unlearning_lr, p.unlearning_rest) == (60, 5, 5e-4, False)
    assert p.new_optimizer(torch.nn.Linear(1, 1), p.lr).param_groups[0]["nesterov"]
    AblParams(momentum=0).new_optimizer(torch.nn.Linear(1, 1), 0.1)  # which torch refuses with Nesterov's


def run(defense: Any, stage: str) -> Any:
    """Train to the end of a stage."""
    for current, report in defense.epochs():
        if current.name == stage and defense.stage_ended:
            return report
    raise AssertionError(f"there is no stage {stage}")


def test_the_samples_of_lowest_loss_are_isolated(noise: Noise) -> None:
    defense: Any = small("abl", task(noise(40)), isolation_rate=0.1)
    report = run(defense, "isolation")
    losses = torch.nn.functional.cross_entropy(
        defense.logits_of(defense.network, defense.images), defense.labels, reduction="none"
    )
    assert set((~report.credible).nonzero().squeeze(1).tolist()) == set(losses.argsort()[:4].tolist())
    expected = 1 - (losses - losses.min()) / (losses.max() - losses.min())
    assert report.suspicion.allclose(expected)


@pytest.mark.parametrize(("rest", "images"), [(False, 4), (True, 36 + 3)])
def test_finetuning_sees_the_rest_and_unlearning_what_was_isolated(noise: Noise, rest: bool, images: int) -> None:
    defense: Any = small("abl", task(noise(40)), isolation_rate=0.1, batch_size=16, unlearning_rest=rest)
    seen = {stage.name: report.images_seen for stage, report in defense.epochs()}
    # 36 kept samples make three batches, beside each of which goes one of the four isolated ones.
    assert seen == {"isolation": 40, "finetuning": 36, "unlearning": images}


@pytest.mark.parametrize("rest", [False, True])
def test_images_are_augmented_and_cut_in_finetuning_alone(noise: Noise, rest: bool) -> None:
    told = task(noise(40))
    plain = replace(told, augmentation=Augmentation(crop=0, flip=False))
    without = {"finetune_epochs": 0, "unlearning_rest": rest, "cutout": 4}
    assert trace(small("abl", told, **without)) == trace(small("abl", plain, **without))
    traces = [
        trace(small("abl", known, unlearning_epochs=0, cutout=cutout))
        for known, cutout in ((told, 0), (plain, 0), (plain, 4))
    ]
    assert traces[0][:2] == traces[1][:2] == traces[2][:2], "of isolation"
    assert len({line[2][1] for line in traces}) == 3, "losses of fine-tuning"


def test_a_step_of_unlearning_goes_up_the_gradient_on_what_was_isolated(noise: Noise) -> None:
    settings: dict[str, Any] = {"momentum": 0.0, "weight_decay": 0.0, "finetune_epochs": 0, "unlearning_epochs": 1}
    defense: Any = small("abl", task(noise(40)), unlearning_lr=0.01, unlearning_weight=0.5, **settings)
    run(defense, "isolation")
    before = copy.deepcopy(defense.network).train()
    pixels = noise(40).images.numpy() / 255
    mean, deviation = pixels.mean((0, 2, 3), keepdims=True), pixels.std((0, 2, 3), keepdims=True)
    chosen = defense.isolated()
    images = torch.tensor(((pixels - mean) / deviation)[chosen.numpy()], dtype=torch.float32)
    loss = torch.nn.functional.cross_entropy(before(images).logits, defense.labels[chosen])
    loss.backward()
    run(defense, "unlearning")
    for now, was in zip(defense.network.parameters(), before.parameters(), strict=True):
        assert was.grad is not None
        assert now.allclose(was + 0.01 * 0.5 * was.grad, atol=1e-6)


@pytest.mark.parametrize("rest", [False, True])
def test_unlearning_forgets_what_was_isolated_but_not_without_end(noise: Noise, rest: bool) -> None:
    settings: dict[str, Any] = {
        "isolation_epochs": 15, "finetune_epochs": 0, "unlearning_epochs": 40, "unlearning_lr": 0.02, "batch_size": 8,
        "unlearning_rest": rest,
    }  # fmt: skip
    known = task(noise(40))

    def mean_loss(defense: Any) -> float:
        return float(defense.losses(defense.network)[defense.isolated()].mean())

    defense: Any = small("abl", known, unlearning_ceiling=3.0, **settings)
    run(defense, "isolation")
    before = mean_loss(defense)
    run(defense, "unlearning")
    after = mean_loss(defense)
    assert before + 0.5 < after < 20

    still: Any = small("abl", known, unlearning_weight=0.0, **settings)
    run(still, "unlearning")
    assert mean_loss(still) < after, "without ascent it is not forgotten"


def test_the_learning_rate_stays_in_isolation_and_falls_in_finetuning(noise: Noise) -> None:
    defense: Any = small("abl", task(noise(40)), lr=0.08, isolation_epochs=4, finetune_epochs=3, unlearning_lr=0.007)
    rates: dict[str, list[float]] = {"isolation": [], "finetuning": [], "unlearning": []}
    for stage, _ in defense.epochs():
        rates[stage.name].append(defense.descent.optimizer.param_groups[0]["lr"])
    assert rates["isolation"] == [0.08] * 4
    assert rates["finetuning"] == pytest.approx([0.08, 0.08, 0.008])
    assert rates["unlearning"] == [0.007] * 2


def test_an_isolation_rate_of_no_sample_is_known_before_training(noise: Noise) -> None:
    with pytest.raises(ConfigError, match="isolates 0 of 40 samples"):
        Abl.check(AblParams(isolation_rate=0.01), noise(40), ModelConfig())
