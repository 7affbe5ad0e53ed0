"""Measures whether the generated ``shapes`` are harder to learn than a trigger, for BadNets and Blend.

A control (no defense) shows that the task can be learned and that the attack works. V&B's warm-up shows how well the
Victim's entropy separates poisoned samples from clean ones at the split that the Beneficiary starts from.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.timing import table
from trainers.compute import ComputeConfig
from trainers.data import Splits, load_data
from trainers.data.augmentation import Augmentation
from trainers.data.config import DataConfig
from trainers.measuring.evaluation import Measurement
from trainers.models import ModelConfig
from trainers.scenario import ScenarioConfig
from trainers.trial import TrialConfig, run_trial

SCENARIOS = (
    ScenarioConfig("badnets", "badnets", poison_rate=0.1),
    ScenarioConfig("blend", "blend", poison_rate=0.1, params={"alpha": 0.2}),
)
CONTROL = {"lr": 0.05, "schedule": "cosine", "batch_size": 64}
VICTIM = {"victim_lr": 2e-3, "mix_epochs": 1, "suppression_epochs": 0}
CONTROL_FIGURES = ("val_acc", "val_asr", "asr_floor")
SPLIT_FIGURES = ("detection_auroc", "detection_tpr", "detection_fpr", "credible_min_class_share")


def last_measurements(
    defense: str, params: dict[str, Any], stage: str, splits: Splits, scenario: ScenarioConfig, seed: int, threads: int
) -> Measurement:
    """Run a defense on one scenario up to the end of ``stage``, and return the figures there."""
    config = TrialConfig(
        splits.fingerprint,
        ModelConfig("tiny"),
        Augmentation(crop=0, flip=True),
        defense,
        params,
        (scenario,),
        (seed,),
        sweep_seed=0,
        compute=ComputeConfig(device="cpu", threads=threads),
    )
    last = None
    for result in run_trial(config, splits):
        if result.measurement.stage != stage:
            break
        last = result.measurement
    assert last is not None, f"{defense} has no stage {stage}"
    return last


def rows_of(
    label: str, seeds: Sequence[int], found: Iterator[Measurement], names: Sequence[str]
) -> Iterator[list[str]]:
    """Yield a row for each seed, and a row with mean and standard deviation (n - 1)."""
    values = []
    for seed, measurement in zip(seeds, found, strict=True):
        values.append([float(getattr(measurement, name)) for name in names])
        yield [f"{label}, seed {seed}", *(f"{value:.3f}" for value in values[-1])]
    columns = list(zip(*values, strict=True))
    deviations = [f" ± {statistics.stdev(column):.3f}" if len(column) > 1 else "" for column in columns]
    means = [f"{statistics.mean(column):.3f}" for column in columns]
    yield [f"**{label}, mean ± sd**", *(mean + deviation for mean, deviation in zip(means, deviations, strict=True))]


def main(argv: Sequence[str] | None = None) -> int:
    """Train and print two tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes_hardness", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of attack and training (0 1 2)")
    parser.add_argument(
        "--warmup-steps",
        type=int,
        nargs="+",
        default=[80],
        help="steps of the Victim's warm-up, one table for each number (80)",
    )
    parser.add_argument("--no-control", action="store_true", help="measure the warm-up only")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the control (20)")
    parser.add_argument("--train-size", type=int, default=3000, help="images in the training split (3000)")
    parser.add_argument("--test-size", type=int, default=2000, help="images in the test split (2000)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    args = parser.parse_args(argv)
    splits = load_data(DataConfig("shapes", train_size=args.train_size, test_size=args.test_size, seed=0))

    def runs(defense: str, params: dict[str, Any], stage: str, scenario: ScenarioConfig) -> Iterator[Measurement]:
        for seed in args.seeds:
            yield last_measurements(defense, params, stage, splits, scenario, seed, args.threads)

    if not args.no_control:
        rows: list[list[str]] = []
        for scenario in SCENARIOS:
            found = runs("none", {**CONTROL, "epochs": args.epochs}, "training", scenario)
            rows += rows_of(scenario.name, args.seeds, found, CONTROL_FIGURES)
        print(f"Control: no defense, {args.epochs} epochs\n\n{table(['', *CONTROL_FIGURES], rows)}\n", flush=True)
    for steps in args.warmup_steps:
        rows = []
        for scenario in SCENARIOS:
            found = runs("vab", {**VICTIM, "warmup_steps": steps}, "warmup", scenario)
            rows += rows_of(scenario.name, args.seeds, found, SPLIT_FIGURES)
        print(f"V&B after its warm-up, {steps} steps\n\n{table(['', *SPLIT_FIGURES], rows)}\n", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
