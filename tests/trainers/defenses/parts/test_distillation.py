"""Distillation and re-initialisation, against BCU's published constants."""

import numpy as np
import pytest
import torch

from trainers.defenses.parts.distillation import distillation_loss, layer_ratios, reinitialise, temperature_at
from trainers.models import ModelConfig, build_model
from trainers.seeding import seeded

ROLES = ["stem", "stage1", "stage2", "stage3", "stage4", "head"]


def test_the_temperature_rises_to_four() -> None:
    assert [temperature_at(epoch, 100, 4.0) for epoch in (0, 49, 99)] == pytest.approx([1.03, 2.5, 4.0])
    assert temperature_at(0, 1, 4.0) == 4.0


def test_the_loss_is_the_divergence_of_the_student_from_the_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 5, 4, generator=generator).unbind()
    softened = [np.exp(logits.double().numpy() / 2.5) for logits in (teacher, student)]
    p, q = (values / values.sum(1, keepdims=True) for values in softened)
    expected = (p * np.log(p / q)).sum(1).mean()
    assert distillation_loss(student, teacher, 2.5).item() == pytest.approx(expected, rel=1e-5)
    assert distillation_loss(teacher, teacher, 2.5).item() == pytest.approx(0, abs=1e-6)


def test_ratios_are_the_authors_for_four_stages() -> None:
    found = layer_ratios(ROLES, 0.01, 3.0, 0.10, 1.0)
    assert found == pytest.approx(
        {"stem": 0.01, "stage1": 0.01, "stage2": 0.03, "stage3": 0.09, "stage4": 0.27, "head": 0.10}
    )
    assert layer_ratios(ROLES, 0.01, 3.0, 0.10, 5.0)["stage4"] == 1.0, "a probability"
    assert layer_ratios(["stem", "stage1", "stage2", "head"], 0.01, 3.0, 0.1, 2.0)["stage2"] == pytest.approx(0.06)


@pytest.mark.parametrize("model", ["tiny", "preact_resnet18"])
def test_masks_follow_the_ratios_and_spare_batch_norm(model: str) -> None:
    networks = [build_model(ModelConfig(model, width=16), (3, 32, 32), 10, seed) for seed in (0, 0, 1)]
    changed, before, fresh = networks
    for network, value in ((changed, 0.7), (before, 0.7), (fresh, 0.2)):
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.constant_(module.weight, value)
    roles = list(changed.parts())
    ratios = layer_ratios(roles, 0.05, 2.0, 0.5, 1.0)
    reinitialise(changed, fresh, ratios, seeded(3))
    for role in roles:
        replaced, total = 0, 0
        for (name, now), was, new in zip(
            changed.parts()[role].named_parameters(),
            before.parts()[role].parameters(),
            fresh.parts()[role].parameters(),
            strict=True,
        ):
            if now.ndim == 1 and not (role == "head" and name == "bias"):
                assert now.equal(was), "batch-norm is left alone"
                continue
            assert torch.logical_or(now == was, now == new).all()
            replaced, total = replaced + int((now != was).sum()), total + now.numel()
        share, spread = ratios[role], (ratios[role] * (1 - ratios[role]) / total) ** 0.5
        assert abs(replaced / total - share) < 5 * spread + 1e-9, role


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_nothing_and_everything(ratio: float) -> None:
    network, before, fresh = (build_model(ModelConfig(width=4), (1, 32, 32), 3, seed) for seed in (0, 0, 1))
    reinitialise(network, fresh, dict.fromkeys(network.parts(), ratio), seeded(0))
    expected = fresh if ratio else before
    assert network.head.weight.equal(expected.head.weight)
    assert network.head.bias.equal(expected.head.bias)
    assert network.stages[0][0].conv1.weight.equal(expected.stages[0][0].conv1.weight)  # type: ignore[index]
