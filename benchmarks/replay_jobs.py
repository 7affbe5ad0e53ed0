"""The sweeps that a replay runs, each in a process of a pool, and what it keeps of them."""

import resource
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning

from benchmarks.replay_clock import Replayed
from benchmarks.replay_figures import Forest, Table, check, read_table
from benchmarks.replay_policies import (
    POLICIES,
    Case,
    Reached,
    by_trunk,
    curve,
    gap,
    reached,
    replay,
    shuffled,
    volume,
    whole,
)

MOST_SHARE = 0.99
"""The other share of the hypervolume at which trainings are counted."""


@dataclass(frozen=True)
class Job:
    """One sweep.

    Args:
        table: the file.
        case: what is swept.
        policy: by its name.
        order: of the settings of the table, or of the sampler's draws.
        places: trainings at a time.
        sampler: proposes settings, whose outcomes a forest expects; null: the settings of the table are proposed.
        trials: of the sampler.
        lost_every: virtual seconds after which a place loses its training, on average; null: never.
        grid: numbers of trainings at which the hypervolume is looked at.
    """

    table: Path
    case: Case
    policy: str
    order: int = 0
    places: int = 1
    sampler: str | None = None
    trials: int = 0
    lost_every: float | None = None
    grid: tuple[int, ...] = ()


@dataclass(frozen=True)
class Score:
    """What is kept of a sweep.

    Args:
        trainings: begun.
        seconds: of computing.
        makespan: in virtual seconds.
        near: when it had 95% of the full sweep's hypervolume below the interest.
        most: when it had 99% of it.
        volume: below the interest, at the end.
        lost: the share of the full sweep's that is missing.
        gap: to the full sweep's frontier.
        curve: the share of the full sweep's hypervolume at each number of trainings of the job's grid; of a sampler the
            hypervolume itself.
        broke_off: trainings that were lost with their place.
        agenda_ms, slowest_ms, study_ms: of this core: the agenda for each training, the most of one call, the study.
        mib: by which the process has grown.
        problems: what went wrong.
    """

    trainings: int
    seconds: float
    makespan: float
    near: Reached
    most: Reached
    volume: float
    lost: float
    gap: float
    curve: list[float]
    broke_off: int
    agenda_ms: float
    slowest_ms: float
    study_ms: float
    mib: float
    problems: list[str] = field(default_factory=list)


@cache
def load(path: Path) -> Table:
    """The table, read and checked once in each process."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    table = read_table(path)
    check(table, Case().spec(POLICIES["off"], len(table.settings)), path)
    return table


@cache
def forest(path: Path) -> Forest:
    """The forest on the table, fitted once in each process."""
    return Forest(load(path))


def resident_mib() -> float:
    """Resident memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20


def run(job: Job) -> Score:
    """Run one sweep."""
    table = load(job.table)
    policy, interest = POLICIES[job.policy], job.case.interest
    if job.sampler is None:
        arranged = by_trunk if policy.branches > 1 else shuffled
        proposals = arranged(job.case.settings(table), job.order)
        spec, outcomes = job.case.spec(policy, len(proposals)), table
        everything = whole(table, job.case)
    else:
        proposals, everything = [], []
        spec, outcomes = job.case.spec(policy, job.trials, job.sampler, job.order), forest(job.table)
    before = resident_mib()
    found = replay(spec, policy, outcomes, proposals, places=job.places, lost_every=job.lost_every, seed=job.order)
    grown = resident_mib() - before
    own = volume(found.complete, interest)
    full = volume(everything, interest) if everything else own
    return Score(
        found.trainings, found.seconds, found.makespan, reached(found, full, interest),
        reached(found, full, interest, MOST_SHARE), own, 1 - own / full if full else 0.0,
        gap(everything, found.complete, interest), curve(found, full if everything else 1.0, interest, job.grid),
        found.lost, *_milliseconds(found), grown, found.problems,
    )  # fmt: skip


def _milliseconds(found: Replayed) -> tuple[float, float, float]:
    each = max(found.trainings, 1)
    return 1000 * found.agenda_s / each, 1000 * found.slowest_s, 1000 * found.study_s / each


def mean(values: Sequence[float]) -> float:
    """The mean."""
    return statistics.fmean(values)


def mean_and_sd(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation (n - 1) as text; the mean alone if there is one value."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def by_policy(scores: Mapping[Job, Score]) -> dict[str, list[Score]]:
    """Scores by policy, in the order of the jobs."""
    found: dict[str, list[Score]] = {}
    for job, score in scores.items():
        found.setdefault(job.policy, []).append(score)
    return found
