"""Classes that a setting lost."""

import json
from typing import Any

import pandas as pd
import pytest

from sweeper.analysis.frontier import points
from sweeper.analysis.lost_classes import Lost, lost_classes, unmeasured_classes, unmeasured_sentence
from tests.sweeper.small import control_row, frame_of, row_with


def counts(**classes: tuple[int, int]) -> str:
    """Images classified rightly, and images, by class, as a row holds them."""
    return json.dumps([[name, *pair] for name, pair in classes.items()])


PLAIN = counts(cat=(80, 100), dog=(50, 100), owl=(0, 10), emu=(0, 0))
"""A control: a tenth is 0.08 for cats and 0.05 for dogs; owls it does not know itself, and of emus there is none."""


def frame(*cells: str | None, control: str | None = PLAIN, **changes: Any) -> pd.DataFrame:
    """A setting with a training for each cell, each beside a control of its own seed."""
    rows = [row_with(f"t{n}", "a", seed=n, val_class_counts=cell, **changes) for n, cell in enumerate(cells)]
    controls = [control_row(trial=f"c{n}", seed=n, val_class_counts=control) for n in range(len(cells))]
    return frame_of(*rows, *controls)


@pytest.mark.parametrize(
    ("cats", "dogs", "lost"),
    [
        ((8, 100), (5, 100), {}),  # a tenth itself is not below it
        ((7, 100), (5, 100), {"cat": 1}),
        ((0, 100), (4, 100), {"cat": 1, "dog": 1}),
        ((0, 0), (50, 100), {}),  # no image says nothing
    ],
)
def test_a_class_is_lost_below_a_tenth_of_the_control(
    cats: tuple[int, int], dogs: tuple[int, int], lost: dict[str, int]
) -> None:
    known = lost_classes(frame(counts(cat=cats, dog=dogs, owl=(0, 10), emu=(0, 0))))
    assert known == ({"a": Lost(lost, 1)} if lost else {})


def test_trainings_are_counted_those_with_fresh_seeds_too() -> None:
    good, bad = counts(cat=(70, 100), dog=(50, 100)), counts(cat=(0, 100), dog=(50, 100))
    table = frame(good, bad, bad)
    table.loc[table["trial_id"] == "t2", "role"] = "confirmation"
    assert lost_classes(table) == {"a": Lost({"cat": 2}, 3)}
    table.loc[table["trial_id"] == "t1", ["status", "trial_status"]] = "FAILED"
    assert lost_classes(table) == {"a": Lost({"cat": 1}, 2)}


def test_each_training_is_compared_with_its_own_control() -> None:
    """Against BadNets the control knows cats, against Blend it does not either."""
    bad = counts(cat=(0, 100))
    rows = [row_with("t0", "a", scenario=name, val_class_counts=bad) for name in ("badnets", "blend")]
    plain = {"badnets": (50, 100), "blend": (0, 100)}
    controls = [control_row(scenario=name, val_class_counts=counts(cat=pair)) for name, pair in plain.items()]
    assert lost_classes(frame_of(*rows, *controls)) == {"a": Lost({"cat": 1}, 2)}


@pytest.mark.parametrize("cell", [None, "", "[", "3", '{"cat": [0, 100]}', '[["cat", 0]]', '[["cat", "x", 5]]', "null"])
def test_rows_of_earlier_versions_and_damaged_cells_say_nothing(cell: str | None) -> None:
    bad = counts(cat=(0, 100))
    assert lost_classes(frame(cell)) == lost_classes(frame(bad, control=cell)) == {}
    assert lost_classes(frame(cell, bad)) == {"a": Lost({"cat": 1}, 1)}
    assert points(frame(cell))["lost_classes"].tolist() == [None]


def test_without_a_control_nothing_is_known() -> None:
    assert lost_classes(frame_of(row_with(val_class_counts=counts(cat=(0, 9))))) == {}


def test_names_are_shown_as_text_that_steers_no_terminal() -> None:
    name = "cat\x1b[2J\n"
    cells = [json.dumps([[name, right, 100]]) for right in (0, 90)]
    assert lost_classes(frame(cells[0], control=cells[1])) == {"a": Lost({r"cat\x1b[2J\n": 1}, 1)}


def test_a_point_names_each_class_once_and_tells_none_from_unknown() -> None:
    bad, worse = counts(cat=(0, 100), dog=(50, 100)), counts(cat=(0, 100), dog=(0, 100))
    assert points(frame(bad, worse))["lost_classes"].tolist() == ["cat, dog"]
    assert points(frame(counts(cat=(70, 100))))["lost_classes"].tolist() == [""]


def test_classes_without_a_validation_image_are_unmeasured() -> None:
    cells = [counts(cat=(1, 1), owl=(0, 0)), counts(cat=(0, 9), owl=(0, 0), emu=(0, 0)), None]
    assert unmeasured_classes(frame(*cells)) == ["owl", "emu"]


def test_many_unmeasured_classes_are_cut_short() -> None:
    assert unmeasured_sentence(["owl"]).startswith("No validation image shows the class owl: the accuracy on it")
    assert "the classes 0, 1, 2, 3, 4, 2 more: the acc" in unmeasured_sentence([str(n) for n in range(7)])
