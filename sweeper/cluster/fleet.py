"""The hosts as a sweep goes on: how many trials they have room for, and which of them nothing works on."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count

from sweeper.cluster.hosts import Host, Unusable, hosts

LOOK_EVERY_S = 1.0
LOOK_AGAIN_S = 0.5
"""The same while a host may just have gone."""
NOTICED_AFTER_S = 8.0
"""How long a cluster with the health checks of ``cluster.yaml`` may take to notice that a host is gone."""
BAD_AFTER = 3
"""Different trials that failed on a host one after the other, until it is avoided."""


class Fleet:
    """What is known of the hosts.

    Args:
        wanted: what a trial asks for, by Ray's names.
        look: finds the hosts that are there.
        find_unusable: asks some hosts whether they can load what trials run, which may take them a minute.
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
        """By host, since a trial last got on there: trials that crashed, and the moment when each did first."""
        self._worked: dict[str, int] = {}
        """By host, the moment when a trial last got on there."""
        self.avoided: dict[str, str] = {}
        """Hosts that get no trial any more, with what went wrong there last."""

    def room(self) -> int:
        """How many trials fit now. Asked for often, and looked up each second.

        Where none but avoided hosts are left, they are tried again.
        """
        self._refresh()
        if self.avoided and not any(host.room(self._wanted) for name, host in self._there.items()
                                    if name not in self.avoided):  # fmt: skip
            self.avoided.clear()
            self._failed.clear()
        return sum(host.room(self._wanted) for name, host in self._there.items() if name not in self.avoided)

    def is_gone(self, node_id: str, since: float) -> bool | None:
        """Whether a host is gone, on which a trial broke off.

        Args:
            node_id: Ray's name of the host.
            since: when that was noticed, by the monotonic clock.

        Returns:
            Null while the cluster may not have noticed yet. No time is given where there is one host alone: it is the
            one that this runs on.
        """
        self._refresh(0.0 if self._looked_at < since else LOOK_AGAIN_S)
        if node_id not in self._there:
            return True
        return False if len(self._there) < 2 or time.monotonic() >= since + NOTICED_AFTER_S else None

    def name(self, node_id: str) -> str:
        """What people call it."""
        return self._names.get(node_id, node_id[:8])

    def others(self, node_ids: Collection[str]) -> int:
        """How many hosts have room for a trial beside these, and are not avoided."""
        self._refresh()
        left = self._there.keys() - self.avoided.keys() - set(node_ids)
        return sum(self._there[name].room(self._wanted) > 0 for name in left)

    def worked(self, node_id: str) -> None:
        """A trial got on there."""
        self._worked[node_id] = next(self._moments)
        self._failed.pop(node_id, None)

    def failed(self, node_id: str, trial_id: str, reason: str) -> bool:
        """A trial crashed there. Returns whether the host is avoided from now on.

        It is once several trials crashed on it and none got on between them, while one did on another host that is
        there: what crashes everywhere is no host's fault.
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
        """Ask hosts whether they can load what trials run; what they answer is for :meth:`avoid_unusable_hosts`."""
        self._refresh()
        return self._find_unusable([host for name, host in self._there.items() if name not in self.avoided])

    def avoid_unusable_hosts(self, reasons: Mapping[str, str]) -> str | None:
        """Avoid hosts that cannot load what trials run from now on.

        Args:
            reasons: why each of them cannot, by Ray's names.

        Returns:
            What the user is told; null if there is none.
        """
        self._refresh(0.0)
        left = self._there.keys() - self.avoided.keys()
        reasons = {name: reason for name, reason in reasons.items() if name in left}  # one may have gone meanwhile
        if len(reasons) == len(left):  # then it is no host's fault, and trials tell what is wrong
            return None
        self.avoided |= reasons
        said = [f"The host {self.name(name)} is avoided from now on, since it cannot load what trials run: {reason}"
                for name, reason in reasons.items()]  # fmt: skip
        return " ".join(said) or None

    def _refresh(self, every_s: float | None = None) -> None:
        """Look for hosts, if the last look is older than ``every_s`` (null: :data:`LOOK_EVERY_S`)."""
        now = time.monotonic()
        if now - self._looked_at >= (LOOK_EVERY_S if every_s is None else every_s):
            self._there = {host.node_id: host for host in self._look()}
            self._names |= {name: host.address for name, host in self._there.items()}
            self._looked_at = now
