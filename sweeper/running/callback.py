"""Brings what Ray Tune's workers report to the ledger."""

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
        """Nothing: Ray pickles its callbacks into a file of its own, which nobody reads."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial starts, or starts again."""
        record = self._ledger.of(trial.trial_id)
        if record is not None:
            self._ledger.started(record)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch is trained, or scores are there."""
        record = self._ledger.of(trial.trial_id)
        if record is not None:
            self._ledger.reported(record, result)
