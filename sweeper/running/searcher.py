"""Connects Ray Tune and Optuna: proposes trials and controls, and tells the study how each trial ended."""

from collections import deque
from collections.abc import Callable
from errno import ENOSPC
from typing import Any

import optuna
from optuna.samplers import PartialFixedSampler
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search_spaces.distributions import Searched, suggest
from sweeper.cluster.fleet import Fleet
from sweeper.cluster.losses import why_lost
from sweeper.cluster.retries import Decision, Retries
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
    TrialRecord,
    next_id,
)
from sweeper.running.ledger import Ledger
from sweeper.running.stopper import SweepStopper
from sweeper.search.pools import Pools
from sweeper.search.study import make_sampler, verdict
from sweeper.search.turns import assign
from trainers.errors import ConfigError
from trainers.scenario import ScenarioConfig
from trainers.storage.state_store import new_attempt
from trainers.trial import TrialConfig


class SweepSearcher(Searcher):
    """Asks a study for settings, and queues the control of each new scenario before the first trial that needs it.

    Ray's own OptunaSearch reports stopped trials as COMPLETE, leaves failed ones RUNNING and supports no constraints.

    Args:
        spec: the sweep.
        study: an open study; trials that wait in it come first.
        fingerprint: of the data.
        ledger: with the records of an earlier part of the sweep, whose unfinished trials continue under their ids.
            Every trial is written down there before it starts.
        stopper: knows why the sweep ends early.
        fleet: the hosts.
        trials: how many in all, controls not counted, earlier ones included.
        say: prints a message for the user, about hosts or trials that go on elsewhere.
    """

    def __init__(
        self,
        spec: SweepSpec,
        study: optuna.Study,
        fingerprint: str,
        ledger: Ledger,
        stopper: SweepStopper,
        fleet: Fleet,
        trials: int = 0,
        say: Callable[[str], None] = lambda _text: None,
    ):
        super().__init__()
        self._spec = spec
        self._study = study
        self._fingerprint = fingerprint
        self.ledger = ledger
        self.stopper = stopper
        self._fleet = fleet
        self._retries = Retries(spec.search.retries, fleet)
        self._running = 0
        self._say = say
        self._waits = False
        self._environments = spec.environments()
        self._sampler = study.sampler
        self._pools = Pools(study, lambda defense: make_sampler(spec, len(study.trials), defense))
        self._queue: deque[TrialRecord] = deque()
        self._open: dict[str, optuna.Trial] = {}
        self._untold: dict[str, TrialRecord] = {}
        self._undecided: list[tuple[TrialRecord, dict[str, Any]]] = []
        """Trials that broke off, and may be tried again, with their last results."""
        before = [*ledger.records.values(), *ledger.interrupted.values()]
        self._control_ids = {next(iter(r.controls.values())): r.trial_id for r in before if r.role == CONTROL}
        waiting = study.get_trials(deepcopy=False, states=[TrialState.WAITING])
        known = len(study.get_trials(deepcopy=False))
        # The points of a grid wait in the study already; they may be fewer than the trials asked for.
        grid = spec.search.sampler == "grid"
        self._to_ask = len(waiting) if grid else len(waiting) + max(trials - known, 0)
        for record in list(ledger.records.values()):
            self._queue_controls(record)
        for record in ledger.interrupted.values():
            if record.role == CONFIRMATION:
                self.add(TrialRecord(record.trial_id, CONFIRMATION, record.config, record.controls))

    def add(self, record: TrialRecord) -> None:
        """Queue a trial that does not come from the study, after the controls that it needs."""
        self._queue_controls(record)
        self._enqueue(record)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next job, for Ray; null while there is no room for one, ``Searcher.FINISHED`` if none is left."""
        if self.stopper.stop_all():  # while no trial runs, Ray calls nothing else
            return str(Searcher.FINISHED)
        self._settle()
        if self._is_full():
            return None
        with self.ledger.guard():
            while not self._queue and self._to_ask > 0 and not self.stopper.stop_all():
                self._ask()
        if not self._queue:  # a trial that runs may break off, and be tried again
            return None if self._running or self._undecided else str(Searcher.FINISHED)
        record = self._queue.popleft()
        assert record.config is not None
        self.ledger.hand_out(trial_id, record)
        self._running += 1
        with self.ledger.guard():
            record.attempt = new_attempt(self.ledger.states_of(record))
        job: dict[str, Any] = {"job": record.config.to_json(), "trial_id": record.trial_id, "role": record.role,
                               "attempt": record.attempt}  # fmt: skip
        avoided = self._retries.avoided_by(record)
        return job | ({"avoid": avoided} if avoided else {})

    def _is_full(self) -> bool:
        """Whether no further trial may run now; hosts may join and leave at any time."""
        if self._spec.search.workers is not None and self._running >= self._spec.search.workers:
            return True
        room = self._fleet.room()
        waits = not room and not self._running
        if waits and not self._waits:
            self._say("No host is left that has room for a trial; the sweep waits until one joins.")
        self._waits = waits
        return self._running >= room

    def _ask(self) -> None:
        """Ask the study for one trial, and queue it after those of its controls that have not run."""
        self._to_ask -= 1
        waiting = self._study.get_trials(deepcopy=False, states=[TrialState.WAITING])
        # Trials that wait in the study come first; their numbers give them the same part as when first proposed.
        number = waiting[0].number if waiting else len(self._study.get_trials(deepcopy=False))
        fixed = assign(self._environments, number, self._spec.turns())
        pool = self._pools.propose(number, **fixed) if DEFENSE in fixed else None
        # The sampler does not choose the fixed parameters; the study holds them beside those that it chose.
        self._study.sampler = PartialFixedSampler(fixed, self._sampler) if fixed else self._sampler
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
            trial.set_user_attr("error", str(error))
            self._study.tell(trial, state=TrialState.FAIL)
            self.ledger.add(record)
            self.ledger.end(record, FAILED, str(error))
            self.ledger.announce(record)
            return
        controls = {(s.name, r): self._control_of(config, s, r).key for s, r in config.runs()}
        self._open[trial_id] = trial
        self.add(TrialRecord(trial_id, TRIAL, config, controls, chosen))

    def _control_of(self, config: TrialConfig, scenario: ScenarioConfig, repeat: int) -> TrialConfig:
        return config.control(scenario, repeat, self._spec.control.as_dict())

    def _queue_controls(self, record: TrialRecord) -> None:
        """Queue the controls that a trial needs and that are neither run nor queued."""
        if record.config is None or record.role == CONTROL:
            return
        for scenario, repeat in record.config.runs():
            control = self._control_of(record.config, scenario, repeat)
            key = control.key
            if key not in self.ledger.control_asr:
                self.ledger.control_asr[key] = None
                control_id = self._control_ids.setdefault(key, next_id("c", self._control_ids.values()))
                self._enqueue(TrialRecord(control_id, CONTROL, control, {(scenario.name, repeat): key}))

    def _enqueue(self, record: TrialRecord) -> None:
        self.ledger.add(record)
        self._queue.append(record)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record the host of a report, whose keys Ray has flattened. Ray does not call this for a trial's last report.

        Only an epoch shows that the host works: trials may end there without any.
        """
        record = self.ledger.of(trial_id)
        if record is not None and result.get("host"):
            record.host = self._fleet.name(result["host"])
            if "finished" in result:
                self._fleet.worked(result["host"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record that a trial ended or broke off."""
        record = self.ledger.of(trial_id)
        if record is None or record.status != RUNNING:
            return
        self._running -= 1
        result = result or {}
        self.on_trial_result(trial_id, result)
        if error or "unusable" in result:
            self._undecided.append((record, result | {"lost": why_lost(trial_id)}))
            self._settle()
            return
        self._end(record, result)

    def _settle(self) -> None:
        """Requeue or end trials that broke off, as soon as that can be decided."""
        for undecided in list(self._undecided):
            record, result = undecided
            with self.ledger.guard():
                if "unusable" in result:
                    decision: Decision | None = self._retries.unusable(record, result["host"], result["unusable"])
                else:
                    decision = self._retries.decide(record, self.ledger.states_of(record), result["lost"])
                if decision is None:
                    continue
                self._undecided.remove(undecided)
                if decision.said:
                    self._say(decision.said)
                if decision.again and self.stopper.reason is None:
                    self._queue.appendleft(record)
                else:
                    self._end(record, result, None if decision.again else decision.reason)

    def _end(self, record: TrialRecord, result: dict[str, Any], crash: str | None = None) -> None:
        """End a trial in the ledger, the study and the followers. If one cannot be written, the others still are."""
        with self.ledger.guard():
            self._note_end(record, result, crash)
        if record.role == TRIAL:
            self._untold[record.trial_id] = record
        else:
            with self.ledger.guard():
                self.ledger.announce(record)
        with self.ledger.guard():
            self._tell_ready()

    def _note_end(self, record: TrialRecord, result: dict[str, Any], crash: str | None) -> None:
        """Record status and reason of an ended trial, from its last result or the reason of its crash."""
        if result.get("disk_full"):
            self.ledger.give_up(OSError(ENOSPC, result["disk_full"]))
        if crash is not None:
            self.ledger.end(record, FAILED, crash)
        elif result.get("disk_full"):
            self.ledger.end(record, FAILED, f"Not finished: {result['disk_full']}.", interrupted=True)
        elif result.get("error"):
            self.ledger.end(record, FAILED, str(result["error"]))
        elif result.get("finished") and self.ledger.broken is None:  # else its scores may not have been written
            self.ledger.end(record, FINISHED)
        elif self.stopper.reason is not None:
            self.ledger.end(record, FAILED, f"Not finished: {self.stopper.reason}.", interrupted=True)
        else:
            self.ledger.end(record, PRUNED)

    def _tell_ready(self) -> None:
        """Tell the study and the followers of each ended trial whose controls have ended too.

        A constraint may need the controls, and only they show whether the attack is weak.
        """
        running = {key for r in self.ledger.running() if r.role == CONTROL for key in r.controls.values()}
        for trial_id, record in list(self._untold.items()):
            if not running & set(record.controls.values()):
                del self._untold[trial_id]
                try:
                    self._tell(self._open.pop(trial_id), record)
                finally:
                    self.ledger.announce(record)

    def _tell(self, trial: optuna.Trial, record: TrialRecord) -> None:
        judged = verdict(self._spec, record, self.ledger.control_asr)
        if judged.state == TrialState.FAIL and record.status != FAILED:
            self.ledger.end(record, FAILED, judged.error)
        for name, note in judged.notes.items():
            trial.set_user_attr(name, note)
        for name, value in judged.constraints.items():
            trial.set_constraint(name, value)
        self._study.tell(trial, judged.values, state=judged.state)

    def abandon(self, reason: str) -> None:
        """End all trials that still run or wait, after the sweep was stopped early."""
        cut = self.ledger.running()
        for record in cut:
            self.ledger.end(record, FAILED, reason, interrupted=True)
        self._tell_ready()  # trials that ended, and only waited for a control
        for trial in self._open.values():
            trial.set_user_attr("error", reason)
            self._study.tell(trial, state=TrialState.FAIL)
        self._open.clear()
        for record in cut:
            self.ledger.announce(record)

    # Ray pickles the searcher into files of its own, which nobody reads: the study and the run folder replace them.

    def __getstate__(self) -> dict[str, Any]:
        """An empty state."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""
