"""A step with more images than fit into one pass has the loss of the whole, and no pass is larger."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.defenses import small_defenses, vab_small
from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.defenses import DEFENSES
from trainers.defenses.base import Defense

Noise = Callable[..., ImageSet]

CASES: list[tuple[str, dict[str, Any]]] = [
    ("vab", vab_small.SMALL | {"mix_epochs": 0, "suppression_epochs": 2, "early_weight": 0.7}),
    ("vab", vab_small.SMALL | {"mix_epochs": 0, "suppression_epochs": 1, "threshold": 0.95}),  # a few are credible
    ("dlp", small_defenses.SMALL["dlp"] | {"isolation_rate": 0.6}),
    ("dlp", small_defenses.SMALL["dlp"] | {"isolation_rate": 0.98}),  # one sample is kept
    ("abl", small_defenses.SMALL["abl"] | {"isolation_rate": 0.6, "unlearning_rest": True}),
    ("pt", small_defenses.SMALL["pt"] | {"isolation_rate": 0.6}),
]


def trained(name: str, params: dict[str, Any], data: ImageSet, pass_images: int | None) -> Defense:
    kind = DEFENSES[name]
    compute = Compute(torch.device("cpu"), pass_images=pass_images)
    defense = kind(
        kind.Params(**(params | {"batch_size": 8, "lr": 0.01})), replace(small_defenses.task(data), compute=compute)
    )
    for _ in defense.epochs():
        pass
    return defense


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images of every pass with a gradient, through networks without batch statistics."""
    sizes: list[int] = []
    run = Defense.run_network

    def counted(self: Defense, network: nn.Module, images: Tensor) -> Any:
        sizes.append(len(images) if torch.is_grad_enabled() else 0)
        return run(self, network, images)

    def fixed(self: nn.BatchNorm2d, maps: Tensor) -> Tensor:
        return maps * self.weight[:, None, None] + self.bias[:, None, None]

    monkeypatch.setattr(Defense, "run_network", counted)
    monkeypatch.setattr(nn.BatchNorm2d, "forward", fixed)
    return sizes


@pytest.mark.parametrize(("name", "params"), CASES)
def test_passes_add_up_to_the_step(noise: Noise, passes: list[int], name: str, params: dict[str, Any]) -> None:
    data, most = noise(60), 16
    whole = trained(name, params, data, None)
    largest, steps = max(passes), len(passes)
    passes.clear()
    divided = trained(name, params, data, most)
    assert largest > most >= max(passes)
    assert len(passes) > steps
    for role, module in whole.modules.items():
        for key, value in module.state_dict().items():
            assert divided.modules[role].state_dict()[key].allclose(value, rtol=1e-3, atol=1e-5), (role, key)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_a_pass_that_holds_all_changes_no_bit(noise: Noise, name: str, params: dict[str, Any]) -> None:
    whole, roomy = (trained(name, params, noise(60), most) for most in (None, 1000))
    assert small_defenses.weights(whole).equal(small_defenses.weights(roomy))
