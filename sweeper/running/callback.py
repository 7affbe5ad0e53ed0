"""Passes what Ray Tune's workers report to the ledger."""

from typing import Any

from ray.tune import Callback

from sweeper.running.ledger import Ledger


class LedgerCallback(Callback):
    """Tells the ledger of starts and reports; the searcher tells it of ends.

    Args:
        ledger: the ledger of the sweep.
    """

    def __init__(self, ledger: Ledger):
        self._ledger = ledger

    def __getstate__(self) -> dict[str, Any]:
        """An empty state: Ray pickles its callbacks into a file of its own, which nobody reads."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tell the ledger that a training started or restarted."""
        training = self._ledger.of(trial.trial_id)
        if training is not None:
            self._ledger.changed(training)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass figures or scores that a worker reported to the ledger."""
        training = self._ledger.of(trial.trial_id)
        if training is not None:
            self._ledger.reported(training, result)
