"""Images per second of V&B: this project against the same computation in customary PyTorch, in one process.

Both sides have the same images, networks, initial weights, split and batch sizes. They run in turns, in alternating
order, so that other load on the machine affects both. Stage 1 and stage 2 count the augmented images that go forward
and backward; scoring counts the images scored; "two views" makes batches without any network.
"""

import argparse
import statistics
from collections.abc import Sequence

import torch

from benchmarks.customary import CustomaryVab
from benchmarks.project import ProjectVab
from benchmarks.timing import rate, spread, table
from trainers.compute import ComputeConfig
from trainers.data.augmentation import Augmentation
from trainers.data.shapes import make_shapes
from trainers.models import MODELS, ModelConfig

PARTS = {
    "two views": "views",
    "stage 1 (AttentionMix)": "mix_epoch",
    "stage 2 (suppression)": "suppression_epoch",
    "scoring (entropy)": "score",
}
"""The parts that are measured, each with its method, which both sides have."""


def build(images: int, size: int, model: str, threads: int) -> tuple[ProjectVab, CustomaryVab]:
    """Build both sides on the generated shapes.

    Args:
        images: number of training images.
        size: height and width of the images.
        model: name of the network.
        threads: CPU threads.
    """
    compute = ComputeConfig(device="cpu", threads=threads).open()
    data = make_shapes(images, 10, seed=0, image_size=size).train
    crop = max(size // 8, 1)  # 4 for the 32 pixels of CIFAR-10
    project = ProjectVab(data, ModelConfig(model), Augmentation(crop), compute)
    weights = {role: network.state_dict() for role, network in project.defense.modules.items()}
    normalizer = project.defense.normalise
    return project, CustomaryVab(data, ModelConfig(model), weights, normalizer, crop, compute.device)


def measure(project: ProjectVab, customary: CustomaryVab, method: str, repeats: int) -> list[tuple[float, float]]:
    """Images per second of project and customary, once for each repeat, after one untimed run of both."""
    sides = (project, customary)
    rates: list[tuple[float, float]] = []
    for repeat in range(repeats + 1):
        found = {}
        for side in sides if repeat % 2 else reversed(sides):
            side.reset()
            found[side] = rate(getattr(side, method), torch.device("cpu"))
        if repeat:
            rates.append((found[project], found[customary]))
    return rates


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="images in the training set (default: 2000)")
    parser.add_argument("--size", type=int, default=16, help="height and width of the images (default: 16)")
    parser.add_argument("--model", choices=tuple(MODELS), default="tiny", help="the network (default: tiny)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each side (default: 5)")
    args = parser.parse_args(argv)
    project, customary = build(args.images, args.size, args.model, args.threads)
    print(
        f"{args.images} images of {args.size}x{args.size}, {args.model}, {args.threads} thread(s), torch "
        f"{torch.__version__}, {args.repeats} repeats: images/s, median (lowest to highest)\n",
        flush=True,
    )
    rows = []
    for part, method in PARTS.items():
        rates = measure(project, customary, method, args.repeats)
        ours, theirs = zip(*rates, strict=True)
        ratios = [a / b for a, b in rates]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append([part, spread(ours), spread(theirs), ratio])
    print(table(["", "this project", "customary", "ratio within a repeat"], rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
