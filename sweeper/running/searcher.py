"""The agenda of a sweep as Ray Tune asks for it: its trainings are Ray's trials."""

from collections.abc import Callable, Collection
from errno import ENOSPC
from typing import Any

from ray.tune.search import Searcher

from sweeper.cluster.fleet import Fleet
from sweeper.cluster.losses import why_lost
from sweeper.cluster.retries import Decision, Retries
from sweeper.run_folder.record import FAILED, FINISHED, RUNNING, Training
from sweeper.running.ledger import Ledger
from sweeper.running.stopper import SweepStopper
from sweeper.search.agenda import Agenda
from sweeper.search.replicates import Replicates
from trainers.storage.state_store import new_attempt


class SweepSearcher(Searcher):
    """Hands the trainings of an agenda to Ray, as many as there is room for, and tries again what broke off.

    Ray's own OptunaSearch reports stopped trials as COMPLETE, leaves failed ones RUNNING and supports no constraints.

    Args:
        agenda: of the sweep, or of a test.
        ledger: the agenda's book.
        stopper: knows why the sweep ends early, and which trainings are stopped.
        fleet: the hosts.
        retries: how often a training that crashed is tried again.
        workers: trainings at a time; null: as many as the hosts have room for.
        say: prints a message for the user, about hosts or trainings that go on elsewhere.
    """

    def __init__(
        self,
        agenda: Agenda | Replicates,
        ledger: Ledger,
        stopper: SweepStopper,
        fleet: Fleet,
        retries: int,
        workers: int | None = None,
        say: Callable[[str], None] = lambda _text: None,
    ):
        super().__init__()
        self.agenda = agenda
        self.ledger = ledger
        self.stopper = stopper
        self._fleet = fleet
        self._retries = Retries(retries, fleet)
        self._workers = workers
        self._say = say
        self._running: dict[str, Training] = {}
        """By Ray's ids."""
        self._undecided: list[tuple[Training, dict[str, Any]]] = []
        """Trainings that broke off, and may be tried again, with their last results."""
        self._waits = self._trunk_lost = False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next job, for Ray; null while there is no room for one, ``Searcher.FINISHED`` if none is left."""
        if self.stopper.stop_all():  # while no training runs, Ray calls nothing else
            return str(Searcher.FINISHED)
        self._settle()
        if self._is_full():
            return None
        training = None
        with self.ledger.guard():
            training = self.agenda.next()
        if training is None:  # one that runs may break off, and be tried again
            over = self.agenda.is_done and not (self._running or self._undecided)
            return str(Searcher.FINISHED) if over else None
        self.ledger.hand_out(trial_id, training)
        self._running[trial_id] = training
        with self.ledger.guard():
            training.state.attempt = new_attempt(self.ledger.states_of(training))
        job: dict[str, Any] = {"job": training.config.to_json(), "training": training.name,
                               "attempt": training.state.attempt}  # fmt: skip
        avoided, trunk = self._retries.avoided_by(training), self.agenda.trunk_of(training)
        return job | ({"avoid": avoided} if avoided else {}) | ({"trunk": trunk.stages} if trunk else {})

    def _is_full(self) -> bool:
        """Whether no further training may run now; hosts may join and leave at any time."""
        if self._workers is not None and len(self._running) >= self._workers:
            return True
        room = self._fleet.room()
        waits = not room and not self._running
        if waits and not self._waits:
            self._say("No host is left that has room for a training; the sweep waits until one joins.")
        self._waits = waits
        return len(self._running) >= room

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record the host of a report, whose keys Ray has flattened. Ray does not call this for the last report.

        Only an epoch shows that the host works: trainings may end there without any.
        """
        training = self.ledger.of(trial_id)
        if training is not None and result.get("host"):
            training.state.host = self._fleet.name(result["host"])
            if "finished" in result:
                self._fleet.worked(result["host"])
        if training is not None and "trunk" in result:
            self._pass_trunk(training, *result["trunk"])

    def _pass_trunk(self, training: Training, error: str | None, gone: bool) -> None:
        """Tell the agenda that a training has come to the end of its trunk; the first one that is not kept is said."""
        with self.ledger.guard():
            if gone:
                self.agenda.trunk_gone(training)
            else:
                self.agenda.trunk_passed(training, error is None)
        if error is not None and not self._trunk_lost:
            self._trunk_lost = True
            self._say(f"A trunk could not be kept ({error}); settings that share it train it themselves.")

    def stop(self, unwanted: Collection[Training]) -> None:
        """Let trainings that have ended stop at their next reports, as far as they run."""
        self.stopper.stop_some(ray_id for ray_id, running in self._running.items() if running in unwanted)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record that a training ended or broke off."""
        result = result or {}
        self.on_trial_result(trial_id, result)
        training = self._running.pop(trial_id, None)
        self.ledger.take_back(trial_id)
        self.stopper.stopped(trial_id)
        if training is None:
            return
        if training.state.status != RUNNING:  # its trial ended without it, or the sweep was given up
            self.ledger.release(training)
        elif error or "unusable" in result:
            self.ledger.changed(training)
            self._undecided.append((training, result | {"lost": why_lost(trial_id)}))
            self._settle()
        else:
            self._end(training, result)

    def _settle(self) -> None:
        """Take up again, or end, trainings that broke off, as soon as that can be decided."""
        for undecided in list(self._undecided):
            training, result = undecided
            with self.ledger.guard():
                if training.state.status != RUNNING:
                    self._undecided.remove(undecided)
                    self.ledger.release(training)
                    continue
                if "unusable" in result:
                    decision: Decision | None = self._retries.unusable(training, result["host"], result["unusable"])
                else:
                    decision = self._retries.decide(training, self.ledger.states_of(training), result["lost"])
                if decision is None:
                    continue
                self._undecided.remove(undecided)
                if decision.said:
                    self._say(decision.said)
                if not decision.again:
                    self._ended(training, FAILED, decision.reason)
                elif self.stopper.reason is None:
                    self.agenda.again(training)

    def _end(self, training: Training, result: dict[str, Any]) -> None:
        """End a training that came to its end, by its last report. One that the sweep's own end cut off stays open."""
        if result.get("disk_full"):
            self.ledger.give_up(OSError(ENOSPC, result["disk_full"]))
        elif result.get("error"):
            self._ended(training, FAILED, str(result["error"]))
        elif self.ledger.broken is not None:  # its scores may not have been written
            return
        elif result.get("finished"):
            self._ended(training, FINISHED)

    def _ended(self, training: Training, status: str, error: str | None = None) -> None:
        with self.ledger.guard():
            unwanted = self.agenda.ended(training, status, error)
            self.stop(unwanted)
            known = [*self._running.values(), *(waiting for waiting, _ in self._undecided)]
            for waiting in unwanted:
                if waiting not in known:  # it broke off, and would have been tried again
                    self.ledger.release(waiting)
        self.ledger.release(training)

    # Ray pickles the searcher into files of its own, which nobody reads: the study and the run folder replace them.

    def __getstate__(self) -> dict[str, Any]:
        """An empty state."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""
