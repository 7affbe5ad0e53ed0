"""Both numeric formats, so small that no figure means something."""

import pytest

from benchmarks import formats, trainings
from tests.benchmarks.here import Here

SMALL = (
    "data.train_size=100", "data.test_size=60", "model.width=4", "control.epochs=1", "defense.mix_epochs=1",
    "defense.suppression_epochs=1", "defense.warmup_steps=2",
)  # fmt: skip


def test_each_format_of_a_scenario(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(trainings, "ProcessPoolExecutor", Here)
    changes = [part for change in SMALL for part in ("--set", change)]
    assert formats.main(["--only", "blend", "--seeds", "3", "--workers", "1", *changes]) == 0
    text = capsys.readouterr().out
    assert all(f"blend, {words}" in text for words in ("float32", "bfloat16"))
    assert "val_acc, bfloat16 less float32: " in text


def test_differences_are_paired() -> None:
    values = {("a, float32", 1): 0.5, ("a, bfloat16", 1): 0.6, ("a, float32", 2): None, ("a, bfloat16", 2): 0.1,
              ("b, bfloat16", 1): 0.25, ("b, float32", 1): 0.75}  # fmt: skip
    rows = [{"label": label, "seed": seed, "val_acc": value} for (label, seed), value in values.items()]
    assert formats.differences(rows, "val_acc") == pytest.approx([0.1, -0.5])


def test_only_the_format_differs() -> None:
    preset = formats.apply_overrides(formats.read_preset("attacks_cpu"), list(SMALL), "attacks_cpu")
    whole, half = formats.jobs(preset, "attacks_cpu", ["badnets"], [7])
    assert (whole.config.compute.amp, half.config.compute.amp) == ("off", "on")
    assert formats.replace(half.config, compute=whole.config.compute) == whole.config
