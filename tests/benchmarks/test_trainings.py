"""What benchmarks that train have in common."""

import pytest

from benchmarks import trainings
from tests.benchmarks.here import Here
from tests.sweeper.small import preset_with, spec_with


def test_data_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "_loaded", {})
    small, smaller = preset_with(), preset_with(data={"source": "shapes", "train_size": 100, "test_size": 100})
    assert trainings.load(small) is trainings.load(small | {"name": "other"})
    assert (len(trainings.load(small).train), len(trainings.load(smaller).train)) == (200, 100)
    assert trainings.load(small) is not trainings.load(small | {"model": {"name": "tiny"}}), "weights say how to resize"


def test_results_come_in_the_order_of_the_jobs_with_a_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trainings, "ProcessPoolExecutor", Here)
    config = spec_with().trial(lambda _, searched: searched.corners()[0], "data")
    jobs = [trainings.Job(label, config, preset_with()) for label in "ba"]
    assert trainings.in_processes(lambda job: job.label, jobs, 1, lambda label: f"{label} is done") == ["b", "a"]
    assert capsys.readouterr() == ("", "b is done\na is done\n")
    assert trainings.in_processes(lambda job: job.label, jobs, 1) == ["b", "a"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.5], "0.500"), ([0.4, 0.6], "0.500 ± 0.141"), ([None, 0.25], "0.250"), ([None], "-"), ([], "-")],
)
def test_a_mean_and_its_spread(values: list[float | None], text: str) -> None:
    assert trainings.mean_and_spread(values) == text


def test_rows_of_one_label_are_one_line() -> None:
    rows = [{"label": label, "acc": acc} for label, acc in (("b", 0.4), ("a", 0.1), ("b", 0.6))]
    assert trainings.lines_by_label(rows, ["acc"]) == [["b", "0.500 ± 0.141"], ["a", "0.100"]]
