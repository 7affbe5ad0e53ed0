"""Settings that were trained again with fresh seeds: their figures are described, and no bound is made of them."""

import pandas as pd

from sweeper.analysis.frontier import beside_controls, environments, harmless, points, points_of
from sweeper.analysis.uncertainty import Over
from sweeper.run_folder.record import CONFIRMATION, CONTROL
from sweeper.run_folder.tables import finished


def confirmed(frame: pd.DataFrame, over: Over = "worst") -> pd.DataFrame:
    """Points of the settings that ``sweeper confirm --top`` trained again.

    Each value that the attacker varied counts as a scenario of its own, unless no attack works there without a defense.

    Args:
        frame: rows of ``trials.parquet``.
        over: how the excess and attack success are aggregated over scenarios.
    """
    rows = finished(frame, CONFIRMATION)
    if rows.empty:
        return points(rows, over, CONFIRMATION)
    rows = beside_controls(rows, finished(frame, CONTROL))  # controls know nothing of the names given below
    varied, idle = environments(rows), harmless(rows)
    if len(idle) < varied.nunique():
        rows, varied = rows[~varied.isin(idle)], varied[~varied.isin(idle)]
    rows = rows.assign(scenario=rows["scenario"].where(varied == "", rows["scenario"] + " at " + varied))
    return points_of(rows.assign(environment=""), over)
