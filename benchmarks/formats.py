"""V&B in float32 and under bfloat16 autocast on this processor: accuracy, attack success, detection and time.

Each scenario of a preset is trained in both formats with each seed, one process and one core each, with the preset's
defense at the first value of whatever is searched. Prints means and spreads over seeds, and the differences of accuracy
and attack success, paired by seed. A processor without instructions for bfloat16 computes the same, but slowly.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.attacks import trials_of
from benchmarks.timing import table
from benchmarks.trainings import Job, in_processes, last_epoch, lines_by_label, load, mean_and_spread
from search_spaces.loader import apply_overrides, read_preset
from sweeper.preset.spec import validate
from trainers.compute import has_bfloat16

FORMATS = {"off": "float32", "on": "bfloat16"}
FIGURES = ("val_acc", "val_asr", "asr_floor", "detection_auroc", "seconds")


def jobs(preset: dict[str, Any], where: str, only: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """A job for each scenario, seed and format.

    Args:
        preset: with a defense that scores samples.
        where: name of the preset.
        only: names of the scenarios; empty: all.
        seeds: of the trainings.
    """
    spec = validate(preset, where)
    fingerprint, found = load(preset).fingerprint, []
    for number, block in enumerate(spec.scenario_blocks):
        if only and block.values["name"] not in only:
            continue
        for seed in seeds:
            config, _ = trials_of(spec, number, seed, fingerprint)
            for amp, words in FORMATS.items():
                own = replace(config, compute=replace(config.compute, amp=amp))
                found.append(Job(f"{block.values['name']}, {words}", own, preset))
    return found


def run(job: Job) -> dict[str, Any]:
    """The figures of a training."""
    last = last_epoch(job.config, job.preset).measurement
    return {"label": job.label, "seed": job.config.repeats[0], **{name: getattr(last, name) for name in FIGURES}}


def differences(rows: Sequence[dict[str, Any]], figure: str) -> list[float]:
    """What bfloat16 adds to a figure, for each scenario and seed."""
    by_job = {(*row["label"].rsplit(", ", 1), row["seed"]): row[figure] for row in rows}
    pairs = [(by_job[scenario, FORMATS["on"], seed], value) for (scenario, words, seed), value in by_job.items()
             if words == FORMATS["off"]]  # fmt: skip
    return [half - whole for half, whole in pairs if half is not None and whole is not None]


def main(argv: Sequence[str] | None = None) -> int:
    """Train in both formats, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="attacks_cpu", help="a preset, by name or path (attacks_cpu)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the preset")
    parser.add_argument("--only", nargs="+", default=["badnets", "blend"], help="scenarios (badnets blend)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12], help="seeds (10 11 12)")
    parser.add_argument("--workers", type=int, default=2, help="processes, one core each (2)")
    args = parser.parse_args(argv)
    preset = apply_overrides(read_preset(args.preset), args.set, args.preset)
    rows = in_processes(run, jobs(preset, args.preset, args.only, args.seeds), args.workers, str)
    print(f"This processor computes in bfloat16: {'yes' if has_bfloat16() else 'no'}\n")
    print(table(["", *FIGURES], lines_by_label(rows, FIGURES)))
    print()
    for figure in FIGURES[:-1]:
        print(f"{figure}, bfloat16 less float32: {mean_and_spread(differences(rows, figure))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
