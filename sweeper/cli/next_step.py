"""Lines that say what to do after a sweep."""

from pathlib import Path

import pandas as pd

from sweeper.analysis.selection import BoundsMissed, NotConfirmed, NothingQualifies, select
from sweeper.deploy.bounds import CONFIDENCE, Bounds, confident_command, confirm_command, select_command
from sweeper.run_folder.record import CONFIRMATION
from sweeper.run_folder.tables import finished
from sweeper.words import command

MAX_ASR = 0.15
"""Bound on attack success in the commands that are proposed, unless the user gave one."""


def next_lines(path: Path, frame: pd.DataFrame, max_asr: float | None) -> list[str]:
    """Lines with the commands that pick a setting, or on what stands in the way of one.

    Args:
        path: the run folder.
        frame: rows of ``trials.parquet``.
        max_asr: bound on attack success that the user gave; null: none.
    """
    bounds = Bounds(MAX_ASR if max_asr is None else max_asr)
    pick, confirm = select_command(path, bounds), confirm_command(path, bounds)
    confidently = confident_command(path, bounds)
    again = not finished(frame, CONFIRMATION).empty
    try:
        select(frame, bounds.max_asr, confidence=CONFIDENCE if again else None)
    except NotConfirmed as error:
        return [f"{error} Run {confirm}, and then {confidently}"]
    except BoundsMissed as error:
        return [
            f"{error} Try more trials ({command('resume', path, trials='N')}), other ranges of the parameters, or a "
            "higher --max-asr."
        ]
    except NothingQualifies as error:
        return [str(error)]
    if again:
        return [f"Pick a setting: {confidently}"]
    return [f"Pick a setting: {pick}", f"Before deploying it: {confirm}, and then {confidently}"]
