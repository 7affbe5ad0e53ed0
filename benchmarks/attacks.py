"""Measures every attack of a preset: success with and without V&B, cost to the attacker, and time.

Runs from ``trainers`` and the preset alone, without Ray: each attack and seed is one process on one core. The time is
that of poisoning (with every surrogate and generator trained anew) and of the control; V&B's time is not included.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.timing import table
from benchmarks.trainings import Job, in_processes, last_epoch, load, mean_and_spread
from search_spaces.distributions import Searched
from search_spaces.loader import apply_overrides, read_preset
from sweeper.preset.blocks import Block
from sweeper.preset.spec import SweepSpec, validate
from trainers.scenario import ScenarioConfig, build_scenario
from trainers.trial import TrialConfig

BAR_SECONDS = 90
BAR, LOW_BAR = 0.9, 0.6
LOW = ("narcissus", "tact", "adaptive_k_way", "sig", "cl")
"""Attacks whose control ASR must reach 0.6; the others must reach 0.9."""


def trials_of(spec: SweepSpec, number: int, seed: int, fingerprint: str) -> tuple[TrialConfig, TrialConfig]:
    """The defended trial and the control of one scenario; a searched parameter takes its first value."""
    name = spec.scenario_blocks[number].values["name"]
    drawn = spec.trial(lambda key, s: name if key == "scenario" else s.corners()[0], fingerprint)
    scenario = next(s for s in drawn.scenarios if s.name == name)
    defended = replace(drawn, scenarios=(scenario,), repeats=(seed,))
    return defended, defended.control(scenario, seed, spec.control.as_dict())


def job_of(preset: dict[str, Any], spec: SweepSpec, number: int, seed: int, fingerprint: str, defense: bool) -> Job:
    """One attack with one seed: the defended trial beside its control, or the control alone."""
    defended, control = trials_of(spec, number, seed, fingerprint)
    name = control.scenarios[0].name
    return Job(name, defended, preset, control) if defense else Job(name, control, preset)


def rate_of(block: Block) -> float:
    """The poison rate of a scenario; the first value if the rate is searched."""
    rate = block.values.get("poison_rate", ScenarioConfig.poison_rate)
    return float(rate.corners()[0] if isinstance(rate, Searched) else rate)


def run(job: Job) -> dict[str, Any]:
    """Poison, train the control and, if wanted, the defended model; returns the figures of all three."""
    control = job.control or job.config
    (scenario,), (seed,) = control.scenarios, control.repeats
    splits, compute = load(job.preset), control.compute.open()
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        cache = Path(folder)
        began = time.perf_counter()
        made = build_scenario(scenario, splits, control.sweep_seed, seed, compute, cache)
        poisoning = time.perf_counter() - began
        plain = last_epoch(control, job.preset, cache).measurement
        guarded = last_epoch(job.config, job.preset, cache).measurement if job.control else None
    return {
        "scenario": scenario.name, "rate": scenario.poison_rate, "seed": seed, **asdict(made.cost),
        "seconds": poisoning + plain.seconds, "control_acc": plain.val_acc, "control_asr": plain.val_asr,
        **({} if guarded is None else {
            name: getattr(guarded, name) for name in ("val_acc", "val_asr", "asr_floor", "detection_auroc")
        }),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run all attacks, print a table, and list the limits that were missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument(
        "--preset", default="attacks_cpu.yaml", help="preset with attacks, data and V&B (attacks_cpu.yaml)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the preset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of attack and training (0 1)")
    parser.add_argument("--only", nargs="+", help="names of scenarios (default: all)")
    parser.add_argument("--no-defense", action="store_true", help="train controls only")
    parser.add_argument("--workers", type=int, default=2, help="processes, one core each (2)")
    args = parser.parse_args(argv)

    preset = apply_overrides(read_preset(args.preset), args.set, args.preset)
    spec = validate(preset, args.preset)
    names = [block.values["name"] for block in spec.scenario_blocks]
    unknown = sorted(set(args.only or ()) - set(names))
    if unknown:
        parser.error(f"--only: {args.preset} has no {', '.join(unknown)}; it has {', '.join(names)}")
    unpoisoned = [name for name, block in zip(names, spec.scenario_blocks, strict=True) if not rate_of(block)]
    if unpoisoned:
        parser.error(f"{args.preset}: {', '.join(unpoisoned)} has poison_rate 0, so there is no success to measure")
    wanted = [number for number, name in enumerate(names) if not args.only or name in args.only]
    fingerprint = load(preset).fingerprint
    found = in_processes(
        run,
        [
            job_of(preset, spec, number, seed, fingerprint, not args.no_defense)
            for number in wanted
            for seed in args.seeds
        ],
        args.workers,
        lambda row: f"{row['scenario']}, seed {row['seed']}: control ASR {row['control_asr']:.3f}",
    )

    lines, missed = [], []
    for number in wanted:
        rows = [row for row in found if row["scenario"] == names[number]]
        figures = ["control_acc", "control_asr", "val_acc", "val_asr", "asr_floor", "detection_auroc"]
        cells = [mean_and_spread([row.get(name) for row in rows]) for name in figures]
        costs = [statistics.mean(row["changed_share"] for row in rows)]
        psnr = mean_and_spread([row["psnr"] for row in rows]).split(" ")[0]
        ssim = mean_and_spread([row["ssim"] for row in rows]).split(" ")[0]
        seconds = max(row["seconds"] for row in rows)
        lines.append([names[number], f"{rows[0]['rate']:g}", *cells, f"{costs[0]:.3f}", psnr, ssim, f"{seconds:.0f}"])
        bar = LOW_BAR if spec.scenario_blocks[number].kind in LOW else BAR
        asr = statistics.mean(row["control_asr"] for row in rows)
        if asr < bar:
            missed.append(f"{names[number]}: control ASR {asr:.3f}, below {bar:g}")
        if seconds > BAR_SECONDS:
            missed.append(f"{names[number]}: {seconds:.0f} s, above {BAR_SECONDS}")
    head = ["attack", "rate", "control acc", "control ASR", "val_acc", "val_asr", "floor", "AUROC", "changed", "PSNR",
            "SSIM", "s"]  # fmt: skip
    print(table(head, lines))
    print("\nMissed: " + "; ".join(missed) if missed else "\nNo limit was missed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
