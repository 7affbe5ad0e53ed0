"""Measures trainings per minute against the number of hosts, and the data sent to each host of a cluster.

python -m benchmarks.scaling [--hosts 1 2 3] [--wait 10] [--rounds 10] [--images 50000]

The hosts are namespaces of this machine, brought up by the shipped ``cluster.yaml``; each takes two trainings at once.
Trainings compute nothing, since all hosts share the same CPUs. There are fewer trials than places, so the trainings of
a trial run on several hosts at once. Has the requirements of ``make test-cluster``.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.timing import table
from tests.cluster.hosts import PROJECT, Host, missing
from tests.cluster.up import Cluster, cluster, shared_folder

SLOTS = 2
"""Trainings at a time on a host."""
IMAGE_BYTES = 16 * 16 * 3


def received(host: Host) -> int:
    """Bytes that ``host`` has received over the network since its start."""
    # The bytes that the switch sends on the host's cable are those that the host receives.
    command = ["ip", "-n", host.switch, "-s", "-j", "link", "show", host.port]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True).stdout)[0]["stats64"]["tx"]["bytes"])


def waiting_sweep(up: Cluster, trials: int, seeds: int, wait_s: float, images: int) -> dict[str, Any]:
    """Run trainings that only wait; returns the figures of :mod:`benchmarks.driver`, and megabytes into each worker."""
    before = {name: received(up.hosts[name]) for name in up.names}
    words = ("--trials", str(trials), "--seeds", str(seeds), "--wait", str(wait_s), "--sampler", "random",
             "--images", str(images))  # fmt: skip
    lines = up.ray(
        "submit", "cluster.yaml", "driver.py", "--", *words, timeout=600 + 3 * (trials + 1) * seeds * wait_s
    ).stdout.splitlines()
    found: dict[str, Any] = json.loads("\n".join(lines[lines.index("{") : lines.index("}") + 1]))
    megabytes = {name: (received(up.hosts[name]) - before[name]) / 1e6 for name in up.names if name != "head"}
    return found | {"megabytes": megabytes}


def measure(hosts: int, wait_s: float, rounds: int, images: int) -> list[dict[str, Any]]:
    """Run two sweeps on ``hosts`` hosts, the second with twice as many trainings of each trial."""
    with shared_folder() as place, cluster(place, workers=hosts - 1, cpus=SLOTS) as up:
        shutil.copy(PROJECT / "benchmarks" / "driver.py", up.hosts["laptop"].home / "checkout")
        trials = hosts * SLOTS - 1  # and as many controls as a trial has trainings
        return [waiting_sweep(up, trials, times * rounds, wait_s, images) for times in (1, 2)]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--wait", type=float, default=10.0, help="seconds that a training takes, above 0 (10)")
    parser.add_argument("--rounds", type=int, default=10, help="trainings per slot (10)")
    parser.add_argument("--images", type=int, default=50_000, help="training images, 16x16 each (50000)")
    args = parser.parse_args(argv)
    reason = missing()
    if reason is not None:
        parser.error(f"this {reason}")
    if args.wait <= 0:
        parser.error("--wait must be above 0")
    rows = []
    for hosts in args.hosts:
        for found in measure(hosts, args.wait, args.rounds, args.images):
            pace = found["trainings a minute, middle three fifths"]
            ideal = 60 / args.wait * hosts * SLOTS
            rows.append([
                str(hosts), str(found["trials"]), str(found["trainings"]), f"{found['seconds']:.0f}", f"{pace:.1f}",
                f"{pace / ideal:.0%}",
                ", ".join(f"{size:.1f}" for size in found["megabytes"].values()) or "-",
            ])  # fmt: skip
            print(f"{hosts} hosts, {found['trainings']} trainings: {pace:.1f} a minute", flush=True)
    header = (
        "hosts",
        "trials",
        "trainings",
        "seconds in all",
        "trainings a minute",
        "of the ideal",
        "MB into each worker",
    )
    print(table(header, rows))
    print(f"The training images are {args.images * IMAGE_BYTES / 1e6:.1f} MB.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
