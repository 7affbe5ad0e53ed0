"""A sweep whose settings share trunks has the rows of one whose settings do not."""

from typing import Any

import pandas as pd
import pytest

from tests.sweeper.sweeps.conftest import VAB, Ended, Sweep

pytestmark = [pytest.mark.ray, pytest.mark.long]

OWN = ["trial_id", "attempt", "seconds", "seconds_shared"]
"""Columns that depend on how a training was run."""


def rows(ended: Ended) -> pd.DataFrame:
    frame = ended.frame[ended.frame["role"] == "trial"]
    return frame.drop(columns=OWN).sort_values(["config_id", "scenario"]).reset_index(drop=True)


def test_the_rows_are_the_same_and_trunks_are_trained_once(sweep: Sweep) -> None:
    """A grid, since it has the same settings both times."""
    changes: dict[str, Any] = {
        "data": {"source": "shapes", "train_size": 200, "test_size": 100, "held_out_size": 50},
        "defense": [
            VAB | {"batch_size": 64, "late_weight": {"categorical": [0.1, 0.9]}},
            {"name": "bcu", "training_epochs": 1, "batch_size": 64, "lr": 0.05, "distillation_epochs": 1,
             "head_ratio": {"categorical": [0.1, 0.5]}},
        ],
        "scenarios": [{"attack": "badnets", "poison_rate": 0.1}, {"attack": "blend", "poison_rate": 0.1}],
    }  # fmt: skip
    search = {"sampler": "grid", "trials": 4, "workers": 2, "race": "off"}
    alone = sweep("alone", **changes, search=search)
    shared = sweep("shared", **changes, search=search | {"branches": 2})
    pd.testing.assert_frame_equal(rows(alone), rows(shared))
    for ended in (alone, shared):
        ended.agree()
        assert not ended.folder.trunks.exists()
    trials = shared.frame[shared.frame["role"] == "trial"]
    grown = trials[trials["seconds_shared"] > 0].groupby("defense").size().to_dict()
    assert grown == {"vab": 2, "bcu": 4}, "one of two against each attacker; all, since a control was before them"
    before = alone.frame[alone.frame["role"] == "trial"]
    assert before[before["seconds_shared"] > 0].groupby("defense").size().to_dict() == {"bcu": 4}
    assert (trials["seconds_shared"] < trials["seconds"]).all()
