"""Between Ray Tune and Optuna: proposes trials and controls, and tells the study how each trial ended."""

from collections import deque
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import PartialFixedSampler
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search_spaces.distributions import Searched, suggest
from sweeper.environment import deal
from sweeper.records import FAILED, FINISHED, PRUNED, TrialRecord
from sweeper.spec import SweepSpec
from sweeper.stopping import SweepStopper
from sweeper.worker import CRASH_FILE, attempts
from trainers.errors import ConfigError


class SweepSearcher(Searcher):
    """Asks a study for settings, and puts the control of each new scenario in front of the first trial that needs it.

    Ray's own OptunaSearch tells stopped trials as COMPLETE, leaves failed ones RUNNING and knows no constraints.

    Args:
        spec: the sweep.
        study: an open study.
        fingerprint: of the data.
        states: folder of the trials' states, where a crash leaves its reason.
        stopper: knows why the sweep ends early.
    """

    def __init__(self, spec: SweepSpec, study: optuna.Study, fingerprint: str, states: Path, stopper: SweepStopper):
        super().__init__()
        self._spec = spec
        self._study = study
        self._fingerprint = fingerprint
        self._states = states
        self._stopper = stopper
        self._environment = spec.environment()
        self._sampler = study.sampler
        self._budget = len(study.trials) or spec.search.trials  # a grid is in the study already
        self._asked = 0
        self._queue: deque[TrialRecord] = deque()
        self._open: dict[str, optuna.Trial] = {}
        self._untold: dict[str, TrialRecord] = {}
        self.records: dict[str, TrialRecord] = {}
        self.by_ray_id: dict[str, TrialRecord] = {}
        self.control_asr: dict[str, float | None] = {}
        self.refused: dict[str, str] = {}

    @property
    def budget(self) -> int:
        """Trials that will be run, controls not counted."""
        return self._budget

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next job, or that there is none left. Ray calls this."""
        while not self._queue:
            if self._asked >= self._budget:
                return str(Searcher.FINISHED)
            self._ask()
        record = self._queue.popleft()
        self.records[record.trial_id] = record
        self.by_ray_id[trial_id] = record
        return {"job": record.config.to_json(), "trial_id": record.trial_id, "role": record.role}

    def _ask(self) -> None:
        """Ask the study for one trial, and queue it behind the controls that it needs and nobody has run."""
        number = self._asked
        self._asked += 1
        fixed = deal(self._environment, number)
        # The sampler does not choose the attacker's parameters; they stand in the study beside what it chose.
        self._study.sampler = PartialFixedSampler(fixed, self._sampler) if fixed else self._sampler
        trial = self._study.ask()
        trial_id = f"t{number:04d}"
        chosen: dict[str, Any] = {}

        def choose(name: str, searched: Searched) -> Any:
            if name not in chosen:
                chosen[name] = suggest(trial, name, searched)
            return chosen[name]

        try:
            config = self._spec.trial(choose, self._fingerprint)
        except ConfigError as error:
            self.refused[trial_id] = str(error)
            trial.set_user_attr("error", str(error))
            self._study.tell(trial, state=TrialState.FAIL)
            return
        trial.set_user_attr("trial_id", trial_id)
        controls = {}
        for scenario, repeat in config.runs():
            control = config.control(scenario, repeat, self._spec.control.as_dict())
            controls[scenario.name, repeat] = key = control.key
            if key not in self.control_asr:
                self.control_asr[key] = None
                control_id = f"c{len(self.control_asr) - 1:04d}"
                self._queue.append(TrialRecord(control_id, "control", control, {(scenario.name, repeat): key}))
        self._open[trial_id] = trial
        self._queue.append(TrialRecord(trial_id, "trial", config, controls, chosen))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take note of an end. Ray calls this before the callbacks, which then find the record up to date."""
        record = self.by_ray_id.get(trial_id)
        if record is None:
            return
        result = result or {}
        record.attempt = result.get("attempt") or attempts(self._states / record.trial_id) or record.attempt
        record.status, record.error = self._ending(record, result, error)
        if record.role == "control":
            key = next(iter(record.controls.values()))
            if record.status == FINISHED:
                self.control_asr[key] = record.final(next(iter(record.controls))).get("val_asr")
        else:
            self._untold[record.trial_id] = record
        self._tell_ready()

    def _ending(self, record: TrialRecord, result: dict[str, Any], crashed: bool) -> tuple[str, str | None]:
        """Status and reason of an ended trial, from its last result."""
        if crashed:
            note = self._states / record.trial_id / CRASH_FILE
            return (
                FAILED,
                note.read_text() if note.exists() else "The worker died without a word; Ray's logs may tell why.",
            )
        if result.get("error"):
            return FAILED, str(result["error"])
        if result.get("finished"):
            return FINISHED, None
        if self._stopper.reason:
            return FAILED, f"Not finished: {self._stopper.reason}."
        return PRUNED, None

    def _tell_ready(self) -> None:
        """Tell the study each ended trial whose controls have ended too: a constraint may ask for them."""
        running = {key for r in self.records.values() if r.role == "control" and r.status == "RUNNING"
                   for key in r.controls.values()}  # fmt: skip
        for trial_id, record in list(self._untold.items()):
            if not running & set(record.controls.values()):
                del self._untold[trial_id]
                self._tell(self._open.pop(trial_id), record)

    def _tell(self, trial: optuna.Trial, record: TrialRecord) -> None:
        if record.error:
            trial.set_user_attr("error", record.error)
        if record.status == PRUNED:
            self._study.tell(trial, state=TrialState.PRUNED)
            return
        if record.status == FAILED:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        rows = record.rows(self.control_asr)
        values = [objective.value(rows) for objective in self._spec.objectives]
        for index, constraint in enumerate(self._spec.constraints):
            trial.set_constraint(f"{index}-{constraint.metric}", constraint.violation(rows))
        if any(value is None for value in values):
            record.status, record.error = FAILED, "An objective is undefined for this trial."
            self._study.tell(trial, state=TrialState.FAIL)
            return
        self._study.tell(trial, [value for value in values if value is not None])

    def abandon(self, reason: str) -> list[TrialRecord]:
        """End what still runs, after the sweep was cut short; returns the records concerned."""
        cut = [record for record in self.records.values() if record.status == "RUNNING"]
        for record in cut:
            record.status, record.error = FAILED, reason
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
