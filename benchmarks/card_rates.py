"""Images per second of V&B's stages, of scoring and of a control, with every switch of ``compute`` on a card."""

import contextlib
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.card_job import Job, at_most, has_card, random_images
from benchmarks.project import ProjectVab
from benchmarks.timing import rate
from trainers.compute import PASS_IMAGES, Compute
from trainers.data import ImageSet
from trainers.data.augmentation import Augmentation
from trainers.data.batches import Normalizer
from trainers.defenses.base import TrainingTask
from trainers.defenses.none import NoDefense, NoneParams
from trainers.models import ModelConfig

METHODS = {"stage 1": "mix_epoch", "stage 2": "suppression_epoch", "scoring": "score", "control": "epoch"}
"""What is timed, each with its method."""
MOST_IMAGES = 10_000
"""Of the training set, so that every switch has its turn."""


def measured(out: Path, part: str) -> list[dict[str, Any]]:
    """The rows that a part has written; none if it has not run."""
    path = out / f"{part}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return rows


def peak(out: Path) -> float | None:
    """The measured rate of bf16 matrix products in TFLOP/s; null if it was not measured."""
    return next((row["value"] for row in measured(out, "ceilings") if row["figure"].startswith("bf16")), None)


@dataclass(frozen=True)
class Switches:
    """How a network is computed.

    Args:
        amp: bfloat16 autocast; else float32.
        channels_last: memory format of the networks; else contiguous.
        fused: the optimisers' kernels.
        autotuned: ``torch.backends.cudnn.benchmark``.
        compiled: ``torch.compile`` of the networks.
        graphs: whole batches as CUDA graphs.
    """

    amp: bool = False
    channels_last: bool = False
    fused: bool = False
    autotuned: bool = False
    compiled: bool = False
    graphs: bool = False

    def __str__(self) -> str:
        names = [f.name for f in fields(self) if f.name != "amp" and getattr(self, f.name)]
        return ", ".join(["bf16" if self.amp else "fp32", *names])

    @contextlib.contextmanager
    def compute(self, device: torch.device) -> Iterator[Compute]:
        """Where to compute in this way."""
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = self.autotuned
        kind = Compute if self.channels_last else _Contiguous
        try:
            yield kind(device, self.amp, self.compiled, self.graphs, self.fused, PASS_IMAGES)
        finally:
            torch.backends.cudnn.benchmark = before
            torch.compiler.reset()


class _Contiguous(Compute):
    """Networks in torch's default memory format (NCHW)."""

    def place(self, network: nn.Module) -> None:
        network.to(self.device)
        if self.compile:
            network.compile()


class _ContiguousNormalizer(Normalizer):
    """Images in torch's default memory format (NCHW)."""

    def __call__(self, images: Tensor) -> Tensor:
        return super().__call__(images).contiguous()


TOGETHER = Switches(amp=True, channels_last=True, fused=True)
ALONE_AND_TOGETHER = (
    TOGETHER,
    Switches(),
    replace(TOGETHER, autotuned=True),
    Switches(amp=True, channels_last=True),
    Switches(amp=True),
    Switches(channels_last=True),
    Switches(fused=True),
    Switches(autotuned=True),
    replace(TOGETHER, compiled=True),
    replace(TOGETHER, compiled=True, graphs=True),
)
"""In the order in which they are measured, as far as the time goes; what is compiled takes longest to begin."""
IN_MINIATURE = ALONE_AND_TOGETHER[:2]


class Control:
    """Training without a defense, ready to be timed."""

    def __init__(self, data: ImageSet, model: ModelConfig, augmentation: Augmentation, compute: Compute):
        self.defense = NoDefense(NoneParams(epochs=1), TrainingTask(data, model, augmentation, compute, seed=0))

    def reset(self) -> None:
        """Begin with other draws than the last time: nothing else matters for the time that it takes."""

    def epoch(self) -> int:
        """Train one epoch."""
        return self.defense.train(0).images_seen


def rates(job: Job) -> None:
    """Images per second of V&B's stages, of scoring and of a control, for every switch alone and together."""
    model, data = job.model, at_most(job.splits().train, MOST_IMAGES)
    few = random_images(min(job.count, 100), job.size, seed=0)
    crop, device, ceiling = Augmentation(max(job.size // 8, 1)), job.device, peak(job.out)
    with Switches().compute(device) as compute:
        work = {name: flops(sides(few, model, crop, compute)[name], method) for name, method in METHODS.items()}
    for switches in IN_MINIATURE if job.small else ALONE_AND_TOGETHER:
        with switches.compute(device) as compute:
            for name, side in sides(data, model, crop, compute).items():
                if job.is_over:
                    return
                found = timed(side, METHODS[name], device, 1 if job.small else 2)
                reached = found["images/s"] * work[name] / 1e12
                share = None if ceiling is None else reached / ceiling
                reach = {"TFLOP/s": reached, "share of bf16 peak": share}
                job.add(what=name, how=str(switches), **found, **reach, **job.subject(data))
            del side
            if has_card():
                torch.cuda.empty_cache()


def sides(
    data: ImageSet, model: ModelConfig, crop: Augmentation, compute: Compute
) -> dict[str, "ProjectVab | Control"]:
    """What is timed, by name."""
    vab, control = ProjectVab(data, model, crop, compute), Control(data, model, crop, compute)
    if isinstance(compute, _Contiguous):
        for defense in (vab.defense, control.defense):
            defense.normalise = _ContiguousNormalizer(defense.normalise.mean, defense.normalise.std)
    return {"stage 1": vab, "stage 2": vab, "scoring": vab, "control": control}


def timed(side: "ProjectVab | Control", method: str, device: torch.device, repeats: int) -> dict[str, Any]:
    """Median images per second after one run that does not count, seconds of a run, and peak memory of the process."""
    found, images = [], 0

    def work() -> int:
        nonlocal images
        images = getattr(side, method)()
        return images

    for repeat in range(repeats + 1):
        side.reset()
        if repeat == 1 and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        found.append(rate(work, device))
    median = statistics.median(found[1:])
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {"images/s": median, "seconds": images / median, "first, s": images / found[0], "peak GiB": memory}


def flops(side: "ProjectVab | Control", method: str) -> float:
    """Floating-point operations of one image, counted by torch."""
    side.reset()
    with FlopCounterMode(display=False) as counter:
        images = getattr(side, method)()
    return counter.get_total_flops() / images
