"""Lines that say what to do after a sweep."""

from pathlib import Path

import pandas as pd

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.selection import BoundsMissed, NotConfirmed, NothingQualifies, select
from sweeper.deploy.bounds import CONFIDENCE, Bounds, confident_command, confirm_command, select_command
from sweeper.run_folder.record import CONFIRMATION
from sweeper.run_folder.tables import finished
from sweeper.words import command

MAX_EXCESS = 0.1
"""Bound on what the trigger adds in the commands that are proposed, unless the user gave a bound."""


def next_lines(path: Path, frame: pd.DataFrame, most: AttackBounds) -> list[str]:
    """Lines with the commands that pick a setting, or on what stands in the way of one.

    Args:
        path: the run folder.
        frame: rows of ``trials.parquet``.
        most: bounds that the user gave.
    """
    bounds = Bounds(most.max_excess, most.max_asr) if most.limits else Bounds(MAX_EXCESS)
    pick, confirm = select_command(path, bounds), confirm_command(path, bounds)
    confidently = confident_command(path, bounds)
    again = not finished(frame, CONFIRMATION).empty
    try:
        select(frame, bounds.max_excess, bounds.max_asr, confidence=CONFIDENCE if again else None)
    except NotConfirmed as error:
        return [f"{error} Run {confirm}, and then {confidently}"]
    except BoundsMissed as error:
        higher = " and ".join(f"--{limit.option}" for limit in bounds.attack.limits)
        return [
            f"{error} Try more trials ({command('resume', path, trials='N')}), other ranges of the parameters, or a "
            f"higher {higher}."
        ]
    except NothingQualifies as error:
        return [str(error)]
    if again:
        return [f"Pick a setting: {confidently}"]
    return [f"Pick a setting: {pick}", f"Before deploying it: {confirm}, and then {confidently}"]
