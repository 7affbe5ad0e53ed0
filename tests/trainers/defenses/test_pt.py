"""PT's frozen parts, scores and clean model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainers.defenses.small_defenses import small, task
from trainers.data import ImageSet
from trainers.optim import frozen_parts

Noise = Callable[..., ImageSet]


def values(defense: Any) -> dict[str, list[Tensor]]:
    parts = defense.isolator.parts()
    return {role: [parameter.detach().clone() for parameter in part.parameters()] for role, part in parts.items()}


@pytest.mark.parametrize("frozen", ["none", "early", "body", "head"])
def test_frozen_parts_stay_as_they_were_initialised(noise: Noise, frozen: str) -> None:
    defense: Any = small("pt", task(noise(40)), frozen=frozen)
    before = values(defense)
    for stage, _ in defense.epochs():
        if stage.name == "clean":
            break
    after, still = values(defense), set(frozen_parts("frozen", frozen, defense.isolator))
    for role in before:
        same = [one.equal(two) for one, two in zip(before[role], after[role], strict=True)]
        assert all(same) if role in still else not any(same), role


@pytest.mark.parametrize("score", ["loss", "entropy"])
def test_scores_are_averaged_over_the_last_partial_epochs(noise: Noise, score: str) -> None:
    defense: Any = small("pt", task(noise(40)), score=score, partial_epochs=4, score_epochs=2)
    known = []
    for stage, report in defense.epochs():
        if stage.name != "partial":
            break
        logits = defense.logits_of(defense.isolator, defense.images).double()
        log_p = logits.log_softmax(1)
        loss = -log_p.gather(1, defense.labels[:, None]).squeeze(1)
        known.append(loss if score == "loss" else -(log_p.exp() * log_p).mean(1))
        assert report.model is None, "the isolator is nothing to deploy"
    mean = (known[2] + known[3]) / 2
    assert defense.tensors["scores"].double().allclose(mean, rtol=1e-4, atol=1e-5)
    assert set(defense.isolated().tolist()) == set(mean.argsort()[:4].tolist())


@pytest.mark.parametrize("start", ["fresh", "partial"])
def test_where_the_clean_model_starts_from(noise: Noise, start: str) -> None:
    defense: Any = small("pt", task(noise(40)), clean_start=start, lr=1e-12, clean_epochs=1, finetune_epochs=0)
    fresh = defense.network.head.weight.detach().clone()
    for _ in defense.epochs():
        pass
    expected = fresh if start == "fresh" else defense.isolator.head.weight
    assert torch.allclose(defense.network.head.weight, expected, atol=1e-6)
    assert not torch.allclose(fresh, defense.isolator.head.weight, atol=1e-3)


def test_the_clean_model_sees_the_rest(noise: Noise) -> None:
    defense: Any = small("pt", task(noise(40)), isolation_rate=0.25)
    seen = [(stage.name, report.images_seen) for stage, report in defense.epochs()]
    assert seen[:5] == [("partial", 40)] * 3 + [("clean", 30)] * 2
    assert seen[5:] == [("finetuning", 30 + 10)] * 2
