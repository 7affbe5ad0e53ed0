"""Images per second and peak memory of V&B at paper scale on CUDA: ResNet-18, 50,000 images of 32x32.

Needs only ``trainers`` and its dependencies. Peak memory is the most that PyTorch's allocator held while the part ran,
including networks, optimisers and the resident images.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.customary import CustomaryVab
from benchmarks.project import ProjectVab
from benchmarks.timing import rate, spread, table
from trainers.compute import Compute
from trainers.data import ImageSet, load_data
from trainers.data.batches import Augmentation, Normalizer
from trainers.data.config import DataConfig
from trainers.data.subset import stratified_indices
from trainers.models import MODELS, ModelConfig
from trainers.seeding import seeded

PARTS = {"stage 1": "mix_epoch", "stage 2": "suppression_epoch", "scoring": "score"}
"""The parts that are measured, each with its method."""


class ContiguousCompute(Compute):
    """Networks in torch's default memory format (NCHW)."""

    def place(self, network: nn.Module) -> None:
        """Move ``network`` to the device."""
        network.to(self.device)
        if self.compile:
            network.compile()


class ContiguousNormalizer(Normalizer):
    """Images in torch's default memory format (NCHW)."""

    def __call__(self, images: Tensor) -> Tensor:
        """``images``: uint8 (N, C, H, W) -> float (N, C, H, W)."""
        scaled = images.to(torch.float32, memory_format=torch.contiguous_format) / 255
        return (scaled - self.mean[:, None, None]) / self.std[:, None, None]


@dataclass(frozen=True)
class Mode:
    """A numeric format and a memory format.

    Args:
        name: name in the table.
        amp: bfloat16 autocast; otherwise float32.
        channels_last: channels last in memory; otherwise contiguous.
    """

    name: str
    amp: bool
    channels_last: bool

    def build(
        self, data: ImageSet, model: ModelConfig, augmentation: Augmentation, device: torch.device, compiled: bool
    ) -> ProjectVab:
        """V&B in this mode."""
        if self.channels_last:
            return ProjectVab(data, model, augmentation, Compute(device, self.amp, compiled))
        vab = ProjectVab(data, model, augmentation, ContiguousCompute(device, self.amp, compiled))
        vab.defense.normalise = ContiguousNormalizer(vab.defense.normalise.mean, vab.defense.normalise.std)
        return vab


MODES = (
    Mode("fp32", amp=False, channels_last=False),
    Mode("fp32, channels_last", amp=False, channels_last=True),
    Mode("bf16, channels_last", amp=True, channels_last=True),
)
"""The last mode is that of a trial on CUDA."""


def measure(
    vab: ProjectVab | CustomaryVab, method: str, repeats: int, device: torch.device
) -> tuple[list[float], float | None]:
    """Images per second of each repeat after one untimed run, and the peak memory in GiB (null without CUDA)."""
    rates = []
    for repeat in range(repeats + 1):
        vab.reset()
        if repeat == 1 and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        rates.append(rate(getattr(vab, method), device))
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return rates[1:], peak


def load(source: str | None, count: int, size: int) -> ImageSet:
    """Training images of ``source``, or random ones; at most ``count``."""
    if source is None:
        images = torch.randint(256, (count, 3, size, size), generator=seeded(0), dtype=torch.uint8)
        return ImageSet(images, torch.arange(count) % 10, tuple(f"class {c}" for c in range(10)))
    data = load_data(DataConfig(source=source, image_size=size)).train
    return data if len(data) <= count else data.subset(stratified_indices(data.labels, count, seed=0))


def rows_of(name: str, vab: ProjectVab | CustomaryVab, repeats: int, device: torch.device) -> list[list[str]]:
    """A table row for each part."""
    rows = []
    for part, method in PARTS.items():
        rates, peak = measure(vab, method, repeats, device)
        rows.append([f"{part}, {name}", spread(rates), "" if peak is None else f"{peak:.2f}"])
        print(f"{rows[-1][0]}: {statistics.median(rates):,.0f} images/s", file=sys.stderr, flush=True)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table; returns 2 without CUDA."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--data", metavar="SOURCE", help="parquet:PATH or another data source (default: random pixels)")
    parser.add_argument("--images", type=int, default=50_000, help="images in the training set (default: 50000)")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images (default: 32)")
    parser.add_argument("--model", choices=tuple(MODELS), default="resnet18", help="the network (default: resnet18)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each part (default: 3)")
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks")
    parser.add_argument("--customary", action="store_true", help="also time customary PyTorch, once (slow)")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("There is nothing to measure here: torch sees no CUDA device.", file=sys.stderr)
        return 2
    device, model = torch.device("cuda"), ModelConfig(args.model)
    data = load(args.data, args.images, args.size)
    crop = max(args.size // 8, 1)  # 4 for the 32 pixels of CIFAR-10
    rows: list[list[str]] = []
    vab: ProjectVab | CustomaryVab
    # One mode at a time: the others' networks and images would count into the peak memory.
    for mode in MODES:
        vab = mode.build(data, model, Augmentation(crop), device, args.compile)
        rows += rows_of(mode.name, vab, args.repeats, device)
        weights = {role: {k: v.cpu() for k, v in m.state_dict().items()} for role, m in vab.defense.modules.items()}
        normalizer = vab.defense.normalise
        del vab
        torch.cuda.empty_cache()
    if args.customary:
        vab = CustomaryVab(data, model, weights, normalizer, crop, device)
        rows += rows_of("customary, fp32", vab, 1, device)
    print(
        f"{len(data)} images of {args.size}x{args.size}, {args.model}, torch {torch.__version__}, "
        f"{torch.cuda.get_device_name(device)}, {'compiled' if args.compile else 'not compiled'}, {args.repeats} "
        f"repeats, TF32 convolutions {'on' if torch.backends.cudnn.allow_tf32 else 'off'}: images/s, median (lowest "
        "to highest)\n"
    )
    print(table(["", "images/s", "peak memory, GiB"], rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
