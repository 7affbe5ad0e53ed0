"""Compares the leader of an attacker's sweep with plain Blend, on fresh seeds.

The winner of a search looks better than it is, so the leader is run again with seeds that the search has not used.
Plain Blend has the same poison rate and the same opacity at test time, and this opacity in training too. Prints a
table, and draws the entropies of clean and poisoned samples.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from benchmarks.timing import table
from benchmarks.trainings import Job, in_processes, last_epoch, lines_by_label
from sweeper.analysis.attackers import attackers
from sweeper.preset.spec import SweepSpec, validate
from sweeper.report.plots import BLUE, RED, save_figure
from sweeper.run_folder.folder import RunFolder
from trainers.scenario import ScenarioConfig
from trainers.trial import TrialConfig

FIGURES = ("control_asr", "val_acc", "val_asr", "asr_floor", "detection_auroc")


def jobs(preset: dict[str, Any], spec: SweepSpec, leader: TrialConfig, seeds: Sequence[int]) -> list[Job]:
    """Jobs for the leader, and for plain Blend at the leader's rate and test opacity, with every seed."""
    own = leader.scenarios[0]
    params = {name: own.params[name] for name in ("alpha", "trigger")}
    plain = ScenarioConfig("plain blend", "blend", own.poison_rate, own.labels, own.target, params)
    found = []
    for scenario in (plain, own):
        for seed in seeds:
            defended = replace(leader, scenarios=(scenario,), repeats=(seed,))
            control = defended.control(scenario, seed, spec.control.as_dict())
            found.append(Job(scenario.name, defended, preset, control))
    return found


def run(job: Job) -> dict[str, Any]:
    """Train control and defense; returns figures, and normalised entropies of clean and of poisoned samples."""
    assert job.control is not None
    control = last_epoch(job.control, job.preset).measurement
    last = last_epoch(job.config, job.preset)
    assert last.scores is not None
    entropy, poisoned = 1 - last.scores["suspicion"].numpy(), last.scores["poisoned"].numpy()
    figures = {name: getattr(last.measurement, name) for name in FIGURES if name != "control_asr"}
    return {"label": job.label, "seed": job.config.repeats[0], "control_asr": control.val_asr, **figures,
            "clean": entropy[~poisoned], "poisoned": entropy[poisoned]}  # fmt: skip


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a row of histograms for each attacker, one histogram for each seed."""
    labels, seeds = list(dict.fromkeys(row["label"] for row in rows)), sorted({row["seed"] for row in rows})
    bins = np.linspace(0, 1, 41)
    figure, grid = plt.subplots(
        len(labels), len(seeds), figsize=(3.6 * len(seeds), 2.7 * len(labels)), squeeze=False, sharex=True, sharey="row"
    )
    for row in rows:
        axes = grid[labels.index(row["label"])][seeds.index(row["seed"])]
        for name, colour in (("clean", BLUE), ("poisoned", RED)):
            values = row[name]
            axes.hist(values, bins, weights=np.full(len(values), 1 / len(values)), color=colour, alpha=0.55, label=name)
        axes.set_title(
            f"{row['label']}, seed {row['seed']}: AUROC {row['detection_auroc']:.2f}, ASR {row['val_asr']:.2f}",
            fontsize=9,
        )
    for axes in grid[-1]:
        axes.set_xlabel("Victim's entropy, min-max normalised", fontsize=9)
    for line in grid:
        line[0].set_ylabel("share of samples", fontsize=9)
    grid[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    save_figure(figure, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Train all jobs, print a table and draw the entropies."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overlap", description=__doc__)
    parser.add_argument("folder", type=Path, help="run folder of an attacker's sweep against one scenario")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[10, 11, 12], help="seeds that the search has not used (10 11 12)"
    )
    parser.add_argument("--trial", help="trial to compare (default: the leader with the highest val_asr)")
    parser.add_argument("--picture", type=Path, default=Path("overlap.png"), help="where to draw (overlap.png)")
    parser.add_argument("--workers", type=int, default=2, help="processes, one core each (2)")
    args = parser.parse_args(argv)

    try:
        folder = RunFolder.open(args.folder)
        preset = folder.read_sweep()["preset"]
        spec = validate(preset, str(folder.sweep))
        found = attackers(folder.read_trials(), spec)
    except ValueError as error:
        parser.error(str(error))
    used = sorted(set(args.seeds) & set(spec.seeds))
    if used:
        parser.error(f"--seeds: the search has used {', '.join(map(str, used))}; fresh ones are needed")
    leading = found[found["leads"]] if args.trial is None else found[found["trial_id"] == args.trial]
    if leading.empty:
        parser.error(f"{args.folder} has no attacker {args.trial or 'that leads'}")
    trial_id = str(leading.iloc[0]["trial_id"])
    leader = folder.read_records()[trial_id].config
    assert leader is not None, "it has finished"
    if len(leader.scenarios) > 1:
        parser.error(f"{trial_id} met {len(leader.scenarios)} scenarios, but only one can be compared with Blend")
    if not {"alpha", "trigger"} <= set(leader.scenarios[0].params):
        parser.error(
            f"{leader.scenarios[0].attack} of {trial_id} blends no pattern, so it cannot be compared with Blend"
        )
    rows = in_processes(run, jobs(preset, spec, leader, args.seeds), args.workers)
    print(f"{trial_id}: rate {leader.scenarios[0].poison_rate:g}, {leader.scenarios[0].params}\n")
    print(table(["attacker", *FIGURES], lines_by_label(rows, FIGURES)))
    draw(rows, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
