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

    def captured(function: Any, *, dynamic: bool, mode: str | None = None) -> Any:
        made.append(dynamic)
        assert mode is None
        return compile_(function, dynamic=dynamic, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", captured)
    return made


@pytest.mark.parametrize("name", ["none", "vab"])
def test_a_compiled_training_has_the_same_numbers(noise: Noise, compiled: list[bool], name: str) -> None:
    params = {"epochs": 2} if name == "none" else vab_small.SMALL | {"mix_epochs": 1, "suppression_epochs": 1}
    kind, weights = DEFENSES[name], []
    for compile_ in (False, True):
        compute = Compute(torch.device("cpu"), compile=compile_)
        defense = kind(
            kind.Params(**(params | {"batch_size": 16, "lr": 0.01})),
            replace(small_defenses.task(noise(40)), compute=compute),
        )
        for _ in defense.epochs():
            pass
        weights.append(small_defenses.weights(defense))
        torch.compiler.reset()
    networks = len(defense.modules)
    assert (compiled.count(True), compiled.count(False)) == (networks, networks)
    assert weights[1].allclose(weights[0], rtol=1e-4, atol=1e-4)
    assert not weights[1].equal(weights[0][:1].expand_as(weights[0]))


def test_without_it_nothing_is_compiled(noise: Noise, compiled: list[bool]) -> None:
    defense: Defense = DEFENSES["none"](DEFENSES["none"].Params(epochs=1), small_defenses.task(noise(20)))
    for _ in defense.epochs():
        pass
    assert not compiled
