"""How long V&B's score tells poisoned samples: its AUROC against the steps of the warm-up, with and without averaging.

A network that learns the task almost as fast as the trigger, as a pretrained one does, leaves a window of some steps in
which poisoned samples have the lower entropy. ``score_moments`` averages the entropies of several moments of the
warm-up. One training of the Victim for each attack and seed gives every point: a warm-up of S steps is the beginning of
a longer one, and its moments lie in it. There are no rounds, so a point is the score from which the first split is
made. Prints a table for each attack, and draws the means over the seeds, with the range of the seeds behind each.

For a pretrained network::

    python -m benchmarks.warmup_window --data parquet:cifar10 --set data.image_size=64 \\
        --set "model={name: timm:tf_efficientnet_lite0, weights: tf_efficientnet_lite0.safetensors}"
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from torch import Tensor

from benchmarks.timing import table
from benchmarks.trainings import Job, in_processes, load, mean_and_spread
from search_spaces.loader import apply_overrides
from sweeper.preset.misfits import Misfits
from sweeper.preset.spec import SweepSpec, validate
from sweeper.report.plots import OKABE_ITO, save_figure
from trainers.data.image_set import Splits
from trainers.defenses.base import TrainingTask
from trainers.defenses.parts.entropy import moments_of, prediction_entropy
from trainers.defenses.vab import Vab, VabParams
from trainers.measuring.evaluation import auroc
from trainers.optim import Descent
from trainers.scenario import build_scenario, scenario_seed
from trainers.seeding import derive_seed

PRESET: dict[str, Any] = {
    "name": "warmup_window",
    "data": {"train_size": 2000, "test_size": 500},
    "model": {"name": "tiny"},
    "augment": {"crop": 0, "flip": False},
    "defense": {
        "name": "vab",
        "victim_lr": 1e-3,
        "victim_batch_size": 64,
        "warmup_rounds": 0,
        "mix_epochs": 1,
        "suppression_epochs": 0,
    },
    "control": {"epochs": 1},
    "scenario_defaults": {"poison_rate": 0.1, "target": 0},
    "scenarios": [{"attack": "badnets"}, {"attack": "blend", "alpha": 0.2}],
    "seeds": [0, 1, 2],
    "device": "cpu",
}
STEPS = (8, 16, 24, 32, 48, 64, 96, 124)
SMALL = ("data.train_size=200", "data.test_size=60", "model.width=4", "seeds=[0, 1]", "defense.victim_batch_size=32")
"""Changes of the preset for ``--small``."""


class Watched(Vab):
    """Keeps the entropies of all training images after chosen steps of the Victim: ``entropies``, by step."""

    def __init__(self, params: VabParams, task: TrainingTask, watched: set[int]):
        super().__init__(params, task)
        self._watched = watched
        self._steps = 0
        self.entropies: dict[int, Tensor] = {}

    def step(self, descent: Descent, loss: Tensor) -> None:
        """A step, and after chosen ones a look at every image."""
        super().step(descent, loss)
        self._steps += 1
        if self._steps in self._watched:
            self.entropies[self._steps] = prediction_entropy(self.logits_of(self.victim, self.images))
            descent.train()


def jobs(preset: dict[str, Any], spec: SweepSpec, splits: Splits) -> list[Job]:
    """A job for each attack and seed."""
    drawn = spec.trial(lambda name, searched: searched.corners()[0], splits.fingerprint)
    return [
        Job(scenario.name, replace(drawn, scenarios=(scenario,), repeats=(seed,)), preset)
        for scenario in drawn.scenarios
        for seed in spec.seeds
    ]


def run(job: Job) -> dict[str, Any]:
    """AUROC by steps and moments, of one attack and seed; what to measure stands in the preset's ``window``."""
    steps, counts = job.preset["window"]
    config, (scenario,), (seed,) = job.config, job.config.scenarios, job.config.repeats
    data = load({key: value for key, value in job.preset.items() if key != "window"})
    compute = config.compute.open()
    built = build_scenario(scenario, data, config.sweep_seed, seed, compute, None)
    own_seed = derive_seed(scenario_seed(scenario, config.sweep_seed, seed), "training", config.model.changed())
    task = TrainingTask(built.data, config.model, config.augmentation, compute, own_seed)
    params = VabParams(**config.params | {"warmup_steps": max(steps), "warmup_rounds": 0})
    victim = Watched(params, task, {moment for s in steps for c in counts for moment in moments_of(s, c)})
    next(victim.epochs())

    def of(moments: Sequence[int]) -> float:
        mean = sum(victim.entropies[moment] for moment in moments) / len(moments)
        return auroc(built.truth.poisoned, -mean)

    return {"attack": scenario.name, "seed": seed, **{(s, c): of(moments_of(s, c)) for s in steps for c in counts}}


