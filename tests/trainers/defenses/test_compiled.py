"""Compiled networks compute what the others do; whole batches have code of their own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.trainers.defenses import small_defenses, vab_small
from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.defenses import DEFENSES
from trainers.defenses.base import Defense

Noise = Callable[..., ImageSet]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each compiled function is for any size, in order. Nothing is generated, which takes minutes."""
    made: list[bool] = []
    compile_ = torch.compile

    def captured(function: Any, *, dynamic: bool | None = None, mode: str | None = None) -> Any:
        made.append(dynamic is not False)
        assert mode is None
        return compile_(function, dynamic=dynamic, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", captured)
    return made


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("vab", vab_small.SMALL | {"mix_epochs": 1, "suppression_epochs": 1}),
        ("none", {"epochs": 2, "mixup": 0.2, "cutmix": 1.0}),
    ],
)
def test_a_compiled_training_has_the_same_numbers(
    noise: Noise, compiled: list[bool], name: str, params: dict[str, Any]
) -> None:
    kind, weights = DEFENSES[name], []
    for compile_ in (False, True):
        compute = Compute(torch.device("cpu"), compile=compile_)
        how = kind.Params(**(params | {"batch_size": 16, "lr": 0.01}))
        defense = kind(how, replace(small_defenses.task(noise(40)), compute=compute))
        for _ in defense.epochs():
            pass
        weights.append(small_defenses.weights(defense))
        torch.compiler.reset()
    networks = len(defense.modules)
    assert (compiled.count(True), compiled.count(False)) == (networks, networks)
    assert weights[1].allclose(weights[0], rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("name", ["none", "vab", "bcu"])
def test_graphs_on_a_card_have_the_same_numbers(noise: Noise, name: str) -> None:
    small = {"none": {"epochs": 2}, "vab": vab_small.SMALL, **small_defenses.SMALL}[name]
    losses = []
    for how in ({}, {"compile": True, "cuda_graphs": True}):
        compute = Compute(torch.device("cuda"), fused=True, **how)
        kind = DEFENSES[name]
        told = replace(small_defenses.task(noise(40)), compute=compute)
        defense = kind(kind.Params(**(small | {"batch_size": 16, "lr": 0.01})), told)
        losses.append([report.loss for _, report in defense.epochs()])
        torch.compiler.reset()
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_without_it_nothing_is_compiled(noise: Noise, compiled: list[bool]) -> None:
    defense: Defense = DEFENSES["none"](DEFENSES["none"].Params(epochs=1), small_defenses.task(noise(20)))
    for _ in defense.epochs():
        pass
    assert not compiled
