"""Drives the agenda of a sweep with a virtual clock: trainings take the seconds, and have the figures, of a table."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from heapq import heappop, heappush
from random import Random
from typing import Any
from unittest.mock import patch

import optuna

from benchmarks.replay_figures import FINGERPRINT, Outcome, Outcomes
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import CONTROL, FINISHED, PRUNED, RUNNING, TRIAL, Training, TrialRecord, control_success
from sweeper.search import agenda as agenda_module
from sweeper.search import racing as racing_module
from sweeper.search.agenda import Agenda
from sweeper.search.race import Race


@dataclass(frozen=True)
class Moment:
    """The end of a trial of which every training has run.

    Args:
        trainings: begun until then in the whole sweep, controls and trainings that broke off included.
        seconds: of computing until then, on all places together.
        at: the virtual time.
        acc: its mean accuracy.
        attack: its attack objective.
        kept: whether it keeps the constraints.
    """

    trainings: int
    seconds: float
    at: float
    acc: float
    attack: float
    kept: bool


@dataclass
class Replayed:
    """What a virtual sweep did.

    Args:
        trainings: begun, controls and trainings that broke off included.
        seconds: of computing, on all places together.
        makespan: virtual seconds from the beginning to the end.
        complete: trials of which every training has run, in the order of their ends.
        lost: trainings that broke off.
        most_trunks: kept at a time.
        agenda_s: seconds of this core that the agenda took, without those of the study.
        study_s: those of the study and its sampler.
        slowest_s: the most of one call of the agenda.
        problems: what went wrong; empty.
    """

    trainings: int = 0
    seconds: float = 0.0
    makespan: float = 0.0
    complete: list[Moment] = field(default_factory=list)
    lost: int = 0
    most_trunks: int = 0
    agenda_s: float = 0.0
    study_s: float = 0.0
    slowest_s: float = 0.0
    problems: list[str] = field(default_factory=list)


class MemoryBook:
    """Keeps the records of a sweep in memory.

    Args:
        on_end: is told of the end of each trial.
    """

    def __init__(self, on_end: Callable[[TrialRecord], None]):
        self.records: dict[str, TrialRecord] = {}
        self.interrupted: dict[str, TrialRecord] = {}
        self.control_asr: dict[str, float | None] = {}
        self.ended: Counter[tuple[str, Any]] = Counter()
        """How often each training ended, and each trial (null for the training)."""
        self.trunks: set[str] = set()
        """Files that are kept."""
        self._on_end = on_end

    def add(self, record: TrialRecord) -> None:
        """As the protocol says."""
        self.records[record.trial_id] = record

    def update(self, record: TrialRecord) -> None:
        """As the protocol says; records are changed in memory already."""

    def end(self, record: TrialRecord, status: str, error: str | None = None, interrupted: bool = False) -> None:
        """As the protocol says."""
        self.ended[record.trial_id, None] += 1
        record.end(status, error, interrupted)
        if record.role == CONTROL:
            self.control_asr |= control_success([record])
        self._on_end(record)

    def remove_trunk(self, file: str) -> None:
        """As the protocol says."""
        self.trunks.remove(file)

    def announce(self, record: TrialRecord) -> None:
        """As the protocol says."""
        self.ended[record.trial_id, "announced"] += 1


@dataclass(eq=False)
class _Placed:
    """A training on its place.

    Args:
        training: which.
        began: the virtual time.
        outcome: what it comes out as.
        serial: of the event that ends it.
        breaks_off: whether its place is lost before it ends.
        ends: the virtual time at which it does either.
        skipped: seconds that it need not compute, since it begins at the end of its trunk.
        trunk: file of the trunk that it trains, and seconds until that has ended; null if it trains none.
        reported: epochs that the agenda was told of.
        stopped: whether nobody needs it any more.
    """

    training: Training
    began: float
    outcome: Outcome
    serial: int
    breaks_off: bool
    ends: float
    skipped: float = 0.0
    trunk: tuple[str, float] | None = None
    reported: int = 0
    stopped: bool = False

    def at(self, seconds: float) -> float:
        """The virtual time at which a training of its own would have run for so many seconds."""
        return self.began + max(seconds - self.skipped, 0.0)


class VirtualSweep:
    """A sweep without trainings.

    Args:
        spec: of the sweep.
        study: its study, with the proposals that wait in it.
        outcomes: what trainings come out as.
        places: trainings at a time.
        trials: in all.
        lost_every: virtual seconds after which a place loses its training, on average; null: never.
        seed: of the losses.
    """

    def __init__(
        self,
        spec: SweepSpec,
        study: optuna.Study,
        outcomes: Outcomes,
        places: int = 1,
        trials: int = 0,
        lost_every: float | None = None,
        seed: int = 0,
    ):
        self._spec, self._study, self._outcomes = spec, study, outcomes
        self._reports = spec.search.scheduler != "none"
        self._lost_every, self._random = lost_every, Random(seed)
        self._trials = trials or spec.search.trials
        self._now = 0.0
        self._free = places
        self._serial = 0
        self._events: list[tuple[float, int, _Placed]] = []
        self._placed: dict[Training, _Placed] = {}
        self._done_s = self._began_s = 0.0
        self._losses: Counter[tuple[str, Any]] = Counter()
        self.result = Replayed()
        self.book = MemoryBook(self._note)
        self._agenda = Agenda(spec, study, FINGERPRINT, self.book, self._trials)
        self._watch = Stopwatch()

    def run(self) -> Replayed:
        """Run the sweep to its end."""
        with self._watch.on_studies():
            self._fill()
            while self._events:
                self._now, serial, placed = heappop(self._events)
                if serial != placed.serial:
                    continue
                if placed.trunk is not None and self._now >= placed.at(placed.trunk[1]):
                    self._pass_trunk(placed)
                elif self._now < placed.ends:
                    self._report(placed)
                else:
                    self._end(placed)
                self._fill()
        result = self.result
        result.makespan, result.seconds = self._now, self._done_s
        result.study_s = self._watch.study_s
        result.problems = list(self._problems())
        return result

    def _timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the agenda, and note the seconds that it takes without the study."""
        before, began = self._watch.study_s, time.thread_time()
        found = function(*arguments)
        took = time.thread_time() - began - (self._watch.study_s - before)
        self.result.agenda_s += took
        self.result.slowest_s = max(self.result.slowest_s, took)
        return found

    def _fill(self) -> None:
        """Begin trainings on the free places."""
        while self._free:
            training = self._timed(self._agenda.next)
            if training is None:
                return
            self._begin(training)

    def _begin(self, training: Training) -> None:
        training.state.attempt += 1
        outcome = self._outcomes.of(training)
        trunk, skipped = self._trunk_of(training, outcome)
        lasts, breaks_off = outcome.ends[-1] - skipped, False
        if self._lost_every is not None:
            lost_after = self._random.expovariate(1 / self._lost_every)
            lasts, breaks_off = min(lasts, lost_after), lost_after < lasts
        if training in self._placed:
            self.result.problems.append(f"{training.label} was begun twice")
        placed = _Placed(training, self._now, outcome, 0, breaks_off, self._now + lasts, skipped, trunk)
        self._placed[training] = placed
        if skipped:
            self._timed(self._agenda.trunk_passed, training, True)
        self._schedule(placed)
        self._free -= 1
        self._began_s += self._now
        self.result.trainings += 1

    def _trunk_of(self, training: Training, outcome: Outcome) -> tuple[tuple[str, float] | None, float]:
        """The trunk that a training trains, and the seconds that it need not compute since that is there."""
        trunk = self._timed(self._agenda.trunk_of, training)
        if trunk is None:
            return None, 0.0
        epochs = sum(stage.epochs for stage in training.config.stages()[: trunk.stages])
        seconds = outcome.ends[epochs - 1]
        return (None, seconds) if trunk.file in self.book.trunks else ((trunk.file, seconds), 0.0)

    def _pass_trunk(self, placed: _Placed) -> None:
        """Keep the trunk that a training has trained."""
        assert placed.trunk is not None
        self.book.trunks.add(placed.trunk[0])
        self.result.most_trunks = max(self.result.most_trunks, len(self.book.trunks))
        placed.trunk = None
        self._timed(self._agenda.trunk_passed, placed.training, True)
        self._schedule(placed)

    def _schedule(self, placed: _Placed) -> None:
        """Come back to a training at its end; before at the end of its trunk, and of each epoch of which the agenda is
        told.
        """
        at = placed.ends
        if placed.trunk is not None and not placed.stopped:
            at = min(at, placed.at(placed.trunk[1]))
        if self._reports and not placed.stopped and placed.training.record.role != CONTROL:
            at = min(at, placed.at(placed.outcome.ends[placed.reported]))
        self._serial += 1
        placed.serial = self._serial
        heappush(self._events, (at, self._serial, placed))

    def _report(self, placed: _Placed) -> None:
        """Tell the agenda of an epoch."""
        training = placed.training
        figures = placed.outcome.epochs[placed.reported]
        placed.reported += 1
        for unwanted in self._timed(self._agenda.reported, training, figures):
            if unwanted is training:
                placed.stopped, placed.ends = True, self._now
            elif unwanted in self._placed:
                self._stop(self._placed[unwanted])
        self._schedule(placed)

    def _end(self, placed: _Placed) -> None:
        """Free the place of a training that came to its end, was stopped, or broke off."""
        training = placed.training
        del self._placed[training]
        self._free += 1
        self._done_s += self._now - placed.began
        self._began_s -= placed.began
        if placed.stopped:
            return
        if placed.breaks_off:
            self.result.lost += 1
            self._losses[training.record.trial_id, training.run] += 1
            self._timed(self._agenda.again, training)
            return
        training.record.add_epoch(training.run, {**placed.outcome.final, "seconds_shared": placed.skipped}, {})
        self.book.ended[training.record.trial_id, training.run] += 1
        for unwanted in self._timed(self._agenda.ended, training, FINISHED):
            if unwanted in self._placed:  # it may wait for a place
                self._stop(self._placed[unwanted])

    def _stop(self, placed: _Placed) -> None:
        """Let a training go on until the end of its epoch, as workers do."""
        placed.stopped, placed.breaks_off = True, False
        placed.trunk = None
        ends = (placed.at(end) for end in placed.outcome.ends)
        placed.ends = next((end for end in ends if end > self._now), self._now)
        self._schedule(placed)

    def _note(self, record: TrialRecord) -> None:
        """Note the end of a trial."""
        if record.role != TRIAL or record.status != FINISHED:
            return
        rows = [{**record.final(run), "scenario": run[0]} for run in record.trainings]
        acc, attack = (objective.value(rows) for objective in self._spec.objectives)
        assert acc is not None
        assert attack is not None
        kept = all(constraint.violation(rows) <= 0 for constraint in self._spec.constraints)
        seconds = self._done_s + len(self._placed) * self._now - self._began_s
        self.result.complete.append(Moment(self.result.trainings, seconds, self._now, acc, attack, kept))

    def _problems(self) -> Iterator[str]:
        """What a sweep that has ended must not have left."""
        yield from self.result.problems
        if self.book.trunks:
            yield f"{len(self.book.trunks)} trunks are left"
        if not self._agenda.is_done or self._placed or self._agenda.next() is not None:
            yield "the sweep is stuck"
        open_trials = [
            trial.number for trial in self._study.get_trials(deepcopy=False) if not trial.state.is_finished()
        ]
        if open_trials:
            yield f"the study has {len(open_trials)} open trials"
        trials = [record for record in self.book.records.values() if record.role == TRIAL]
        if len(trials) != len(self._study.get_trials(deepcopy=False)) or len(trials) != self._trials:
            yield f"{len(trials)} trials were begun, of {self._trials}"
        for record in self.book.records.values():
            yield from self._problems_of(record)

    def _problems_of(self, record: TrialRecord) -> Iterator[str]:
        name, statuses = record.trial_id, [state.status for state in record.trainings.values()]
        if record.status not in (FINISHED, PRUNED) or RUNNING in statuses:
            yield f"{name} is {record.status} with trainings that are {', '.join(sorted(set(statuses)))}"
        if (record.status == FINISHED) != all(status == FINISHED for status in statuses):
            yield f"{name} is {record.status}, which its trainings are not"
        left = record.status == PRUNED and not (self._reports and record.ended_by is None)
        if (record.ended_by is not None) != left:
            yield f"{name} is {record.status}, ended by {record.ended_by}"
        if self.book.ended[name, None] != 1 or self.book.ended[name, "announced"] != 1:
            yield f"{name} ended {self.book.ended[name, None]} times"
        for run, state in record.trainings.items():
            ends, lost = self.book.ended[name, run], self._losses[name, run]
            finished = state.status == FINISHED
            if finished != bool(record.final(run)) or ends != int(finished):
                yield f"{name} {run} is {state.status}, ended {ends} times"
            if (finished and state.attempt != lost + 1) or not lost <= state.attempt <= lost + 1:
                yield f"{name} {run} was begun {state.attempt} times, and lost {lost} times"


class Stopwatch:
    """Seconds of this core that studies and their samplers take."""

    def __init__(self) -> None:
        self.study_s = 0.0
        self._depth = 0

    @contextmanager
    def on_studies(self) -> Iterator[None]:
        """Measure whatever the agenda asks of studies and trials."""
        watched: list[tuple[Any, str]] = [
            (optuna.Study, "ask"), (optuna.Study, "tell"), (optuna.Study, "add_trial"),
            (optuna.Trial, "set_user_attr"), (optuna.Trial, "set_constraint"), (agenda_module, "suggest"),
        ]  # fmt: skip
        with ExitStack() as stack:
            for owner, name in watched:
                stack.enter_context(patch.object(owner, name, self._timed(getattr(owner, name))))
            yield

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            self._depth += 1
            began = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.study_s += time.thread_time() - began

        return timed


@contextmanager
def races_of(kind: type[Race]) -> Iterator[None]:
    """Let sweeps of this process run races of another kind."""
    with patch.object(racing_module, "Race", kind):
        yield
