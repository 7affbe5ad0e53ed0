"""The agenda of a sweep: which training comes next, and what the end of one means for its trial and for the others."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from search_spaces.distributions import Searched, suggest
from sweeper.preset.blocks import DEFENSE
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import (
    CONFIRMATION,
    CONTROL,
    FAILED,
    FINISHED,
    PRUNED,
    RUNNING,
    TRIAL,
    RunKey,
    Training,
    TrialRecord,
    next_id,
)
from sweeper.search.early_stopping import EarlyStopping
from sweeper.search.gain import WAITING, gain
from sweeper.search.pools import Pools
from sweeper.search.race import Leaving, Race, Row, Run
from sweeper.search.racing import Racing, control_figures
from sweeper.search.siblings import SiblingSampler
from sweeper.search.study import UNDEFINED, make_sampler, verdict
from sweeper.search.trunks import Share, Trunks
from sweeper.search.turns import assign
from trainers.errors import ConfigError
from trainers.scenario import ScenarioConfig
from trainers.seeding import derive_seed
from trainers.trial import TrialConfig


class Book(Protocol):
    """Keeps the records of a sweep. Nothing that goes wrong while it writes is raised."""

    records: dict[str, TrialRecord]
    """By trial id: trials that have ended, and those that this sweep has begun."""
    interrupted: dict[str, TrialRecord]
    """By trial id: trials that an earlier part of the sweep left open."""
    control_asr: dict[str, float | None]
    """Attack success of each control, by key of its configuration; null unless it has finished."""

    def add(self, record: TrialRecord) -> None:
        """Note a trial or control that is to run."""

    def update(self, record: TrialRecord) -> None:
        """Note that a training of a trial that goes on has ended."""

    def end(self, record: TrialRecord, status: str, error: str | None = None, interrupted: bool = False) -> None:
        """Note how a trial ended."""

    def announce(self, record: TrialRecord) -> None:
        """Tell of the end of a trial, once the study knows it."""

    def remove_trunk(self, file: str) -> None:
        """Remove the file of a trunk that nobody needs any more."""


@dataclass
class _Open:
    """A trial, control or confirmation that has not ended.

    Args:
        record: of it.
        race: of a trial; null for what runs whole.
        trial: of the study; null if the study did not propose it.
        running: trainings that have begun and not ended.
    """

    record: TrialRecord
    race: Race | None = None
    trial: optuna.Trial | None = None
    running: dict[RunKey, Training] = field(default_factory=dict)


class Agenda:
    """Asks a study for settings, races their trainings, and queues the control of each new scenario first.

    It knows nothing of hosts and files: a sweep drives it with Ray Tune, and a simulation with a virtual clock.

    Args:
        spec: the sweep.
        study: an open study; trials that wait in it come first.
        fingerprint: of the data.
        book: with the records of an earlier part of the sweep, whose unfinished trials continue under their ids.
        trials: how many in all, controls not counted, earlier ones included.
    """

    def __init__(self, spec: SweepSpec, study: optuna.Study, fingerprint: str, book: Book, trials: int = 0):
        self._spec = spec
        self._study = study
        self._fingerprint = fingerprint
        self._book = book
        self._environments = spec.environments()
        self._sampler = study.sampler
        known = study.get_trials(deepcopy=False)
        self._pools = Pools(study.directions, lambda defense: make_sampler(spec, len(known), defense), known)
        self._waiting = deque(trial.number for trial in known if trial.state == TrialState.WAITING)
        self._asked = len(known)
        # The points of a grid wait in the study already; they may be fewer than the trials asked for.
        grid = spec.search.sampler == "grid"
        self._to_ask = len(self._waiting) if grid else len(self._waiting) + max(trials - len(known), 0)
        self._again: deque[Training] = deque()
        self._first: deque[Training] = deque()
        """Controls that have not begun."""
        self._idle: list[_Open] = []
        """Trials of which nothing runs, those first that have waited longest."""
        self._open: dict[str, _Open] = {}
        self._untold: dict[str, _Open] = {}
        """Trials that have ended, and wait for their controls until the study is told."""
        before = [*book.records.values(), *book.interrupted.values()]
        self._control_ids = {next(iter(r.controls.values())): r.trial_id for r in before if r.role == CONTROL}
        self._controls: dict[str, Row] = control_figures(book.records.values())
        self._racing = Racing(spec)
        self._trunks = Trunks(spec)
        for record in sorted(before, key=lambda record: (len(record.trial_id), record.trial_id)):
            self._trunks.learn(record)
            if record.open:
                self._trunks.take_up(record)
        for record in book.interrupted.values():
            if record.role == CONTROL:  # also if no trial needs it any more: else its sweep would never be complete
                self._queue(TrialRecord(record.trial_id, CONTROL, record.config, record.controls))
        self._racing.relearn(before, self._controls)
        self._early = EarlyStopping(spec, self._racing, self._trunks)
        self._early.relearn(before)
        for record in list(book.records.values()):
            for run, state in record.trainings.items():
                if not spec.attacking or state.status == FINISHED:
                    self._queue_control(record, run)
        for record in book.interrupted.values():
            if record.role == CONFIRMATION:
                self.add(TrialRecord(record.trial_id, CONFIRMATION, record.config, record.controls))

    @property
    def is_done(self) -> bool:
        """Whether every trial has ended, and none is left to propose."""
        return not (self._open or self._to_ask)

    def add(self, record: TrialRecord) -> None:
        """Take up a trial that does not come from the study, after the controls that it needs. It runs whole."""
        self._go_on(record)
        for run in record.trainings:
            self._queue_control(record, run)
        self._take_up(_Open(record))

    def next(self) -> Training | None:
        """The training that begins now; null if there is none, until one ends.

        What broke off comes first, then controls, then trials that run whole or have not begun, then a new trial, until
        enough races wait with some of their trainings run; then the most promising of these goes on. So a few more
        races are open than trainings run at once. When no trial is left to propose, races give several trainings.
        """
        self._again = deque(
            one for one in self._again if one.state.status == RUNNING
        )  # the trials of others have ended
        for training in self._again:
            if not self._trunks.waits(training):
                self._again.remove(training)
                return self._begin(training)
        while True:
            if self._first:
                return self._begin(self._first.popleft())
            ready, waiting = self._idle_ones()
            fresh = next((own for own in ready if _last_ended(own) is None), None)  # it has not begun, or runs whole
            wanted = max(WAITING * self._trunks.alike, 1)
            if fresh is None and len(ready) < wanted and self._to_ask and not self._trunks.are_enough(waiting):
                self._ask()
                continue
            own = fresh or max(ready, key=self._gain, default=None)
            if own is None:
                return self._next_ahead()
            self._idle.remove(own)
            run = self._waiting_of(own)
            assert run is not None
            return self._begin_of(own, run)

    def again(self, training: Training) -> None:
        """Take up a training again that broke off, before everything else."""
        if training.state.status == RUNNING:
            self._again.append(training)

    def ended(self, training: Training, status: str, error: str | None = None) -> list[Training]:
        """Take note that a training ended, with its figures in its record.

        Args:
            training: from :meth:`next`.
            status: FINISHED or FAILED.
            error: why it failed.

        Returns:
            Trainings of the same trial that nobody needs any more, and that are to be stopped. They have ended already.
        """
        own = self._open.get(training.record.trial_id)
        if own is None or training.state.status != RUNNING:
            return []
        own.running.pop(training.run, None)
        training.record.end_training(training.run, status, error)
        self._trunks.ended(training.record, [training.run])
        if own.record.role == CONTROL:
            self._end(own, status, error)
            return []
        left: Leaving | None = None
        if own.race is not None and status == FINISHED:
            figures = self._racing.figures(own.record, training.run, self._controls)
            own.race.ended[Run(*training.run)] = figures
            self._racing.learn_training(training.run[0], figures)
            left = self._leaves(own, training.run[0])
        if left is not None:
            return self._leave(own, left)
        if status != FINISHED:
            one = len(own.record.trainings) == 1
            return self._end(own, status, error if one or error is None else f"{_named(training.run)}: {error}")
        if all(state.status == FINISHED for state in own.record.trainings.values()):
            return self._end(own, FINISHED)
        self._book.update(own.record)
        if not own.running:
            self._idle.append(own)
        return []

    def trunk_of(self, training: Training) -> Share | None:
        """The trunk that a training shares with others, and begins at if it is there; null if it shares none."""
        trunk = self._trunks.of(training)
        return trunk if trunk is not None and self._trunks.is_needed(trunk.file, self._to_ask > 0) else None

    def trunk_passed(self, training: Training, is_kept: bool) -> None:
        """Take note that a training has come to the end of its trunk, and whether that is kept for others."""
        self._trunks.passed(training, is_kept)
        self._remove_trunks()

    def trunk_gone(self, training: Training) -> None:
        """Take note that the trunk of a training that is beyond it is not there any more: another one trains it."""
        self._trunks.gone(training)

    def trunks_needed(self) -> set[str]:
        """Files of the trunks of an earlier part of the sweep that are still of use."""
        return self._trunks.needed([*self._book.records.values(), *self._book.interrupted.values()], self._to_ask > 0)

    def _remove_trunks(self) -> None:
        for file in self._trunks.unneeded(self._to_ask > 0):
            self._book.remove_trunk(file)

    def abandon(self, reason: str) -> None:
        """End everything that has not ended, after the sweep was stopped early."""
        cut = list(self._open.values())
        for own in cut:
            self._book.end(own.record, FAILED, reason, interrupted=True)
        self._open.clear()
        self._first.clear()
        self._idle.clear()
        self._again.clear()
        self._to_ask = 0
        try:
            self._tell_ready()  # trials that ended, and only waited for a control
            for own in cut:
                if own.trial is not None:
                    own.trial.set_user_attr("error", reason)
                    self._study.tell(own.trial, state=TrialState.FAIL)
        finally:
            for own in cut:
                self._book.announce(own.record)

    # Proposing

    def _ask(self) -> None:
        """Ask the study for one trial, and take it up after those of its controls that have not run."""
        self._to_ask -= 1
        # Trials that wait in the study come first; their numbers give them the same part as when first proposed.
        number = self._waiting.popleft() if self._waiting else self._asked
        self._asked = max(self._asked, number + 1)
        assigned = assign(self._environments, self._trunks.group_of(number), self._spec.turns())
        shared, free = self._trunks.proposal(number)
        # The sampler does not choose the fixed parameters; the study holds them beside those that it chose.
        fixed = assigned | shared

        def beside(base: BaseSampler) -> BaseSampler:
            return SiblingSampler(fixed, base, free, derive_seed(self._spec.seed, "siblings", number))

        pool = self._pools.propose(number, assigned[DEFENSE], beside) if DEFENSE in assigned else None
        self._study.sampler = beside(self._sampler) if fixed or free else self._sampler
        trial = self._study.ask()
        trial_id = f"t{trial.number:04d}"
        trial.set_user_attr("trial_id", trial_id)
        chosen: dict[str, Any] = {}

        def choose(name: str, searched: Searched) -> Any:
            if name not in chosen:
                if pool is not None and name != DEFENSE:
                    fixed.setdefault(name, suggest(pool, name, searched))
                chosen[name] = suggest(trial, name, searched)
            return chosen[name]

        try:
            config = self._spec.trial(choose, self._fingerprint)
        except ConfigError as error:
            record = TrialRecord(trial_id, TRIAL, None, {}, chosen)
            self._trunks.learn(record)
            trial.set_user_attr("error", str(error))
            self._pools.tell(self._study.tell(trial, state=TrialState.FAIL))
            self._book.add(record)
            self._book.end(record, FAILED, str(error))
            self._book.announce(record)
            return
        ended = self._book.records.get(trial_id)
        if ended is not None:  # in an earlier part of the sweep, and its controls did not
            own = _Open(ended, self._racing.race(ended, self._controls), trial)
            self._untold[trial_id] = own
            if self._controls_ended(ended):
                self._tell(own)
            return
        controls = {(s.name, r): self._control_of(config, s, r).key for s, r in config.runs()}
        record = TrialRecord(trial_id, TRIAL, config, controls, chosen)
        self._go_on(record)
        if trial_id not in self._book.interrupted:
            self._trunks.learn(record)
        self._trunks.take_up(record)
        for run in () if self._spec.attacking else record.trainings:
            self._queue_control(record, run)
        race = self._racing.race(record, self._controls) if self._spec.race is not None else None
        self._take_up(_Open(record, race, trial))

    def _go_on(self, record: TrialRecord) -> None:
        """Give a trial that an earlier part of the sweep left open the trainings that finished there."""
        before = self._book.interrupted.get(record.trial_id)
        if before is None or before.config is None or before.config != record.config:
            return
        for run, state in before.trainings.items():
            if state.status == FINISHED and before.final(run):
                record.trainings[run], record.epochs[run] = state, before.epochs[run]
                record.facts[run] = before.facts.get(run, {})

    def _take_up(self, own: _Open) -> None:
        self._book.add(own.record)
        self._open[own.record.trial_id] = own
        if all(state.status == FINISHED for state in own.record.trainings.values()):
            self._end(own, FINISHED)  # the sweep ended just before this was written down
        elif own.record.role == CONTROL:
            self._first += [Training(own.record, run) for run in own.record.trainings]
        else:
            self._idle.append(own)

    # Controls

    def _control_of(self, config: TrialConfig, scenario: ScenarioConfig, repeat: int) -> TrialConfig:
        return config.control(scenario, repeat, self._spec.control.as_dict())

    def _queue_control(self, record: TrialRecord, run: RunKey) -> None:
        """Queue the control of a training, if it has neither run nor been queued."""
        key = record.controls.get(run)
        if record.role == CONTROL or record.config is None or key is None or key in self._book.control_asr:
            return
        scenario = next(s for s, seed in record.runs if (s.name, seed) == run)
        control_id = self._control_ids.setdefault(key, next_id("c", self._control_ids.values()))
        config = self._control_of(record.config, scenario, run[1])
        self._queue(TrialRecord(control_id, CONTROL, config, {run: key}))

    def _queue(self, control: TrialRecord) -> None:
        self._book.control_asr |= dict.fromkeys(control.controls.values())
        self._go_on(control)
        self._take_up(_Open(control))

    # Racing

    def _idle_ones(self) -> tuple[list[_Open], int]:
        """Trials of which nothing runs, and that may go on; and how many others wait for their trunks."""
        ready = []
        for own in list(self._idle):
            last = _last_ended(own)
            left = self._leaves(own, last) if last is not None else None
            if left is not None:
                self._idle.remove(own)
                self._leave(own, left)
            elif self._waiting_of(own) is not None:
                ready.append(own)
        return ready, len(self._idle) - len(ready)

    def _gain(self, own: _Open) -> tuple[float, int]:
        """What a trial would add; of two that would add the same, the one that has run more comes first."""
        assert own.race is not None
        return gain(own.race, self._racing.candidates(own.race.group)), len(own.race.ended)

    def _next_ahead(self) -> Training | None:
        """One more training of the open trial of which the fewest run."""
        for own in sorted(self._open.values(), key=lambda own: len(own.running)):
            run, last = self._waiting_of(own), _last_ended(own)
            # One that would leave now gets no more trainings; it leaves when one of those that run has ended.
            if run is not None and (last is None or self._leaves(own, last) is None):
                return self._begin_of(own, run)
        return None

    def _waiting_of(self, own: _Open) -> RunKey | None:
        """The training of a trial that comes next; null if all have begun, or wait for their trunks."""
        if own.record.role == CONTROL:
            return None
        left = [run for run, state in own.record.trainings.items() if state.status == RUNNING]
        held = [run for run in left if run in own.running or self._trunks.waits(Training(own.record, run))]
        if own.race is not None:
            return own.race.next(self._racing.experience, [Run(*run) for run in held])
        return next((run for run in left if run not in held), None)

    def _begin_of(self, own: _Open, run: RunKey) -> Training:
        """Begin a training, after its control.

        In an attacker's sweep each trial has scenarios of its own. Their controls are queued only here, since a trial
        that leaves its race does not need all of them.
        """
        training = Training(own.record, (run[0], run[1]))
        if self._spec.attacking:
            self._queue_control(own.record, training.run)
        if not self._first:
            return self._begin(training)
        own.running[training.run] = training
        self._again.append(training)
        return self._begin(self._first.popleft())

    def _begin(self, training: Training) -> Training:
        own = self._open[training.record.trial_id]
        own.running[training.run] = training
        self._trunks.begun(training)
        return training

    def _leaves(self, own: _Open, last: str) -> Leaving | None:
        if own.race is None:
            return None
        return own.race.leaves(self._racing.candidates(own.race.group), self._racing.experience, last)

    def _leave(self, own: _Open, left: Leaving) -> list[Training]:
        own.record.ended_by = left.scenario
        return self._end(own, PRUNED, left.reason)

    # Early stopping

    def reported(self, training: Training, figures: Mapping[str, Any]) -> list[Training]:
        """Take note of an epoch, whose figures its record has; one that falls behind ends its trial.

        Returns:
            Trainings of the trial that are to be stopped, this one among them. They have ended already.
        """
        own = self._open.get(training.record.trial_id)
        if own is None or training.state.status != RUNNING:
            return []
        reason = self._early.reported(training, figures)
        return [] if reason is None else self._end(own, PRUNED, reason)

    # Endings

    def _end(self, own: _Open, status: str, error: str | None = None) -> list[Training]:
        """End a trial; returns its trainings that are to be stopped."""
        record = own.record
        del self._open[record.trial_id]
        running = list(own.running.values())
        self._trunks.ended(record, record.trainings)
        self._remove_trunks()
        if record.role == TRIAL and status == FINISHED and self._is_undefined(record):
            status, error = FAILED, UNDEFINED
        self._book.end(record, status, error)
        if record.role == CONTROL:
            self._learn_control(record)
            self._book.announce(record)
            self._tell_ready()
        elif record.role == TRIAL:
            self._untold[record.trial_id] = own
            if self._controls_ended(record):
                self._tell(own)
        else:
            self._book.announce(record)
        return running

    def _is_undefined(self, record: TrialRecord) -> bool:
        """Whether an objective is undefined for a trial whose trainings have finished."""
        rows = list(self._racing.race(record, self._controls).ended.values())
        return any(objective.value(rows) is None for objective in self._spec.objectives)

    def _learn_control(self, record: TrialRecord) -> None:
        if record.status == FINISHED:
            self._controls |= control_figures([record])
            for own in (*self._open.values(), *self._untold.values()):
                if own.race is not None:
                    self._racing.learn_controls(own.race, own.record, self._controls)

    def _controls_ended(self, record: TrialRecord) -> bool:
        running = {
            key for own in self._open.values() if own.record.role == CONTROL for key in own.record.controls.values()
        }
        return not running & set(record.controls.values())

    def _tell_ready(self) -> None:
        """Tell the study of each ended trial whose controls have ended too.

        A constraint may need the controls, and only they show whether the attack is weak.
        """
        for own in list(self._untold.values()):
            if self._controls_ended(own.record):
                self._tell(own)

    def _tell(self, own: _Open) -> None:
        record = own.record
        del self._untold[record.trial_id]
        race = own.race or self._racing.race(record, self._controls)
        try:
            judged = verdict(self._spec, record, race)
            self._racing.learn_end(record, race, self._controls)
            trial = own.trial
            assert trial is not None
            for name, note in judged.notes.items():
                trial.set_user_attr(name, note)
            for name, value in judged.constraints.items():
                trial.set_constraint(name, value)
            self._pools.tell(self._study.tell(trial, judged.values, state=judged.state))
        finally:
            self._book.announce(record)


def _last_ended(own: _Open) -> str | None:
    """The scenario of a trial's training that finished last; null if none has."""
    return None if own.race is None or not own.race.ended else next(reversed(own.race.ended)).scenario


def _named(run: RunKey) -> str:
    return f"{run[0]}, seed {run[1]}"
