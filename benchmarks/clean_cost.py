"""Measures the accuracy that each defense costs on clean data, compared with no defense.

Takes the run folder of a comparison of defenses. For each defense, the setting that ``sweeper frontier`` shows is
trained at poison rate 0, on seeds that the search has not used. A network without a defense is trained in the same way,
with the sweep's control parameters. Prints a table of the differences in accuracy, paired by seed.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.timing import table
from benchmarks.trainings import Job, in_processes, last_epoch, mean_and_spread
from sweeper.analysis.comparison import representatives
from sweeper.preset.spec import validate
from sweeper.run_folder.folder import RunFolder
from trainers.scenario import ScenarioConfig

CLEAN = ScenarioConfig("clean", "badnets", poison_rate=0.0)
"""A scenario without poison; the attack's name has no effect."""


@dataclass(frozen=True)
class Cost:
    """Result of a job: accuracy on the validation images, images seen and seconds."""

    label: str
    seed: int
    val_acc: float
    images_seen: int
    seconds: float


def run(job: Job) -> Cost:
    """Train the setting of a job."""
    last = last_epoch(job.config, job.preset).measurement
    assert last.val_acc is not None, "the last epoch has a network"
    return Cost(job.label, job.config.repeats[0], last.val_acc, last.images_seen, last.seconds)


def jobs(folder: RunFolder, seeds: Sequence[int]) -> list[Job]:
    """Jobs for no defense and for the setting of each defense, with every seed.

    Raises:
        ValueError: the folder holds no comparison, or the search has used a seed.
    """
    preset = folder.read_sweep()["preset"]
    spec = validate(preset, str(folder.sweep))
    used = sorted(set(seeds) & set(spec.seeds))
    if used:
        raise ValueError(f"--seeds: the search has used {', '.join(map(str, used))}; fresh ones are needed")
    chosen = representatives(folder.read_trials())
    if chosen.empty:
        raise ValueError(f"{folder.path} has no setting that met an attack that works")
    records = folder.read_records()
    configs = {row["defense"]: records[row["trial_id"]].config for row in chosen.to_dict("records")}
    found = []
    for seed in seeds:
        own = {name: replace(config, scenarios=(CLEAN,), repeats=(seed,)) for name, config in configs.items() if config}
        first = next(iter(own.values()))
        own = {"none": first.control(CLEAN, seed, spec.control.as_dict())} | own
        found += [Job(name, config, preset) for name, config in own.items()]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Train all jobs and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clean_cost", description=__doc__)
    parser.add_argument("folder", type=Path, help="run folder of a comparison of defenses")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[10, 11, 12], help="seeds that the search has not used (10 11 12)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes, one core each (2)")
    args = parser.parse_args(argv)
    try:
        wanted = jobs(RunFolder.open(args.folder), args.seeds)
    except ValueError as error:
        parser.error(str(error))
    costs = in_processes(run, wanted, args.workers)
    plain = {cost.seed: cost.val_acc for cost in costs if cost.label == "none"}
    lines = []
    for label in dict.fromkeys(cost.label for cost in costs):
        own = [cost for cost in costs if cost.label == label]
        lines.append([
            label, mean_and_spread([c.val_acc for c in own]), mean_and_spread([plain[c.seed] - c.val_acc for c in own]),
            f"{statistics.mean(c.images_seen for c in own):,.0f}", f"{statistics.mean(c.seconds for c in own):.0f}",
        ])  # fmt: skip
    print(table(["defense", "val_acc", "lost against none", "images", "s"], lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
