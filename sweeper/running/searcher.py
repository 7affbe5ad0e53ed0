"""Between Ray Tune and Optuna: proposes trials and controls, and tells the study how each trial ended."""

from collections import deque
from collections.abc import Callable, Mapping
from errno import ENOSPC
from typing import Any

import optuna
from optuna.samplers import PartialFixedSampler
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search_spaces.distributions import Searched, suggest
from sweeper.cluster.fleet import Fleet
from sweeper.cluster.retries import Retries
from sweeper.preset.blocks import DEFENSE
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import (
    CONFIRMATION,
    CONTROL,
    FAILED,
    FINISHED,
    PRUNED,
    RUNNING,
    TRIAL,
    TrialRecord,
    control_success,
    next_id,
)
from sweeper.running.stopper import SweepStopper
from sweeper.search.pools import Pools
from sweeper.search.study import make_sampler, verdict
from sweeper.search.turns import deal
from trainers.errors import ConfigError
from trainers.scenario import ScenarioConfig
from trainers.storage.object_store import Place
from trainers.storage.state_store import new_attempt
from trainers.trial import TrialConfig


class SweepSearcher(Searcher):
    """Asks a study for settings, and puts the control of each new scenario in front of the first trial that needs it.

    Ray's own OptunaSearch tells stopped trials as COMPLETE, leaves failed ones RUNNING and knows no constraints.

    Args:
        spec: the sweep.
        study: an open study; what waits in it is asked for first.
        fingerprint: of the data.
        folder: the run folder; every trial is written down there before it starts.
        stopper: knows why the sweep ends early.
        fleet: the hosts.
        records: of an earlier part of the sweep. Trials that did not end then go on under their ids.
        budget: trials in all, controls not counted, earlier ones included.
    """

    def __init__(
        self,
        spec: SweepSpec,
        study: optuna.Study,
        fingerprint: str,
        folder: RunFolder,
        stopper: SweepStopper,
        fleet: Fleet,
        records: Mapping[str, TrialRecord] | None = None,
        budget: int | None = None,
    ):
        super().__init__()
        self._spec = spec
        self._study = study
        self._fingerprint = fingerprint
        self._folder = folder
        self._stopper = stopper
        self._fleet = fleet
        self._retries = Retries(spec.search.retries, fleet)
        self._running = 0
        self.say: Callable[[str], None] = lambda _text: None
        """Tells the user of trials that go on elsewhere, and of hosts."""
        self._waits = False
        self._environments = spec.environments()
        self._sampler = study.sampler
        self._pools = Pools(study, lambda defense: make_sampler(spec, len(study.trials), defense))
        self._queue: deque[TrialRecord] = deque()
        self._open: dict[str, optuna.Trial] = {}
        self._untold: dict[str, TrialRecord] = {}
        self.by_ray_id: dict[str, TrialRecord] = {}
        self.refused: deque[TrialRecord] = deque()
        before = dict(records or {})
        self.records: dict[str, TrialRecord] = {name: r for name, r in before.items() if not r.open}
        self._interrupted = {name: r for name, r in before.items() if r.open}
        self._control_ids = {next(iter(r.controls.values())): r.trial_id for r in before.values() if r.role == CONTROL}
        self.control_asr: dict[str, float | None] = control_success(self.records.values())
        waiting = study.get_trials(deepcopy=False, states=[TrialState.WAITING])
        known = len(study.get_trials(deepcopy=False))
        # A grid stands in the study already, and may be smaller than the number of trials asked for.
        grid = spec.search.sampler == "grid"
        self._to_ask = len(waiting) if grid else len(waiting) + max((budget or 0) - known, 0)
        self.budget = known - len(waiting) + self._to_ask
        """Trials of the whole sweep, controls not counted."""
        for record in list(self.records.values()):
            self._queue_controls(record)
        for record in self._interrupted.values():
            if record.role == CONFIRMATION:
                self.add(TrialRecord(record.trial_id, CONFIRMATION, record.config, record.controls))

    def add(self, record: TrialRecord) -> None:
        """Queue a trial that nobody asked the study for, behind the controls that it needs."""
        self._queue_controls(record)
        self._enqueue(record)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next job; null while there is no room for it, or that there is none left. Ray calls this."""
        if self._stopper.stop_all():  # with nothing running, Ray asks for nothing else
            return str(Searcher.FINISHED)
        if self._is_full():
            return None
        with self._stopper.guard():
            while not self._queue and self._to_ask > 0:
                self._ask()
        if not self._queue:  # what runs may break off, and be tried again
            return None if self._running else str(Searcher.FINISHED)
        record = self._queue.popleft()
        assert record.config is not None
        self.by_ray_id[trial_id] = record
        self._running += 1
        with self._stopper.guard():
            record.attempt = new_attempt(self._states(record))
        job: dict[str, Any] = {"job": record.config.to_json(), "trial_id": record.trial_id, "role": record.role,
                               "attempt": record.attempt}  # fmt: skip
        avoided = self._retries.avoided_by(record)
        return job | ({"avoid": avoided} if avoided else {})

    def _is_full(self) -> bool:
        """Whether as many trials run as may: hosts may join and leave meanwhile."""
        if self._spec.search.workers is not None and self._running >= self._spec.search.workers:
            return True
        room = self._fleet.room()
        waits = not room and not self._running
        if waits and not self._waits:
            self.say("No host is left that has room for a trial; the sweep waits until one joins.")
        self._waits = waits
        return self._running >= room

    def _ask(self) -> None:
        """Ask the study for one trial, and queue it behind the controls that it needs and nobody has run."""
        self._to_ask -= 1
        waiting = self._study.get_trials(deepcopy=False, states=[TrialState.WAITING])
        # What waits in the study is asked for first, and was dealt its part when it was first proposed.
        number = waiting[0].number if waiting else len(self._study.get_trials(deepcopy=False))
        fixed = deal(self._environments, number, self._spec.turns())
        pool = self._pools.propose(number, **fixed) if DEFENSE in fixed else None
        # The sampler does not choose the attacker's parameters; they stand in the study beside what it chose.
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
            record.end(FAILED, str(error))
            trial.set_user_attr("error", str(error))
            self._study.tell(trial, state=TrialState.FAIL)
            self._keep(record)
            self.refused.append(record)
            return
        controls = {(s.name, r): self._control_of(config, s, r).key for s, r in config.runs()}
        self._open[trial_id] = trial
        self.add(TrialRecord(trial_id, TRIAL, config, controls, chosen))

    def _control_of(self, config: TrialConfig, scenario: ScenarioConfig, repeat: int) -> TrialConfig:
        return config.control(scenario, repeat, self._spec.control.as_dict())

    def _queue_controls(self, record: TrialRecord) -> None:
        """Queue the controls that a trial needs and nobody has run or queued."""
        if record.config is None or record.role == CONTROL:
            return
        for scenario, repeat in record.config.runs():
            control = self._control_of(record.config, scenario, repeat)
            key = control.key
            if key not in self.control_asr:
                self.control_asr[key] = None
                control_id = self._control_ids.setdefault(key, next_id("c", self._control_ids.values()))
                self._enqueue(TrialRecord(control_id, CONTROL, control, {(scenario.name, repeat): key}))

    def _enqueue(self, record: TrialRecord) -> None:
        before = self._interrupted.get(record.trial_id)
        if before is not None:
            record.began_at = before.began_at
        self._keep(record)
        self._queue.append(record)

    def _keep(self, record: TrialRecord) -> None:
        self.records[record.trial_id] = record
        self._folder.write_record(record)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take note of an end. Ray calls this before the callbacks, which then find the record up to date."""
        record = self.by_ray_id.get(trial_id)
        if record is None or record.status != RUNNING:
            return
        self._running -= 1
        with self._stopper.guard():
            result = result or {}
            reason = None
            if error or "unfit" in result:
                decision = (
                    self._retries.unfit(record, result["host"], result["unfit"]) if "unfit" in result
                    else self._retries.decide(record, self._states(record))
                )  # fmt: skip
                if decision.said:
                    self.say(decision.said)
                if decision.again and self._stopper.reason is None:
                    self._queue.appendleft(record)
                    return
                reason = None if decision.again else decision.reason
            self._end(record, result, reason)
            if record.role == CONTROL:
                self.control_asr |= control_success([record])
            elif record.role == TRIAL:
                self._untold[record.trial_id] = record
            self._folder.write_record(record)
            self._tell_ready()

    def got_on(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """A trial reported from its host. Only an epoch speaks for the host: trials may end there without any."""
        if result.get("host"):
            record.host = self._fleet.name(result["host"])
            if "figures" in result:
                self._fleet.worked(result["host"])

    def _states(self, record: TrialRecord) -> Place:
        return self._folder.states / record.trial_id

    def _end(self, record: TrialRecord, result: dict[str, Any], crash: str | None) -> None:
        """Note status and reason of an ended trial, from its last result, or from why it crashed."""
        if crash is not None:
            record.end(FAILED, crash)
        elif result.get("disk_full"):
            self._stopper.give_up(OSError(ENOSPC, result["disk_full"]))
            record.end(FAILED, f"Not finished: {result['disk_full']}.", interrupted=True)
        elif result.get("error"):
            record.end(FAILED, str(result["error"]))
        elif self._stopper.broken is not None:  # its scores may not have been written
            record.end(FAILED, f"Not finished: {self._stopper.reason}.", interrupted=True)
        elif result.get("finished"):
            record.end(FINISHED)
        elif self._stopper.reason:
            record.end(FAILED, f"Not finished: {self._stopper.reason}.", interrupted=True)
        else:
            record.end(PRUNED)

    def _tell_ready(self) -> None:
        """Tell the study each ended trial whose controls have ended too: a constraint may ask for them."""
        running = {key for r in self.records.values() if r.role == CONTROL and r.status == RUNNING
                   for key in r.controls.values()}  # fmt: skip
        for trial_id, record in list(self._untold.items()):
            if not running & set(record.controls.values()):
                del self._untold[trial_id]
                self._tell(self._open.pop(trial_id), record)

    def _tell(self, trial: optuna.Trial, record: TrialRecord) -> None:
        found = verdict(self._spec, record, self.control_asr)
        if found.state == TrialState.FAIL and record.status != FAILED:
            record.end(FAILED, found.error)
            self._folder.write_record(record)
        for name, note in found.notes.items():
            trial.set_user_attr(name, note)
        for name, value in found.constraints.items():
            trial.set_constraint(name, value)
        self._study.tell(trial, found.values, state=found.state)

    def abandon(self, reason: str) -> list[TrialRecord]:
        """End what still runs or waits, after the sweep was cut short; returns the records concerned."""
        cut = [record for record in self.records.values() if record.status == RUNNING]
        for record in cut:
            record.end(FAILED, reason, interrupted=True)
            self._folder.write_record(record)
        self._tell_ready()  # trials that ended, and only waited for a control
        for trial in self._open.values():
            trial.set_user_attr("error", reason)
            self._study.tell(trial, state=TrialState.FAIL)
        self._open.clear()
        return cut

    # Ray pickles the searcher into files of its own, which nobody reads: the study and the run folder are ours.

    def __getstate__(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
