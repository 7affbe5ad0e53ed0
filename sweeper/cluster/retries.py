"""Decides whether what broke off is tried again: Ray itself takes lost hosts for crashes, and avoids none."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace

from sweeper.cluster.fleet import Fleet
from sweeper.cluster.hosts import Unusable
from sweeper.cluster.losses import is_out_of_memory
from sweeper.run_folder.record import Training
from trainers.storage.object_store import Place
from trainers.storage.state_store import crash_reason, host_of

LOST_AT_MOST = 10
"""How often a training may lose its host: spot instances come and go, but it may also be what crashes its hosts."""
ASKED_AFTER = 3
"""How often a training is cut off before it begins until hosts are asked why: a host may just have left."""
NO_WORD = "The worker died without a word; Ray's logs may tell why."


@dataclass(frozen=True)
class Decision:
    """The decision on a training that broke off.

    Args:
        again: whether it is tried again.
        reason: why it broke off.
        said: a message for the user; null: none.
    """

    again: bool
    reason: str
    said: str | None = None


@dataclass
class _Ending:
    """An attempt that broke off, on which nothing has been decided yet.

    Args:
        host: Ray's name of the host where it began; null if it never did.
        reason: why it crashed; null if it left no reason.
        at: when it was noticed, by the monotonic clock.
        lost: why Ray lost the worker; null if it does not say.
        usable: gives the answer of the hosts on whether they can load what trainings run; null if they were not asked.
    """

    host: str | None
    reason: str | None
    at: float
    lost: str | None = None
    usable: Unusable | None = None

    @property
    def out_of_memory(self) -> bool:
        """Whether Ray's memory monitor ended it."""
        return self.lost is not None and is_out_of_memory(self.lost)


class Retries:
    """Counts how often each training broke off, since this driver began.

    Args:
        retries: how often a training that crashed is tried again.
        fleet: the hosts.
    """

    def __init__(self, retries: int, fleet: Fleet):
        self._retries = retries
        self._fleet = fleet
        self._crashed: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._crashed_on: defaultdict[str, set[str]] = defaultdict(set)
        self._unusable_for: defaultdict[str, set[str]] = defaultdict(set)
        self._told_of: set[str] = set()
        self._never_began: Counter[str] = Counter()
        self._undecided: dict[str, _Ending] = {}

    def decide(self, training: Training, states: Place, lost: str | None = None) -> Decision | None:
        """Decide on an attempt that broke off, by what it left in the folder of its states.

        Args:
            training: what broke off.
            states: the folder.
            lost: why Ray lost the worker, from :func:`sweeper.cluster.losses.why_lost`.

        Returns:
            The decision; null while it is not known whether the host is gone. Then call again: nothing waits here.
        """
        end = self._undecided.get(training.name)
        if end is None:
            reason = crash_reason(states, training.state.attempt)
            end = _Ending(host_of(states, training.state.attempt), reason, time.monotonic(), lost)
            self._undecided[training.name] = end
        decision = self._decide(training, end)
        if decision is not None:
            del self._undecided[training.name]
        return decision

    def _decide(self, training: Training, end: _Ending) -> Decision | None:
        if end.host is None:
            return self._never_began_again(training, end)
        if end.reason is None and not end.out_of_memory:
            gone = self._fleet.is_gone(end.host, end.at)
            if gone is None:
                return None
            if gone:
                return self._lost_host(training, self._fleet.name(end.host))
        return self.crashed(training, end.host, end.reason or _word_of(end.lost))

    def _lost_host(self, training: Training, name: str) -> Decision:
        decision = self._lose(training, f"It lost its host {{}}, the last time {name}.", None)
        more = "; it goes on elsewhere" if decision.again else ""
        return replace(decision, said=f"{training.label} lost its host {name}{more}.")

    def _never_began_again(self, training: Training, end: _Ending) -> Decision | None:
        """An attempt was cut off before it began. After a few of them, hosts are asked why, which takes a while, if it
        was not Ray itself that ended them.
        """
        said, because = None, f" Ray says: {end.lost}." if end.lost else ""
        times = self._never_began[training.name] = self._never_began[training.name] + (end.usable is None)
        if end.out_of_memory:
            said = f"{training.label} was cut off before it began. {end.lost}." if times == 1 else None
            because = f" {end.lost}."
        elif end.usable is None and times == ASKED_AFTER:
            end.usable = self._fleet.ask_whether_usable()
        if end.usable is not None:
            reasons = end.usable()
            if reasons is None:
                return None
            said = self._fleet.avoid_unusable_hosts(reasons)
            if said is None and not reasons.keys() & self._fleet.avoided.keys():  # else another trial's answer said it
                often = f"{training.label} was cut off {ASKED_AFTER} times before it began;"
                said = f"{often} sweeper doctor may tell why.{because}"
        decision = self._lose(training, "It was cut off {} before it began.", said)
        return replace(decision, reason=decision.reason + because)

    def unusable(self, training: Training, host: str, reason: str) -> Decision:
        """Decide on a training whose host cannot run it, which costs it no retry while there are other hosts."""
        self._unusable_for[training.name].add(host)
        if not self._fleet.others(self._unusable_for[training.name]):
            return self.crashed(training, host, reason)
        said = self._blame(training, host, reason)
        if said is None and host not in self._told_of:
            said = f"The host {self._fleet.name(host)} is not fit for {training.label}, which goes elsewhere: {reason}"
        self._told_of.add(host)
        return Decision(True, reason, said)

    def crashed(self, training: Training, host: str, reason: str) -> Decision:
        """Decide on a training that crashed on a host."""
        self._crashed[training.name] += 1
        self._crashed_on[training.name].add(host)
        again = self._crashed[training.name] <= self._retries
        return Decision(again, reason, self._blame(training, host, reason))

    def _blame(self, training: Training, host: str, reason: str) -> str | None:
        """Record that a training failed on a host; return a message if the host is avoided from now on."""
        if self._fleet.failed(host, training.record.trial_id, reason):
            name = self._fleet.name(host)
            return f"The host {name} is avoided from now on, since every training failed there: {reason}"
        return None

    def avoided_by(self, training: Training) -> list[str]:
        """Hosts that the next attempt of a training avoids: all avoid them, they cannot run it, or it crashed there.

        Hosts where it crashed are avoided only if two others are left, so that the loss of one does not block it.
        """
        own, crashed_on = self._unusable_for[training.name], self._crashed_on[training.name]
        own = own if self._fleet.others(own) else set()
        if self._fleet.others(own | crashed_on) >= 2:
            own = own | crashed_on
        return sorted(own | self._fleet.avoided.keys())

    def _lose(self, training: Training, reason: str, said: str | None) -> Decision:
        """Decide on an attempt that was lost through no fault of its own; ``reason`` has a place for the count."""
        self._lost[training.name] += 1
        times = self._lost[training.name]
        return Decision(times <= LOST_AT_MOST, reason.format(f"{times} times" if times > 1 else "once"), said)


def _word_of(lost: str | None) -> str:
    """Why a worker died that left no word itself."""
    if lost is None:
        return NO_WORD
    return f"{lost}." if is_out_of_memory(lost) else f"The worker died without a word; Ray says: {lost}."
