"""Hosts and the driver are lost while a sweep runs; these tests use the cluster up, so they come last."""

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.faults import agree
from sweeper.run_folder import RunFolder
from tests.cluster.conftest import Cluster
from tests.cluster.hosts import Host, wait_for
from tests.cluster.test_submit import newest

# A trial of some twenty seconds, whose states are written all the time.
LONG = (
    "--set", "data.train_size=300", "--set", "data.test_size=200", "--set", "control.epochs=1", "--set",
    "defense.mix_epochs=60", "--set", "defense.suppression_epochs=1", "--set", "defense.warmup_steps=5", "--set",
    "defense.mixing=none", "--set", "state_every_s=0.2", "--set", "search.sampler=random",
)  # fmt: skip
PATIENCE_S = 30


def node_id(cluster: Cluster, host: Host) -> str:
    script = f"import ray; ray.init('auto', logging_level='ERROR'); print(*[n['NodeID'] for n in ray.nodes() if n['Alive'] and n['NodeManagerAddress'] == '{host.address}'])"  # noqa: E501
    return cluster.hosts["head"].run("python", "-c", script).stdout.split()[-1]


def owner(folder: RunFolder, trial: str) -> dict[str, Any]:
    path = folder.states / trial / "owner.json"
    return json.loads(path.read_text()) if path.exists() else {"attempt": 0, "host": ""}


def trials_on(folder: RunFolder, node: str) -> list[str]:
    """Trials that compute there, and have written a state."""
    found = [path.name for path in folder.states.glob("t*") if list(path.glob("run-*.safetensors"))]
    return [name for name in found if owner(folder, name)["host"] == node]


def begin(cluster: Cluster, trials: int) -> RunFolder:
    cluster.submit("run", "quick.yaml", *LONG, "--trials", str(trials), "--detach")
    return newest(cluster.storage)


def ends_whole(cluster: Cluster, folder: RunFolder, trials: int, lost: list[str]) -> None:
    wait_for(lambda: folder.holder() is None, 200, "the end of the sweep")
    status = agree(folder, f"sqlite:///{cluster.storage}/mlflow.db")
    assert status == dict.fromkeys(["c0000", *[f"t{i:04d}" for i in range(trials)]], "FINISHED")
    records = folder.read_records()
    assert all(records[name].attempt == 2 for name in lost)
    assert all(record.attempt == 1 for name, record in records.items() if name not in lost)
    assert not folder.states.exists()


def goes_on_elsewhere(folder: RunFolder, lost: list[str]) -> float:
    """Seconds until every lost trial has a new owner."""
    began = time.monotonic()
    wait_for(lambda: all(owner(folder, name)["attempt"] != 1 for name in lost), PATIENCE_S, "another attempt")
    return time.monotonic() - began


def test_a_host_whose_power_goes(cluster: Cluster) -> None:
    host = cluster.hosts["worker1"]
    node = node_id(cluster, host)
    folder = begin(cluster, 6)
    wait_for(lambda: trials_on(folder, node), 90, "a trial on worker1")
    lost = trials_on(folder, node)
    host.pull_power()
    print(f"power: {lost} went on elsewhere after {goes_on_elsewhere(folder, lost):.1f} s")
    ends_whole(cluster, folder, 6, lost)


def files_of(folder: RunFolder, trials: list[str]) -> dict[Path, tuple[int, float]]:
    """What first attempts have written: size and time."""
    found = [path for name in trials for path in (folder.states / name).glob("run-*.1.safetensors")]
    return {path: (path.stat().st_size, path.stat().st_mtime) for path in found if path.exists()}


def test_a_host_that_is_cut_off_and_comes_back(cluster: Cluster) -> None:
    host = cluster.hosts["worker2"]
    node = node_id(cluster, host)
    folder = begin(cluster, 4)
    wait_for(lambda: trials_on(folder, node), 90, "a trial on worker2")
    lost = trials_on(folder, node)
    host.cut()
    try:
        print(f"network: {lost} went on elsewhere after {goes_on_elsewhere(folder, lost):.1f} s")
        written = files_of(folder, lost)
        time.sleep(5)  # it computes on, and sees the storage
        assert set(files_of(folder, lost).items()) <= set(written.items())
    finally:
        host.heal()
    ends_whole(cluster, folder, 4, lost)


def test_the_driver_is_killed_and_the_sweep_resumed(cluster: Cluster) -> None:
    folder = begin(cluster, 3)
    wait_for(lambda: list(folder.states.glob("t*/run-*.safetensors")), 90, "a state")
    holder = folder.holder()
    assert holder is not None
    cluster.hosts["head"].run("kill", "-9", holder.split()[1])
    wait_for(lambda: folder.holder() is None, 30, "the driver's end")
    assert "quick: interrupted" in cluster.sweeper("status", str(folder.path)).stdout
    cluster.submit("resume", str(folder.path))
    status = agree(folder, f"sqlite:///{cluster.storage}/mlflow.db")
    assert status == dict.fromkeys(["c0000", "t0000", "t0001", "t0002"], "FINISHED")
