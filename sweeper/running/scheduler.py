"""Lets the agenda stop trainings at the epoch at which they fall behind."""

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweeper.run_folder.record import RUNNING
from sweeper.running.searcher import SweepSearcher
from sweeper.search.agenda import Agenda


class EarlyStoppingScheduler(FIFOScheduler):
    """Tells the agenda of each epoch but the last, before Ray lets the training go on.

    Args:
        agenda: of a sweep; decides.
        searcher: runs its trainings.
    """

    def __init__(self, agenda: Agenda, searcher: SweepSearcher):
        super().__init__()  # type: ignore[no-untyped-call]
        self._agenda = agenda
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether a training goes on. Ray tells its callbacks of a report only after this."""
        ledger = self._searcher.ledger
        training = ledger.of(trial.trial_id)
        if training is None or "figures" not in result or training.state.status != RUNNING:
            return str(TrialScheduler.CONTINUE)
        figures = dict(result["figures"])
        # The record is written when its trial ends, so it gets the epoch here; the callback gives it the others.
        training.record.add_epoch(training.run, figures, dict(result["facts"]))
        with ledger.guard():
            known = training.record.epochs[training.run][figures["epoch"]]
            self._searcher.stop(self._agenda.reported(training, known))
        return str(TrialScheduler.CONTINUE if training.state.status == RUNNING else TrialScheduler.STOP)

    def __getstate__(self) -> dict[str, Any]:
        """An empty state: Ray pickles its scheduler into a file of its own, which nobody reads."""
        return {}
