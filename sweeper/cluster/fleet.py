"""The hosts of a running sweep: how many trainings fit on them, and which are avoided since trainings fail there."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count

from sweeper.cluster.hosts import Host, Unusable, hosts

LOOK_EVERY_S = 1.0
LOOK_AGAIN_S = 0.5
"""Seconds between looks while a host may just have been lost."""
NOTICED_AFTER_S = 8.0
"""How long a cluster with the health checks of ``cluster.yaml`` may take to notice that a host is gone."""
BAD_AFTER = 3
"""Different trials that must fail on a host, with no progress between them, before it is avoided: if trainings of one
setting crash, that may be its own fault."""


class Fleet:
    """The hosts of a sweep, and how trainings fared on them.

    Args:
        wanted: resources that a training asks for, by Ray's names.
        look: finds the hosts that are there.
        find_unusable: asks hosts whether they can load the module that runs trainings, which may take them a minute.
    """

    def __init__(
        self,
        wanted: Mapping[str, float],
        look: Callable[[], Sequence[Host]] = hosts,
        find_unusable: Callable[[Sequence[Host]], Unusable] = lambda _hosts: lambda: {},
    ):
        self._wanted = wanted
        self._look = look
        self._find_unusable = find_unusable
        self._looked_at = -math.inf
        self._there: dict[str, Host] = {}
        self._names: dict[str, str] = {}
        self._moments = count()
        self._failed: dict[str, dict[str, int]] = {}
        """By host: trials that crashed there since one last made progress, with the moment of their first crash."""
        self._worked: dict[str, int] = {}
        """By host: the moment when a training last made progress there."""
        self.avoided: dict[str, str] = {}
        """Hosts that get no more trainings, with the last error there."""

    def room(self) -> int:
        """The number of trainings that fit on the hosts now. Called often; the cluster is asked at most once a second.

        If only avoided hosts have room for a training, they are tried again.
        """
        self._refresh()
        if self.avoided and not any(host.room(self._wanted) for name, host in self._there.items()
                                    if name not in self.avoided):  # fmt: skip
            self.avoided.clear()
            self._failed.clear()
        return sum(host.room(self._wanted) for name, host in self._there.items() if name not in self.avoided)

    def is_gone(self, node_id: str, since: float) -> bool | None:
        """Whether a host on which a training broke off has left the cluster.

        Args:
            node_id: Ray's name of the host.
            since: when that was noticed, by the monotonic clock.

        Returns:
            Null while the cluster may not have noticed yet. A single host is not waited for: it is the one that this
            program runs on.
        """
        self._refresh(0.0 if self._looked_at < since else LOOK_AGAIN_S)
        if node_id not in self._there:
            return True
        return False if len(self._there) < 2 or time.monotonic() >= since + NOTICED_AFTER_S else None

    def name(self, node_id: str) -> str:
        """The address of a host; the start of its id if the address is unknown."""
        return self._names.get(node_id, node_id[:8])

    def others(self, node_ids: Collection[str]) -> int:
        """The number of hosts, other than these and avoided ones, that have room for a trial."""
        self._refresh()
        left = self._there.keys() - self.avoided.keys() - set(node_ids)
        return sum(self._there[name].room(self._wanted) > 0 for name in left)

    def worked(self, node_id: str) -> None:
        """Record that a training made progress on a host."""
        self._worked[node_id] = next(self._moments)
        self._failed.pop(node_id, None)

    def failed(self, node_id: str, trial_id: str, reason: str) -> bool:
        """Record that a training crashed on a host; return whether the host is avoided from now on.

        A host is avoided once trainings of several trials have crashed on it with no progress between them, while one
        made progress on another host that is still there: if trials crash everywhere, no host is to blame.
        """
        crashed = self._failed.setdefault(node_id, {})
        crashed.setdefault(trial_id, next(self._moments))
        since = min(crashed.values())
        elsewhere = any(
            moment > since and name in self._there and self._there[name].room(self._wanted)
            for name, moment in self._worked.items()
        )
        if len(crashed) < BAD_AFTER or not elsewhere or node_id in self.avoided:
            return False
        self.avoided[node_id] = reason
        return True

    def ask_whether_usable(self) -> Unusable:
        """Ask the hosts whether they can load the module that runs trainings, for :meth:`avoid_unusable_hosts`."""
        self._refresh()
        return self._find_unusable([host for name, host in self._there.items() if name not in self.avoided])

    def avoid_unusable_hosts(self, reasons: Mapping[str, str]) -> str | None:
        """Avoid hosts that cannot load the module that runs trials.

        Args:
            reasons: why each of them cannot load it, by Ray's name of the host.

        Returns:
            A message for the user; null if no host is avoided.
        """
        self._refresh(0.0)
        left = self._there.keys() - self.avoided.keys()
        reasons = {name: reason for name, reason in reasons.items() if name in left}  # a host may have left meanwhile
        if len(reasons) == len(left):  # no single host is to blame; the trainings' errors tell what is wrong
            return None
        self.avoided |= reasons
        said = [f"The host {self.name(name)} is avoided from now on, since it cannot load the trials' program: {reason}"
                for name, reason in reasons.items()]  # fmt: skip
        return " ".join(said) or None

    def _refresh(self, every_s: float | None = None) -> None:
        """Look for hosts, if the last look is older than ``every_s`` (null: :data:`LOOK_EVERY_S`)."""
        now = time.monotonic()
        if now - self._looked_at >= (LOOK_EVERY_S if every_s is None else every_s):
            self._there = {host.node_id: host for host in self._look()}
            self._names |= {name: host.address for name, host in self._there.items()}
            self._looked_at = now
