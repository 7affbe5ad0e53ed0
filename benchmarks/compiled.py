"""Every defense with compiled networks against the same training without: largest difference of a weight, and time.

Two epochs of each stage on generated shapes, in float32 on a CPU. Compiling takes minutes for each defense.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.timing import table
from trainers.compute import ComputeConfig
from trainers.data import ImageSet
from trainers.data.augmentation import Augmentation
from trainers.data.shapes import make_shapes
from trainers.defenses import DEFENSES
from trainers.defenses.base import Defense, TrainingTask
from trainers.models import ModelConfig

BATCH = 32
SHORT = {"warmup_steps": 4, "victim_batch_size": BATCH, "distillation_batch_size": BATCH, "batch_size": BATCH}


@dataclass(frozen=True)
class Compared:
    """A defense, trained in both ways.

    Args:
        name: of the defense.
        difference: largest absolute difference of a weight or a statistic of batch-norm.
        size: largest absolute weight or statistic.
        seconds: of the training without and with compiling.
    """

    name: str
    difference: float
    size: float
    seconds: tuple[float, float]


def compare(name: str, data: ImageSet, model: ModelConfig) -> Compared:
    """Train a defense in both ways, with two epochs of each stage."""
    trained, seconds = [], []
    for compiled in (False, True):
        began = time.perf_counter()
        trained.append(_weights(_trained(name, data, model, compiled)))
        seconds.append(time.perf_counter() - began)
        torch.compiler.reset()
    whole, other = trained
    return Compared(name, (whole - other).abs().max().item(), whole.abs().max().item(), (seconds[0], seconds[1]))


def _trained(name: str, data: ImageSet, model: ModelConfig, compiled: bool) -> Defense:
    kind = DEFENSES[name]
    known = kind.Params.keys()
    two = {key: 2 for key in known if key == "epochs" or key.endswith("_epochs")}
    params = kind.Params(**two, **{key: value for key, value in SHORT.items() if key in known})
    compute = ComputeConfig("cpu", compile=compiled).open()
    defense = kind(params, TrainingTask(data, model, Augmentation(1), compute, 0, data.images.flip(3)))
    for _ in defense.epochs():
        pass
    return defense


def _weights(defense: Defense) -> torch.Tensor:
    return torch.cat([v.flatten().double() for m in defense.modules.values() for v in m.state_dict().values()])


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=tuple(DEFENSES), default=list(DEFENSES), help="defenses (all)")
    parser.add_argument("--images", type=int, default=200, help="training images (200)")
    parser.add_argument("--width", type=int, default=8, help="width of the tiny network (8)")
    args = parser.parse_args(argv)
    data = make_shapes(args.images, 10, seed=0, image_size=8).train
    rows = []
    for name in args.only:
        found = compare(name, data, ModelConfig("tiny", width=args.width))
        rows.append([name, f"{found.difference:.1e}", f"{found.size:.2g}", *(f"{s:.0f}" for s in found.seconds)])
        print(f"{name}: {found.difference:.1e}", file=sys.stderr, flush=True)
    print(table(["defense", "largest difference", "largest weight", "eager, s", "compiled, s"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