def draw(rows: Sequence[dict[Any, Any]], steps: Sequence[int], counts: Sequence[int], path: Path) -> None:
    """Draw a panel for each attack, with a line for each number of moments."""
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    figure, panels = plt.subplots(1, len(attacks), figsize=(5 * len(attacks), 3.4), squeeze=False, sharey=True)
    for axes, attack in zip(panels[0], attacks, strict=True):
        for count, colour in zip(counts, OKABE_ITO[1:], strict=False):
            values = np.array([[row[s, count] for s in steps] for row in rows if row["attack"] == attack])
            label = "the end of the warm-up" if count == 1 else f"mean of {count} moments"
            axes.plot(steps, values.mean(0), marker="o", color=colour, label=label)
            axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        axes.axhline(0.5, color="#777777", linewidth=0.8, linestyle=":")
        axes.set_title(attack, fontsize=10)
        axes.set_xlabel("steps of the warm-up", fontsize=9)
    panels[0][0].set_ylabel("AUROC of V&B's score", fontsize=9)
    panels[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    save_figure(figure, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Train all Victims, print a table for each attack, and draw the picture."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.warmup_window",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", default="shapes", help="shapes, parquet:PATH or folder:PATH (shapes)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the preset")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="lengths of the warm-up, in steps")
    parser.add_argument("--moments", type=int, nargs="+", default=[1, 4], help="values of score_moments (1 4)")
    parser.add_argument("--picture", type=Path, default=Path("warmup_window.png"), help="where to draw")
    parser.add_argument("--workers", type=int, default=2, help="processes, one core each (2)")
    parser.add_argument("--small", action="store_true", help="a few steps on a few images, to see that it runs")
    args = parser.parse_args(argv)
    if min(*args.steps, *args.moments) < 1:
        parser.error("--steps and --moments must be at least 1")
    steps = (2, 4) if args.small else tuple(sorted(set(args.steps)))
    changes = [f"data.source={args.data}", *(SMALL if args.small else ()), *args.set]
    try:
        preset = apply_overrides(PRESET, changes, "warmup_window")
        splits = load(preset)
        spec = validate(preset, "warmup_window").settled(splits)
        spec.check_against(splits, Misfits([block.values["name"] for block in spec.scenario_blocks]))
    except ValueError as error:
        parser.error(str(error))
    told = preset | {"window": (steps, tuple(args.moments))}
    rows = in_processes(
        run, jobs(told, spec, splits), args.workers, lambda row: f"{row['attack']}, seed {row['seed']} is measured"
    )
    for attack in dict.fromkeys(row["attack"] for row in rows):
        own = [row for row in rows if row["attack"] == attack]
        lines = [[str(s), *(mean_and_spread([row[s, c] for row in own]) for c in args.moments)] for s in steps]
        print(f"\n{attack}, seeds {', '.join(str(row['seed']) for row in own)}: AUROC\n")
        print(table(["steps", *(f"{count} moments" for count in args.moments)], lines))
    draw(rows, steps, args.moments, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
