"""The status of a sweep, read from its run folder alone."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sweeper.preset.class_numbers import describe_classes
from sweeper.preset.grid import grid_points
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.certificate import Certificate, read_certificate
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import (
    CONFIRMATION,
    CONTROL,
    FAILED,
    FINISHED,
    PRUNED,
    REPLICATE,
    TRIAL,
    Training,
    TrialRecord,
)
from sweeper.words import command
from trainers.seeding import NUMERICS


@dataclass(frozen=True)
class Status:
    """Status of a sweep.

    Args:
        name: of the sweep.
        classes: those that its attacks name, as text.
        holder: who works on it; null: nobody.
        budget: trials in all, controls not counted.
        counts: trials by status, controls not counted.
        raced_out: trials that left their races.
        trainings: trainings that have finished, controls not counted.
        trainings_in_all: trainings of all trials, with those that need not run.
        not_needed: trainings that need not run, since their trials left their races or were stopped early.
        controls: controls that have ended.
        left: trainings and controls that run, or that ``resume`` would continue.
        failed: reasons of the trials that failed.
        seconds_left: if trials go on at this pace; null if that is unknown.
        certificate: the test that certifies a setting, as far as it has come; null if none was begun.
    """

    name: str
    classes: str
    holder: str | None
    budget: int
    counts: Counter[str]
    raced_out: int
    trainings: int
    trainings_in_all: int
    not_needed: int
    controls: int
    left: list[Training]
    failed: list[str]
    seconds_left: float | None
    certificate: Certificate | None = None

    @property
    def done(self) -> int:
        """Trials that have ended."""
        return sum(self.counts[status] for status in (FINISHED, PRUNED, FAILED))

    @property
    def word(self) -> str:
        """Overall state: running, interrupted or ended."""
        if self.holder is not None:
            return "running"
        own = [training for training in self.left if training.record.role != REPLICATE]
        return "interrupted" if own or self.done < self.budget else "ended"


def read_status(
    folder: RunFolder,
    known: Mapping[str, TrialRecord] | None = None,
    spec: SweepSpec | None = None,
    grid: int | None = None,
) -> Status:
    """Read the status of a sweep from its records.

    Args:
        folder: the run folder.
        known: its records, if they were read just now; null: they are read.
        spec: the sweep, likewise.
        grid: how many points its grid has, likewise.

    Raises:
        ConfigError, PresetError: the folder holds no sweep, or a damaged one.
    """
    spec = spec or folder.spec()
    records = list((folder.read_records() if known is None else known).values())
    trials = [record for record in records if record.role not in (CONTROL, REPLICATE)]
    ended = [record for record in trials if not record.open]
    budget = trials_in_all(spec, spec.search.trials, records, grid)
    holder = folder.holder()
    return Status(
        name=spec.name,
        classes=describe_classes(spec.scenario_blocks, folder.class_names),
        holder=holder,
        budget=budget,
        counts=Counter(record.status for record in ended),
        raced_out=sum(record.raced_out for record in ended),
        trainings=sum(state.status == FINISHED for record in trials for state in record.trainings.values()),
        trainings_in_all=_trainings_in_all(spec, trials, budget),
        not_needed=sum(s.status != FINISHED for r in ended if r.status == PRUNED for s in r.trainings.values()),
        controls=sum(record.role == CONTROL and not record.open for record in records),
        left=[training for record in records for training in record.trainings_left()],
        failed=[f"{record.trial_id}: {record.error}" for record in ended if record.status == FAILED],
        seconds_left=_seconds_left(ended, budget, folder.held_since()) if holder is not None else None,
        certificate=read_certificate(folder.path),
    )


def trials_in_all(spec: SweepSpec, asked: int, records: Iterable[TrialRecord], grid: int | None = None) -> int:
    """The number of trials that a sweep has in the end, controls not counted.

    Args:
        spec: the sweep.
        asked: how many trials are asked for.
        records: trials that are known already, and confirming ones that are to run.
        grid: how many points the sweep's grid has, if it was counted before; null: they are counted.
    """
    roles = Counter(record.role for record in records)
    if spec.search.sampler == "grid":  # which may have fewer points than trials are asked for
        asked = min(asked, len(grid_points(spec)) if grid is None else grid)
    return max(asked, roles[TRIAL]) + roles[CONFIRMATION]


def _trainings_in_all(spec: SweepSpec, trials: Sequence[TrialRecord], budget: int) -> int:
    """Trainings of all trials; one that was not proposed yet has one for each scenario and seed."""
    scenarios = 1 if spec.search.scenarios == "one" else len(spec.scenario_blocks)
    known = sum(len(record.trainings) for record in trials)
    return known + max(budget - len(trials), 0) * scenarios * len(spec.seeds)


def _seconds_left(ended: list[TrialRecord], budget: int, since: float) -> float | None:
    """Seconds left at the pace of the last ten trials since the sweep began or was resumed; null before the first."""
    ends = sorted(record.ended_at for record in ended if record.ended_at is not None and record.ended_at > since)
    if not ends:
        return None
    began = ends[-11] if len(ends) > 10 else since
    return (time.time() - began) / min(len(ends), 10) * max(budget - len(ended), 0)


def reading_notes(folder: RunFolder) -> list[str]:
    """Warnings that belong to a sweep's figures: that it has not ended, or was trained with other numerics."""
    notes = [unfinished(folder)]
    if folder.numerics != NUMERICS:
        notes.append(
            f"{folder.path} was trained with numerics {folder.numerics}, and this program trains with {NUMERICS}: the "
            "same setting may give other figures now."
        )
    return [note for note in notes if note]


def unfinished(folder: RunFolder) -> str | None:
    """The warning that belongs beside the figures of a sweep that has not ended; null if it has."""
    status = read_status(folder)
    left = [training for training in status.left if training.record.role != REPLICATE]
    if (status.done >= status.budget and not left) or not (status.done or left):  # without records nothing is known
        return None
    more = "it is running" if status.holder else f"{command('resume', folder.path)} runs the rest"
    return f"Only {status.done} of {status.budget} trials have ended; {more}."
