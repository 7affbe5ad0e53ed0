"""Settings that were trained again with fresh seeds, as they are described."""

import json
from typing import Any

import pytest

from sweeper.analysis.confirmed import confirmed
from sweeper.run_folder.tables import as_rows
from tests.sweeper.small import control_row, frame_of, row_with


def again(rate: float, *seeds: int, **changes: Any) -> list[dict[str, Any]]:
    known = {"role": "confirmation", "poison_rate": rate} | changes
    return [row_with(f"k{rate}-{seed}", "a", seed=seed, **known) for seed in seeds]


def test_without_fresh_seeds_there_are_no_points() -> None:
    assert confirmed(frame_of(control_row(), row_with("t0", "a"))).empty


@pytest.mark.parametrize("rates", [(0.1,), (0.1, 0.2)])
def test_they_stand_beside_their_controls(rates: tuple[float, ...]) -> None:
    """Where the attacker varied between trials too: each run has the control of its own rate."""
    rows = []
    for rate in rates:
        own, plain = (json.dumps([["cat", right, 10], ["dog", 9, 10]]) for right in (0, 8))
        rows += again(rate, 1, 2, 3, val_class_counts=own)
        known = {"poison_rate": rate, "val_acc": 0.9 - rate, "val_class_counts": plain}
        rows += [control_row(trial=f"c{rate}-{seed}", seed=seed, **known) for seed in (1, 2, 3)]
    (point,) = as_rows(confirmed(frame_of(*rows)))
    assert point["control_acc"] == pytest.approx(0.9 - sum(rates) / len(rates))
    assert (point["lost_classes"], point["seeds"]) == ("cat", 3)


def test_a_setting_is_one_row_by_its_worst_attacker() -> None:
    rows = again(0.1, 1, 2, val_acc=0.9, val_asr=0.05) + again(0.2, 1, 2, val_acc=0.6, val_asr=0.25)
    (point,) = as_rows(confirmed(frame_of(*rows)))
    assert (point["environment"], point["seeds"]) == ("", 2)
    assert (point["val_acc"], point["val_asr_excess"]) == (pytest.approx(0.75), pytest.approx(0.2))
    (mean,) = as_rows(confirmed(frame_of(*rows), "mean"))
    assert mean["val_asr_excess"] == pytest.approx(0.1)


def test_an_attacker_that_fails_without_a_defense_is_left_out() -> None:
    weak = again(0.2, 1, 2, val_acc=0.6, val_asr=0.9, weak_attack=True, control_asr=0.3)
    (point,) = as_rows(confirmed(frame_of(*again(0.1, 1, 2, val_acc=0.9), *weak)))
    assert (point["val_acc"], point["weak"]) == (pytest.approx(0.9), "")
    (alone,) = as_rows(confirmed(frame_of(*weak)))
    assert alone["weak"] == "badnets", "then it is named"
