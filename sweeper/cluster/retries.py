"""Whether a trial that broke off is tried again: Ray tells no lost host from a crash, and keeps away from no host."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from sweeper.cluster.fleet import Fleet
from sweeper.run_folder.record import TrialRecord
from trainers.storage.object_store import Place
from trainers.storage.state_store import crash_reason, host_of

LOST_AT_MOST = 10
"""How often a trial may lose its host: spot instances come and go, but a trial may also be what takes hosts down."""
ASKED_AFTER = 3
"""How often a trial is cut off before it begins until hosts are asked why: once may be one that just went."""
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
        fleet: the hosts.
    """

    def __init__(self, retries: int, fleet: Fleet):
        self._retries = retries
        self._fleet = fleet
        self._crashed: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._crashed_on: defaultdict[str, set[str]] = defaultdict(set)
        self._unfit_for: defaultdict[str, set[str]] = defaultdict(set)
        self._told_of: set[str] = set()
        self._never_began: Counter[str] = Counter()

    def decide(self, record: TrialRecord, states: Place) -> Decision:
        """Look at what an attempt that broke off left in the folder of the trial's states."""
        host, reason = host_of(states, record.attempt), crash_reason(states, record.attempt)
        if host is None:
            self._never_began[record.trial_id] += 1
            return self._lose(record, "It was cut off {} before it began.", None)
        if reason is None and self._fleet.is_gone(host):
            name = self._fleet.name(host)
            return self._lose(record, f"It lost its host {{}}, the last time {name}.", name)
        return self.crashed(record, host, reason or NO_WORD)

    def unfit(self, record: TrialRecord, host: str, reason: str) -> Decision:
        """A host is not fit for a trial, which costs it no retry while there is another."""
        self._unfit_for[record.trial_id].add(host)
        if not self._fleet.others(self._unfit_for[record.trial_id]):
            return self.crashed(record, host, reason)
        said = self._blame(record, host, reason)
        if said is None and host not in self._told_of:
            said = f"The host {self._fleet.name(host)} is not fit for {record.trial_id}, which goes elsewhere: {reason}"
        self._told_of.add(host)
        return Decision(True, reason, said)

    def crashed(self, record: TrialRecord, host: str, reason: str) -> Decision:
        """A trial crashed on a host."""
        self._crashed[record.trial_id] += 1
        self._crashed_on[record.trial_id].add(host)
        again = self._crashed[record.trial_id] <= self._retries
        return Decision(again, reason, self._blame(record, host, reason))

    def _blame(self, record: TrialRecord, host: str, reason: str) -> str | None:
        """Note that a trial failed on a host; returns what is to be said, if it is avoided from now on."""
        if self._fleet.failed(host, record.trial_id, reason):
            name = self._fleet.name(host)
            return f"The host {name} is avoided from now on, since every trial failed there: {reason}"
        return None

    def avoided_by(self, record: TrialRecord) -> list[str]:
        """Hosts that its next attempt keeps away from: all avoid them, they are not fit for it, or it crashed there.

        Of hosts where it crashed, so many others must be left that the loss of one does not leave it waiting.
        """
        own, crashed_on = self._unfit_for[record.trial_id], self._crashed_on[record.trial_id]
        own = own if self._fleet.others(own) else set()
        if self._fleet.others(own | crashed_on) >= 2:
            own = own | crashed_on
        return sorted(own | self._fleet.avoided.keys())

    def _lose(self, record: TrialRecord, reason: str, name: str | None) -> Decision:
        self._lost[record.trial_id] += 1
        times = self._lost[record.trial_id]
        again = times <= LOST_AT_MOST
        said = f"{record.trial_id} lost its host {name}{'; it goes on elsewhere' if again else ''}." if name else None
        if name is None and self._never_began[record.trial_id] == ASKED_AFTER:
            said = self._fleet.avoid_unable() or (
                f"{record.trial_id} was cut off {ASKED_AFTER} times before it began; sweeper doctor may tell why."
            )
        return Decision(again, reason.format(f"{times} times" if times > 1 else "once"), said)
