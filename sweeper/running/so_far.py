"""What a running sweep has found and saved, kept up trial by trial for the display.

``sweeper.analysis.overview`` says the same from the table of a whole sweep.
"""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from sweeper.preset.objectives import ATTACK_LEVELS, ATTACK_SUCCESS, Objective
from sweeper.run_folder.record import CONTROL, FINISHED, PRUNED, TRIAL, TrialRecord

ACCURACY = Objective(metric="val_acc", direction="maximize")
ATTACK = Objective(metric="val_asr_excess", direction="minimize")


class Levels:
    """The best accuracy below each of :data:`~sweeper.preset.objectives.ATTACK_LEVELS`.

    Args:
        objectives: of the sweep.
    """

    def __init__(self, objectives: Sequence[Objective]):
        self._attacking = any(o.metric in ATTACK_SUCCESS and o.direction == "maximize" for o in objectives)
        self._best: dict[float, float] = {}
        self._attackers: set[tuple[tuple[Any, ...], ...]] = set()
        self._known = False

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Note a trial all of whose trainings finished, by its rows of ``trials.parquet``."""
        self._attackers.add(tuple(sorted({_attacker(row) for row in rows})))
        acc, added = ACCURACY.value(rows), ATTACK.value(rows)
        if acc is None or added is None:
            return
        self._known = True
        for level in ATTACK_LEVELS:
            if added <= level:
                self._best[level] = max(acc, self._best.get(level, acc))

    @property
    def text(self) -> str:
        """A line for the screen; empty where settings are not compared by what the trigger adds: attackers search,
        nothing is poisoned, or trials met different attackers.
        """
        if self._attacking or len(self._attackers) > 1 or not self._known:
            return ""
        shown = [
            f"<= {level:g}: {f'{self._best[level]:.3f}' if level in self._best else '-'}" for level in ATTACK_LEVELS
        ]
        return f"Best accuracy by val_asr_excess: {', '.join(shown)}"


def _attacker(row: dict[str, Any]) -> tuple[str, ...]:
    keys = ["scenario", "poison_rate", "target", *sorted(key for key in row if key.startswith("param.scenario."))]
    return tuple(str(row[key]) for key in keys)


class Spent:
    """Hours that a sweep did not have to compute."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        """By scenario, of each training that finished."""
        self._spared: defaultdict[str, int] = defaultdict(int)
        """By scenario, trainings that were not needed and never began."""
        self._shared = 0.0

    def add(self, record: TrialRecord, rows: Sequence[dict[str, Any]]) -> None:
        """Note a trial or control that ended, by its rows of ``trials.parquet``; it counts once."""
        if record.trial_id in self._known or record.open or record.role not in (TRIAL, CONTROL):
            return
        self._known.add(record.trial_id)
        for row in rows:
            if row["status"] == FINISHED:
                self._shared += row.get("seconds_shared") or 0.0
                if record.role == TRIAL:
                    self._seconds[row["scenario"]].append(row["seconds"] or 0.0)
            elif record.status == PRUNED and row["attempt"] == 0:
                self._spared[row["scenario"]] += 1

    @property
    def hours_saved(self) -> float:
        """Of stages that several settings share, which is measured, and of trainings that were not needed, each taken
        to last as the mean of the finished ones of its scenario.
        """
        means = {scenario: fmean(known) for scenario, known in self._seconds.items()}
        spared = sum(count * means.get(scenario, 0.0) for scenario, count in self._spared.items())
        return (self._shared + spared) / 3600
