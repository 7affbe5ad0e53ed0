"""Compiled against not compiled, without the code generation that takes minutes."""

from typing import Any

import pytest
import torch

from benchmarks import compiled
from benchmarks.compiled import compare
from trainers.data.shapes import make_shapes
from trainers.models import ModelConfig


def test_a_defense_in_both_ways(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    how, compile_ = [], torch.compile

    def captured(function: Any, **options: Any) -> Any:
        how.append(options)
        return compile_(function, backend="aot_eager", dynamic=options.get("dynamic"))

    monkeypatch.setattr(torch, "compile", captured)
    assert compiled.main(["--only", "none", "--images", "40", "--width", "4"]) == 0
    name, difference, size = capsys.readouterr().out.splitlines()[-1].split("|")[1:4]
    assert name.strip() == "none"
    assert float(difference) < 1e-4 < float(size)
    assert how


@pytest.mark.parametrize("name", ["vab", "bcu"])
def test_defenses_with_several_networks_are_compared(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    found = compare(name, make_shapes(60, 4, seed=0, image_size=8).train, ModelConfig("tiny", width=2))
    assert (found.name, found.difference) == (name, 0)
    assert found.size > 0
