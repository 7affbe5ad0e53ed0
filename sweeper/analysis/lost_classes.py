"""Classes that a setting does not recognise, though a training without a defense on the same data does.

A defense may take a whole class for suspicious, such as a large one or one that is learned early, and the mean accuracy
hides it. Rows of earlier versions do not hold the accuracies of classes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sweeper.analysis.controls import of_control
from sweeper.run_folder.record import CONFIRMATION, CONTROL, TRIAL
from sweeper.run_folder.tables import class_counts, finished

FALL = 10
"""A training has lost a class if its accuracy on it is below the control's, divided by this."""
MOST_CLASSES = 5
"""Classes of a setting that sentences name one by one."""


@dataclass(frozen=True)
class Lost:
    """The classes that a setting lost.

    Args:
        classes: by name, the number of trainings that lost it.
        trainings: number of trainings that could be compared with their controls.
    """

    classes: dict[str, int]
    trainings: int


def lost_by_training(trials: pd.DataFrame, controls: pd.DataFrame) -> pd.Series:
    """For each row the names of the classes that the training lost, as a list; null where that is not known.

    Args:
        trials: rows of ``trials.parquet``, all finished.
        controls: rows of it, of controls that finished.
    """
    plain = of_control(trials, controls, "val_class_counts")
    lost = [_lost(class_counts(a), class_counts(b)) for a, b in zip(trials["val_class_counts"], plain, strict=True)]
    return pd.Series(lost, index=trials.index, dtype=object)


def _lost(own: dict[str, tuple[int, int]], plain: dict[str, tuple[int, int]]) -> list[str] | None:
    """Names of the lost classes, given each class's images classified correctly, and all; null if not known."""
    if not own or not plain:
        return None
    pairs = [(name, own[name], plain[name]) for name in own if name in plain]
    # Quotients are multiplied out, so that exactly a tenth is not below a tenth. Without images it is 0 < 0: nothing is
    # known of such a class, and unmeasured_classes names it.
    return [name for name, (right, images), (known, seen) in pairs if FALL * right * seen < known * images]


def lost_classes(frame: pd.DataFrame) -> dict[str, Lost]:
    """The classes that each setting lost in any of its trainings, confirming ones included, by ``config_id``.

    Settings that lost none, and settings for which that is not known, are left out.

    Args:
        frame: rows of ``trials.parquet``.
    """
    trials = pd.concat([finished(frame, role) for role in (TRIAL, CONFIRMATION)])
    trials = trials.assign(lost=lost_by_training(trials, finished(frame, CONTROL)))
    found = {}
    for config, lists in trials[trials["lost"].notna()].groupby("config_id")["lost"]:
        counts = Counter(name for names in lists for name in names)
        if counts:
            found[str(config)] = Lost(dict(counts), len(lists))
    return found


def unmeasured_classes(trainings: pd.DataFrame) -> list[str]:
    """The classes without a validation image in any of the trainings: no figure says anything about them.

    Args:
        trainings: rows of ``trials.parquet``. Those of earlier versions do not hold the number of images.
    """
    of_classes = [pair for cell in trainings["val_class_counts"] for pair in class_counts(cell).items()]
    return list(dict.fromkeys(name for name, (_, images) in of_classes if not images))


def unmeasured_sentence(classes: Sequence[str]) -> str:
    """A sentence on classes without a validation image."""
    shown = [*classes[:MOST_CLASSES], *([f"{len(classes) - MOST_CLASSES} more"] if len(classes) > MOST_CLASSES else [])]
    what, their = ("class", "the accuracy on it") if len(classes) == 1 else ("classes", "the accuracies on them")
    return f"No validation image shows the {what} {', '.join(shown)}: {their} cannot be known, and may be 0."
