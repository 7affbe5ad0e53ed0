"""Lines that say what to do after a sweep."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.selection import BoundsMissed, NothingQualifies, select
from sweeper.analysis.verdicts import how_it_stands
from sweeper.deploy.bounds import (
    Bounds,
    bounds_of,
    confident_command,
    confirm_command,
    go_on,
    select_command,
)
from sweeper.run_folder.certificate import Certificate, read_certificate
from sweeper.run_folder.folder import RunFolder
from sweeper.words import command, spread
from trainers.seeding import NUMERICS

if TYPE_CHECKING:
    from sweeper.deploy.select import Selected  # imports MLflow, which takes seconds

MAX_EXCESS = 0.1
"""Bound on what the trigger adds in the commands that are proposed, unless the user gave a bound."""


def next_lines(path: Path, frame: pd.DataFrame, most: AttackBounds) -> list[str]:
    """Lines with the commands that pick a setting, or on what stands in the way of one.

    Args:
        path: the run folder.
        frame: rows of ``trials.parquet``.
        most: bounds that the user gave.
    """
    certificate = read_certificate(path)
    if certificate is not None:
        return test_lines(path, certificate)
    bounds = Bounds(most.max_excess, most.max_asr) if most.limits else Bounds(MAX_EXCESS)
    try:
        select(frame, bounds.max_excess, bounds.max_asr)
    except BoundsMissed as error:
        higher = " and ".join(f"--{limit.option}" for limit in bounds.attack.limits)
        return [
            f"{error} Try more trials ({command('resume', path, trials='N')}), other ranges of the parameters, or a "
            f"higher {higher}."
        ]
    except NothingQualifies as error:
        return [str(error)]
    before = f"{confirm_command(path, bounds)}, and then {confident_command(path, bounds)}"
    return [f"Pick a setting: {select_command(path, bounds)}", f"Before deploying it: {before}"]


def confirmation_lines(folder: RunFolder, selected: "Selected") -> list[str]:
    """Lines of text about a setting that was chosen without a confidence: its figures with fresh seeds, if there are
    any, and the commands that choose with a confidence.

    Args:
        folder: the run folder.
        selected: the setting.
    """
    bounds, again, certificate = selected.bounds, selected.confirmed, selected.certificate
    lines = []
    if again is not None:
        lines.append(
            f"With {again['seeds']} fresh seed{'s' if again['seeds'] > 1 else ''}, which --confidence does not count: "
            f"val_acc {spread(again, 'val_acc')}, {bounds.over} val_asr_excess {spread(again, 'val_asr_excess')} "
            f"(val_asr {spread(again, 'val_asr')}, floor {again['asr_floor']:.3f})."
        )
    if certificate is not None:
        return lines + test_lines(folder.path, certificate)
    if folder.numerics == NUMERICS:  # otherwise new trainings would not be comparable
        lines.append(
            "The winner of a search looks better than it is; before deploying: "
            f"{confirm_command(folder.path, bounds)}, and then {confident_command(folder.path, bounds)}"
        )
    return lines


def test_lines(path: Path, certificate: Certificate) -> list[str]:
    """Lines on how the test of a run folder stands, and what to do then."""
    stands = how_it_stands(certificate)
    if certificate.winner is not None:
        return [stands, f"Select it: {confident_command(path, bounds_of(certificate))}"]
    if certificate.decided:
        return [f"{stands} A run folder has one test: for a higher bound, or another one, run the preset again."]
    return [stands, go_on(path, certificate)]
