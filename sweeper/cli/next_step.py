"""Lines that say what to do after a sweep."""

from pathlib import Path

import pandas as pd

from sweeper.analysis.selection import BoundsMissed, NotConfirmed, NothingQualifies, select
from sweeper.analysis.uncertainty import LEAST_SEEDS
from sweeper.run_folder.record import CONFIRMATION
from sweeper.run_folder.tables import finished

MAX_ASR = 0.15
"""Attack success that a setting may have, if the user has not said."""
CONFIDENCE = 0.9


def next_lines(path: Path, frame: pd.DataFrame, max_asr: float | None) -> list[str]:
    """Lines with the commands that pick a setting, or on what stands in the way of one.

    Args:
        path: the run folder.
        frame: rows of ``trials.parquet``.
        max_asr: bound on attack success that the user gave; null: none.
    """
    bound = MAX_ASR if max_asr is None else max_asr
    pick, confirm = (f"sweeper {name} {path} --max-asr {bound:g}" for name in ("select", "confirm"))
    confidently = f"{pick} --confidence {CONFIDENCE:g}"
    again = not finished(frame, CONFIRMATION).empty
    try:
        select(frame, bound, confidence=CONFIDENCE if again else None)
    except NotConfirmed as error:
        return [f"{error} Run {confirm} --seeds {LEAST_SEEDS}, and then {confidently}"]
    except BoundsMissed as error:
        return [
            f"{error} Try more trials (sweeper resume {path} --trials N), other ranges of the parameters, or a higher "
            "--max-asr."
        ]
    except NothingQualifies as error:
        return [str(error)]
    if again:
        return [f"Pick a setting: {confidently}"]
    return [f"Pick a setting: {pick}", f"Before deploying it: {confirm}, and then {confidently}"]
