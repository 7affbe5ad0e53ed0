"""The hosts of the Ray cluster that a sweep runs on: what they have, and whether they are fit for the sweep."""

import math
import platform
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeper.run_folder.provenance import code_digest
from trainers.errors import ConfigError
from trainers.storage.files import write_text
from trainers.storage.object_store import Place

PATIENCE_S = 30.0
"""Seconds to wait for a host that has room for a trial."""
_ON_ANY_HOST = ("memory", "object_store_memory")
"""Resources that Ray lists for each host, and no preset asks for."""
PROBE_S = 60.0
"""Seconds to wait for the answer of a host."""


@dataclass(frozen=True)
class Host:
    """A host of the cluster.

    Args:
        node_id: Ray's name of it.
        address: of its network interface.
        has: its resources by Ray's names: CPU, GPU, custom ones.
    """

    node_id: str
    address: str
    has: Mapping[str, float]

    def room(self, wanted: Mapping[str, float]) -> int:
        """How many trainings that each ask for ``wanted`` fit on it, if nothing else runs there."""
        return min(_fit(name, self.has.get(name, 0.0), amount) for name, amount in wanted.items() if amount > 0)

    def __str__(self) -> str:
        named = {"CPU": 0.0, "GPU": 0.0}
        named |= {k: v for k, v in sorted(self.has.items()) if k not in _ON_ANY_HOST and not k.startswith("node:")}
        return f"{self.address} has {' and '.join(_amount(name, amount) for name, amount in named.items())}"


def _fit(name: str, has: float, amount: float) -> int:
    if name == "GPU" and amount < 1:  # a share lies on one GPU
        return int(has) * math.floor(1 / amount + 1e-9)
    return math.floor(has / amount + 1e-9)


def hosts() -> list[Host]:
    """The hosts that are there now."""
    return [
        Host(node["NodeID"], node["NodeManagerAddress"], node["Resources"]) for node in ray.nodes() if node["Alive"]
    ]


def room(wanted: Mapping[str, float]) -> int:
    """How many trainings fit on the hosts that are there now, if nothing else runs on them."""
    return sum(host.room(wanted) for host in hosts())


def await_room(wanted: Mapping[str, float], patience_s: float) -> None:
    """Wait until a training fits on some host: those of a cluster that was just started join one after the other.

    Args:
        wanted: what a training asks for.
        patience_s: seconds; 0 where no other host can come.

    Raises:
        ConfigError: a training fits on no host.
    """
    until = time.monotonic() + patience_s
    while not room(wanted):
        if time.monotonic() >= until:
            there = "; ".join(str(host) for host in hosts())
            raise ConfigError(f"A training asks for {asked(wanted)}, which no host has: {there}. Change resources.")
        time.sleep(1.0)


def asked(wanted: Mapping[str, float]) -> str:
    """The resources that a training asks for, as text."""
    return " and ".join(_amount(name, amount) for name, amount in wanted.items() if amount > 0)


def _amount(name: str, amount: float) -> str:
    return f"{amount:g} {name}{'s' if name in ('CPU', 'GPU') and amount != 1 else ''}"


Unusable = Callable[[], Mapping[str, str] | None]
"""Returns the hosts that cannot load the module of trainings, by their ids, with the reason; null if not yet known."""


def find_unusable_hosts(among: Sequence[Host], module: str) -> Unusable:
    """Ask hosts, all at once, whether they can load the module of trainings, without waiting for their answers.

    No thread waits for them either: if one still does when Ray is shut down, Ray ends the whole process (as of Ray
    2.60).

    Args:
        among: the hosts.
        module: the module that runs trials.

    Returns:
        A function that returns the answer, after :data:`PROBE_S` at the latest. A host that has not answered by then is
        left out: it may be busy, or gone.
    """
    load: Any = ray.remote(num_cpus=0, max_retries=0)(_load)
    until = time.monotonic() + PROBE_S
    try:
        asked = {_on(host, load, module): host.node_id for host in among}
    except RayError:  # the head is away: no host is to blame
        return lambda: {}

    def unusable_hosts() -> Mapping[str, str] | None:
        try:
            done, missing = ray.wait(list(asked), num_returns=len(asked), timeout=0) if asked else ([], [])
        except RayError:  # likewise
            return {}
        if missing and time.monotonic() < until:
            return None
        reasons = {}
        for answer in done:
            try:
                ray.get(answer)
            except RayError as error:
                reasons[asked[answer]] = _reason(error)
        return reasons

    return unusable_hosts


def _load(module: str) -> None:
    """On a host: load the module that runs trials.

    Raises:
        Exception: it cannot be loaded there, for example since CUDA's libraries do not match torch.
    """
    import_module(module)


def _on(host: Host, task: Any, *arguments: Any) -> Any:
    """Start a task on this host only."""
    strategy = NodeAffinitySchedulingStrategy(host.node_id, soft=False)
    return task.options(scheduling_strategy=strategy).remote(*arguments)


def _reason(error: RayError) -> str:
    """The last line of an error: those before it are a traceback."""
    return str(error).strip().splitlines()[-1]


def _look(folder: Place, probe: str, module: str | None) -> dict[str, Any]:
    """On a host: report its versions, and whether it can see and write the folder.

    Raises:
        Exception: the module that runs trainings cannot be loaded there.
    """
    if module is not None:
        _load(module)
    answer: dict[str, Any] = {
        "code": code_digest(), "torch": version("torch"), "Python": platform.python_version(), "sees": False
    }  # fmt: skip
    if (folder / probe).exists():
        answer["sees"] = True
        try:
            write_text(folder / f"{probe}-{uuid.uuid4().hex}", "")
        except OSError as error:
            answer["unwritable"] = error.strerror or str(error)
    return answer


def check_hosts(folder: Place, module: str | None = None) -> None:
    """Check that every host runs this code and shares ``folder``; a single host is not checked.

    Args:
        folder: of the sweep, or where sweeps go.
        module: the module that runs trainings; hosts load it too, which takes them seconds. Null: they do not.

    Raises:
        ConfigError: a host runs other code, does not share the folder, or does not answer.
    """
    known = hosts()
    if len(known) < 2:
        return
    probe = f".probe-{uuid.uuid4().hex[:8]}"
    write_text(folder / probe, "")
    look: Any = ray.remote(num_cpus=0, max_retries=0)(_look)
    here = _look(folder, probe, module)
    try:
        asked = [(host.address, _on(host, look, folder, probe, module)) for host in known]
        for address, answer in asked:
            try:
                there = ray.get(answer, timeout=PROBE_S)
            except GetTimeoutError as error:
                raise ConfigError(f"The host {address} did not answer within {PROBE_S:.0f} s.") from error
            except RayError as error:
                raise ConfigError(f"The host {address} cannot run this program: {_reason(error)}") from error
            for name in ("code", "torch", "Python"):
                if there[name] != here[name]:
                    other = f"{name} {there[name]}, and this one {here[name]}"
                    what = "another version of this program than this one" if name == "code" else other
                    raise ConfigError(f"The host {address} runs {what}; install the same on all hosts.")
            if not there["sees"]:
                raise ConfigError(
                    f"The host {address} does not see {folder}; give --storage a folder that all hosts share (NFS)."
                )
            if "unwritable" in there:
                raise ConfigError(f"The host {address} cannot write {folder}: {there['unwritable']}.")
    finally:
        for left in folder.glob(f"{probe}*"):
            left.unlink(missing_ok=True)
