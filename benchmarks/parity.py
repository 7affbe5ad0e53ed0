"""Measures ABL and BCU against BadNets on generated shapes: figures that depend on details of the published code.

Shows whether ABL with its defaults isolates the poisoned samples, with and without augmentation, and how much of the
attack is left after BCU. Run it on two versions of ``trainers`` to see the effect of a change.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.shapes_hardness import rows_of
from benchmarks.timing import table
from trainers.compute import ComputeConfig
from trainers.data import Splits, load_data
from trainers.data.augmentation import Augmentation
from trainers.data.config import DataConfig
from trainers.measuring.evaluation import Measurement
from trainers.models import ModelConfig
from trainers.scenario import ScenarioConfig
from trainers.trial import TrialConfig, run_trial

SCENARIO = ScenarioConfig("badnets", "badnets", poison_rate=0.1)
PLAIN = Augmentation(crop=0, flip=False)
AUGMENTATIONS = {"crop 2 and flip": Augmentation(crop=2, flip=True), "no augmentation": PLAIN}
BCU = {
    "training_epochs": 18, "lr": 0.05, "batch_size": 64, "schedule": "cosine",
    "distillation_epochs": 20, "distillation_batch_size": 64, "ratio_scale": 5.0,
}  # fmt: skip
MODEL_FIGURES = ("val_acc", "val_asr", "asr_floor")
ABL_FIGURES = ("detection_auroc", "detection_tpr", *MODEL_FIGURES)


def final_figures(
    defense: str, params: dict[str, Any], augmentation: Augmentation, splits: Splits, seeds: Sequence[int]
) -> Iterator[Measurement]:
    """Train a defense with each seed, and yield the figures of the last epoch."""
    for seed in seeds:
        config = TrialConfig(
            splits.fingerprint,
            ModelConfig("tiny"),
            augmentation,
            defense,
            params,
            (SCENARIO,),
            (seed,),
            sweep_seed=0,
            compute=ComputeConfig(device="cpu"),
        )
        *_, last = run_trial(config, splits)
        yield last.measurement


def main(argv: Sequence[str] | None = None) -> int:
    """Train and print two tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of attack and training (0 1 2)")
    parser.add_argument("--train-size", type=int, default=3000, help="images in the training split (3000)")
    parser.add_argument("--test-size", type=int, default=2000, help="images in the test split (2000)")
    args = parser.parse_args(argv)
    held_out = args.train_size // 10  # as in BCU's paper
    splits = load_data(
        DataConfig("shapes", train_size=args.train_size, test_size=args.test_size, held_out_size=held_out)
    )

    rows: list[list[str]] = []
    for label, augmentation in AUGMENTATIONS.items():
        rows += rows_of(label, args.seeds, final_figures("abl", {}, augmentation, splits, args.seeds), ABL_FIGURES)
    print(f"ABL, all parameters at their defaults\n\n{table(['', *ABL_FIGURES], rows)}\n", flush=True)
    found = final_figures("bcu", BCU, PLAIN, splits, args.seeds)
    rows = list(rows_of(f"ratio_scale {BCU['ratio_scale']:g}", args.seeds, found, MODEL_FIGURES))
    print(f"BCU\n\n{table(['', *MODEL_FIGURES], rows)}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
