"""The smallest of each measurement; figures that mean something come from the benchmark."""

from benchmarks.bookkeeping import scale_cost, tracking_cost


def test_a_large_sweep_is_drawn_whole() -> None:
    found = scale_cost(trials=40)
    assert set(found) == {"frontier", "report", "report MiB"}
    assert found["report MiB"] > 4, "plotly is in the page"


def test_tracking_is_timed() -> None:
    assert tracking_cost(trials=1, epochs=3) > 0
