"""ABL's losses and stages."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.trainers.defenses.small_defenses import small, task
from trainers.data import ImageSet
from trainers.defenses.abl import Abl, AblParams, local_ascent
from trainers.errors import ConfigError
from trainers.models import ModelConfig

Noise = Callable[..., ImageSet]
LOSSES = torch.tensor([0.2, 0.9, 0.5, 2.0])


@pytest.mark.parametrize(
    ("how", "value", "slopes"),
    [
        ("sample", (-0.2 + 0.9 + 0.0 + 2.0) / 4, [-0.25, 0.25, 0.0, 0.25]),
        ("batch", 0.9, [0.25] * 4),
        ("flooding", (0.9 - 0.5) + 0.5, [0.25] * 4),
    ],
)
def test_the_sign_loss(how: str, value: float, slopes: list[float]) -> None:
    losses = LOSSES.clone().requires_grad_()
    found = local_ascent(losses, 0.5, how)
    assert found.item() == pytest.approx(value)
    (gradient,) = torch.autograd.grad(found, losses)
    assert gradient.tolist() == pytest.approx(slopes)


@pytest.mark.parametrize(("how", "value"), [("batch", -0.9), ("flooding", (1.5 - 0.9) + 1.5)])
def test_below_the_floor_a_batch_ascends(how: str, value: float) -> None:
    losses = LOSSES.clone().requires_grad_()
    found = local_ascent(losses, 1.5, how)
    assert found.item() == pytest.approx(value)
    (gradient,) = torch.autograd.grad(found, losses)
    assert (gradient < 0).all()


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


def test_finetuning_sees_the_rest_and_unlearning_both(noise: Noise) -> None:
    defense: Any = small("abl", task(noise(40)), isolation_rate=0.1, batch_size=16)
    seen = {stage.name: report.images_seen for stage, report in defense.epochs()}
    # 36 kept samples make three batches, each beside one of the four isolated ones.
    assert seen == {"isolation": 40, "finetuning": 36, "unlearning": 36 + 3}


def test_unlearning_forgets_what_was_isolated_but_not_without_end(noise: Noise) -> None:
    settings: dict[str, Any] = {
        "isolation_epochs": 15, "finetune_epochs": 0, "unlearning_epochs": 40, "unlearning_lr": 0.02, "batch_size": 8,
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


def test_the_learning_rates_of_the_stages(noise: Noise) -> None:
    defense: Any = small("abl", task(noise(40)), schedule="cosine", unlearning_lr=0.007)
    rates = {(stage.name): defense.optimizer.param_groups[0]["lr"] for stage, _ in defense.epochs()}
    assert rates == pytest.approx({"isolation": 0.025, "finetuning": 0.025, "unlearning": 0.007})


def test_an_isolation_rate_of_no_sample_is_known_before_training(noise: Noise) -> None:
    with pytest.raises(ConfigError, match="isolates 0 of 40 samples"):
        Abl.check(AblParams(isolation_rate=0.01), noise(40), ModelConfig())
