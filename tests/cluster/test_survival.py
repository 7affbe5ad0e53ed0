"""Hosts and the driver are lost while a sweep runs: the order matters, since a host that lost its power stays away."""

import shlex
import time
from pathlib import Path

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import Training
from tests.agreement import agree
from tests.cluster.hosts import wait_for
from tests.cluster.up import Cluster
from trainers.storage.state_store import attempts, host_of

# Trials of some ten seconds, whose states are written all the time.
LONG = (
    "--set", "data.train_size=300", "--set", "data.test_size=200", "--set", "control.epochs=1", "--set",
    "defense.mix_epochs=30", "--set", "defense.suppression_epochs=1", "--set", "defense.warmup_steps=5", "--set",
    "state_every_s=0.2", "--set", "search.sampler=random",
)  # fmt: skip
PATIENCE_S = 30
"""With the health checks of cluster.yaml a lost host is noticed much sooner, but the cores are busy."""


def trainings_on(folder: RunFolder, node: str) -> list[str]:
    """Trainings that compute there, and have written a state; each is that of a trial."""
    states = Path(str(folder.states))
    found = [path for path in states.glob("t*") if list(path.glob("run-*.safetensors"))]
    return sorted(path.name for path in found if host_of(path, attempts(path)) == node)


def busy_worker(cluster: Cluster, folder: RunFolder) -> str:
    """The first host, beside the head, on which a training computes, once the control has ended."""
    workers = cluster.nodes.keys() - {"head"}

    def busy() -> list[str]:
        return [name for name in workers if trainings_on(folder, cluster.nodes[name])]

    wait_for(lambda: busy() and not folder.read_records()["c0000"].open, 90, "a trial on a worker")
    return busy()[0]


def spared(cluster: Cluster, folder: RunFolder, name: str) -> list[str]:
    """Trainings that compute on any other host than this."""
    return [trial for other, node in cluster.nodes.items() if other != name for trial in trainings_on(folder, node)]


def begin(cluster: Cluster, trials: int, *changes: str) -> tuple[RunFolder, Path]:
    """A sweep in a terminal of the laptop, and what the terminal shows; back as soon as its folder is there, or trials
    would be over by then.
    """
    before = set(cluster.storage.glob("*/sweep.yaml"))
    sweep = ("run", "quick.yaml", *LONG, *changes, "--trials", str(trials))
    words = ["ray", "submit", "cluster.yaml", "sweep.py", "--", *sweep]
    log = cluster.storage / f"survival-{time.monotonic_ns()}.log"
    cluster.hosts["laptop"].begin("bash", "-c", f"cd checkout && {shlex.join(words)}", log=log)
    wait_for(lambda: set(cluster.storage.glob("*/sweep.yaml")) - before, 90, "a sweep")
    return cluster.newest(), log


def goes_on_elsewhere(folder: RunFolder, log: Path, lost: list[str], node: str) -> str:
    """Seconds until every loss is noticed, and until all have begun on another host, which may be busy."""
    began = time.monotonic()
    wait_for(
        lambda: all(f"{name.partition('-')[0]} lost its host" in log.read_text(encoding="utf-8") for name in lost),
        PATIENCE_S,
        "word of the loss",
    )
    noticed = time.monotonic() - began

    def elsewhere(name: str) -> bool:
        states = folder.states / name
        return host_of(states, attempts(states)) not in (None, node)

    wait_for(lambda: all(elsewhere(name) for name in lost), 120, "another attempt")
    return f"{lost} noticed after {noticed:.1f} s, elsewhere after {time.monotonic() - began:.1f} s"


def ends_whole(cluster: Cluster, folder: RunFolder, trials: int, lost: list[str], kept: list[str]) -> None:
    """What was lost was tried again, and trainings on other hosts were not."""
    wait_for(lambda: folder.holder() is None, 200, "the end of the sweep")
    status = agree(folder, f"sqlite:///{cluster.storage}/mlflow.db")
    assert status == dict.fromkeys(["c0000", *[f"t{i:04d}" for i in range(trials)]], "FINISHED")
    trainings = [Training(record, run) for record in folder.read_records().values() for run in record.trainings]
    again = {training.name for training in trainings if training.state.attempt > 1}
    assert again >= set(lost)
    assert again.isdisjoint(kept)
    assert not (folder.path / "states").exists()


def written_by_first_attempts(folder: RunFolder, trials: list[str]) -> set[tuple[str, int]]:
    """Their files, and when they were written."""
    states = Path(str(folder.states))
    found = [path for name in trials for path in (states / name).glob("*.1.*")]
    return {(path.name, path.stat().st_mtime_ns) for path in found if path.exists()}


def test_a_host_whose_power_goes(cluster: Cluster) -> None:
    folder, log = begin(cluster, 3)
    name = busy_worker(cluster, folder)
    node = cluster.nodes[name]
    lost, kept = trainings_on(folder, node), spared(cluster, folder, name)
    assert lost
    cluster.hosts[name].pull_power()
    del cluster.nodes[name]
    print("power:", goes_on_elsewhere(folder, log, lost, node))
    ends_whole(cluster, folder, 3, lost, kept)


def test_a_host_that_is_cut_off_and_comes_back(cluster: Cluster) -> None:
    folder, log = begin(cluster, 2, "--set", "defense.mix_epochs=60")  # it computes as long as it is cut off
    name = busy_worker(cluster, folder)
    host, node = cluster.hosts[name], cluster.nodes[name]
    lost, kept = trainings_on(folder, node), spared(cluster, folder, name)
    assert lost
    host.cut()
    try:
        print("network:", goes_on_elsewhere(folder, log, lost, node))
        written = written_by_first_attempts(folder, lost)
        time.sleep(3)  # it computes on, and sees the storage
        assert written_by_first_attempts(folder, lost) <= written
    finally:
        host.heal()
    ends_whole(cluster, folder, 2, lost, kept)


def test_the_driver_is_killed_and_the_sweep_resumed(cluster: Cluster) -> None:
    folder, _ = begin(cluster, 1)
    wait_for(lambda: list(folder.states.glob("t*")), 90, "a trial")
    holder = folder.holder()
    assert holder is not None
    cluster.hosts["head"].run("kill", "-9", holder.split()[1])
    wait_for(lambda: folder.holder() is None, 30, "the driver's end")
    assert "quick: interrupted" in cluster.sweeper("status", str(folder.path)).stdout
    cluster.submit("resume", str(folder.path))
    status = agree(folder, f"sqlite:///{cluster.storage}/mlflow.db")
    assert status == dict.fromkeys(["c0000", "t0000"], "FINISHED")
