"""Classes of unequal size: what V&B does to them when it compares entropies over the whole set, and within each label.

On a long tail cut from a data set: the largest class has ten times as many images as the smallest. Every setting is V&B
with one way to compare (``split_scope``) and one length of the warm-up, a short one and a long one; no defense stands
beside them. The target of the attacks is class 0, the largest: it is learned first, so it is where a defense that goes
by early certainty must tell poison from an easy class. ``--set scenario_defaults.target=9`` makes it the smallest:
most images with that label are poisoned then. A process trains on one core. Prints a table for each attack.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.timing import table
from benchmarks.trainings import Job, in_processes, last_epoch, lines_by_label, load
from search_spaces.loader import apply_overrides
from sweeper.preset.misfits import Misfits
from sweeper.preset.spec import SweepSpec, validate
from trainers.data.image_set import Splits

PRESET: dict[str, Any] = {
    "name": "unequal_classes",
    "data": {"train_size": 5000, "test_size": 2000, "imbalance": 10},  # 2,044 images are left of the 5,000
    "model": {"name": "tiny"},
    "augment": {"crop": 0, "flip": False},
    "defense": {
        "name": "vab",
        "split_scope": {"categorical": ["set", "class"]},
        "warmup_steps": {"categorical": [100, 400]},
        "victim_lr": 0.002,
        "mixing": "none",
        "mix_epochs": 8,
        "resplit_period": 3,
        "suppression_epochs": 3,
        "batch_size": 32,
        "lr": 0.05,
        "schedule": "cosine",
    },
    "control": {"epochs": 24, "batch_size": 64, "lr": 0.05, "schedule": "cosine"},
    "scenario_defaults": {"poison_rate": 0.1, "target": 0},
    "scenarios": [{"attack": "badnets"}, {"attack": "blend", "alpha": 0.2}],
    "seeds": [0, 1],
    "device": "cpu",
}
FIGURES = (
    "val_acc", "val_balanced_acc", "val_min_class_acc", "val_asr", "asr_floor", "detection_tpr", "detection_fpr",
    "detection_auroc",
)  # fmt: skip
HEADINGS = ("setting", "val_acc", "balanced", "worst class", "val_asr", "floor", "TPR", "FPR", "AUROC")


def jobs(preset: dict[str, Any], spec: SweepSpec, splits: Splits) -> list[Job]:
    """No defense, and every combination of what the preset searches, against each attack with each seed."""
    space = spec.space()
    found = []
    for scenario, seed in itertools.product(range(len(spec.scenarios)), spec.seeds):
        own = []
        for values in itertools.product(*(searched.grid() or () for searched in space.values())):
            chosen = dict(zip(space, values, strict=True))
            label = " ".join(f"{name.partition('.')[2]}={value}" for name, value in chosen.items())
            drawn = spec.trial(lambda name, _searched, chosen=chosen: chosen[name], splits.fingerprint)
            own.append((label, replace(drawn, scenarios=(drawn.scenarios[scenario],), repeats=(seed,))))
        first = own[0][1]
        control = first.control(first.scenarios[0], seed, spec.control.as_dict())
        found += [Job(label, config, preset) for label, config in [("no defense", control), *own]]
    return found


def run(job: Job) -> dict[str, Any]:
    """Train, and measure."""
    last = last_epoch(job.config, job.preset).measurement
    return {"attack": job.config.scenarios[0].name, "label": job.label, "seed": job.config.repeats[0],
            **{name: getattr(last, name) for name in FIGURES}}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run all, and print a table for each attack."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unequal_classes", description=__doc__)
    parser.add_argument("--data", required=True, help="parquet:PATH or folder:PATH, of CIFAR-10 for instance")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the preset")
    parser.add_argument("--workers", type=int, default=2, help="processes, one core each (2)")
    args = parser.parse_args(argv)
    try:
        preset = apply_overrides(PRESET, [f"data.source={args.data}", *args.set], "unequal_classes")
        spec = validate(preset, "unequal_classes")
        splits = load(preset)
        spec.check_against(splits, Misfits([block.values["name"] for block in spec.scenario_blocks]))
    except ValueError as error:
        parser.error(str(error))
    counts = splits.train.labels.bincount().tolist()
    rows = in_processes(
        run,
        jobs(preset, spec, splits),
        args.workers,
        lambda row: f"{row['attack']}, seed {row['seed']}, {row['label']}: {row['val_acc']:.3f}",
    )
    print(f"{len(splits.train)} training images; of each class: {', '.join(map(str, counts))}.")
    for attack in dict.fromkeys(row["attack"] for row in rows):
        lines = lines_by_label([row for row in rows if row["attack"] == attack], FIGURES)
        print(f"\n{attack}, seeds {', '.join(map(str, spec.seeds))}\n\n{table(HEADINGS, lines)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
