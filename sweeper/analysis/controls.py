"""The control of a training: the same poisoned data, trained without a defense."""

import pandas as pd

CONTROL_KEYS = ("sweep", "scenario", "poison_rate", "target", "seed")
"""Columns that are equal for a trial's run and its control; so are the attack's parameters."""


def of_control(trials: pd.DataFrame, controls: pd.DataFrame, figure: str) -> pd.Series:
    """A figure of each row's control, with the index of ``trials``; null where the control did not finish.

    Args:
        trials: rows of ``trials.parquet``.
        controls: rows of it, of controls that finished.
        figure: name of a column.
    """
    same = [c for c in trials.columns if c in CONTROL_KEYS or c.startswith("param.scenario.")]
    known = controls[[*same, figure]].drop_duplicates(same)
    return trials[same].merge(known, how="left", on=same)[figure].set_axis(trials.index)
