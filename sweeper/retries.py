"""Whether a trial that broke off is tried again: Ray tells no lost host from a crash, and keeps away from no host."""

from collections import Counter
from dataclasses import dataclass

from sweeper.fleet import Fleet
from sweeper.records import TrialRecord
from trainers.object_store import Place
from trainers.state_store import crash_reason, owner_of

LOST_AT_MOST = 10
"""How often a trial may lose its host: spot instances come and go, but a trial may also be what takes hosts down."""
NO_WORD = "The worker died without a word; Ray's logs may tell why."


@dataclass(frozen=True)
class Decision:
    """What becomes of it.

    Args:
        again: whether it is tried again.
        reason: why it broke off.
        said: what the user is told at once; null: nothing.
    """

    again: bool
    reason: str
    said: str | None = None


class Retries:
    """Counts how often each trial broke off, since this driver began.

    Args:
        retries: how often a trial that crashed is tried again.
        fleet: the hosts; null: this machine alone, which cannot be lost.
    """

    def __init__(self, retries: int, fleet: Fleet | None):
        self._retries = retries
        self._fleet = fleet
        self._crashed: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def decide(self, record: TrialRecord, states: Place) -> Decision:
        """Look at what an attempt left in the folder of the trial's states."""
        host, reason = owner_of(states).host, crash_reason(states)
        if self._fleet is not None and reason is None and host and not self._fleet.is_there(host):
            return self._without_host(record, self._fleet.name(host))
        self._crashed[record.trial_id] += 1
        again = self._crashed[record.trial_id] <= self._retries
        said = None
        if self._fleet is not None and host and self._fleet.failed(host, record.trial_id, reason or NO_WORD):
            name = self._fleet.name(host)
            said = f"The host {name} is avoided from now on, since every trial failed there: {reason or NO_WORD}"
        return Decision(again, reason or NO_WORD, said)

    def _without_host(self, record: TrialRecord, name: str) -> Decision:
        self._lost[record.trial_id] += 1
        again = self._lost[record.trial_id] <= LOST_AT_MOST
        times = f"{self._lost[record.trial_id]} times" if self._lost[record.trial_id] > 1 else "once"
        said = f"{record.trial_id} lost its host {name}{'; it goes on elsewhere' if again else ''}."
        return Decision(again, f"It lost its host {times}, the last time {name}.", said)
