"""The smallest of each measurement; figures that mean something come from the benchmark."""

from pathlib import Path

import pytest

from benchmarks.bookkeeping import ray_cost, scale_cost, tracking_cost


def test_a_large_sweep_is_drawn_whole() -> None:
    found = scale_cost(trials=40)
    assert set(found) == {"frontier", "report", "report MiB"}
    assert found["report MiB"] > 4, "plotly is in the page"


def test_tracking_is_timed() -> None:
    assert tracking_cost(trials=1, epochs=3) > 0


@pytest.mark.ray
def test_rays_cost_is_what_is_not_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = ray_cost(trials=2)
    assert set(found) == {"with reuse", "without reuse"}
    assert all(seconds > 0 for seconds in found.values())
