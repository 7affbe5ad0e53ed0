"""The parts of ``benchmarks.card``."""

import contextlib
import json
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.project import ProjectVab
from benchmarks.timing import rate
from trainers.compute import Compute, ComputeConfig
from trainers.data import ImageSet, Splits, load_data
from trainers.data.batches import Augmentation, Normalizer
from trainers.data.config import DataConfig
from trainers.data.subset import stratified_indices
from trainers.defenses.base import TrainingTask
from trainers.defenses.none import NoDefense, NoneParams
from trainers.models import ModelConfig
from trainers.scenario import ScenarioConfig
from trainers.seeding import seeded
from trainers.storage.files import write_text
from trainers.trial import TrialConfig, run_trial

LARGE = 64
"""Height in pixels from which images are large: they get the network with the ImageNet stem."""
METHODS = {"stage 1": "mix_epoch", "stage 2": "suppression_epoch", "scoring": "score", "control": "epoch"}
"""What is timed, each with its method."""


@dataclass
class Job:
    """A part with what it measures on.

    Args:
        out: folder for results.
        part: its name.
        source: of the images; null: random ones.
        size: height and width of the images.
        small: in miniature.
        until: when the part ends itself, by the monotonic clock.
    """

    out: Path
    part: str
    source: str | None
    size: int
    small: bool
    until: float

    def __post_init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if has_card() else "cpu")

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.until

    @property
    def model(self) -> ModelConfig:
        """ResNet-18, with the stem for the size of the images; in miniature a small network."""
        if self.size >= LARGE:
            return ModelConfig("imagenet_resnet18", width=8 if self.small else None)
        return ModelConfig("tiny" if self.small else "resnet18")

    @property
    def count(self) -> int:
        """Training images at most: of small ones as many as CIFAR-10 has.

        Of large ones 5,000, which at 224 pixels are 0.75 GB as uint8: it is not known to us how many images V&B's
        subset of ImageNet has.
        """
        if self.size >= LARGE:
            return 20 if self.small else 5_000
        return 100 if self.small else 50_000

    def subject(self, data: ImageSet) -> dict[str, str]:
        """The column of a table that says which network is trained on what."""
        kind = "random images" if self.source is None else "images"
        return {"network and images": f"{self.model.name}, {len(data):,} {kind} of {self.size}x{self.size}"}

    def add(self, **row: Any) -> None:
        """Write down one more row."""
        self._rows.append(row)
        write_text(self.out / f"{self.part}.json", json.dumps(self._rows, indent=1) + "\n")
        print(f"  {row}", file=sys.stderr, flush=True)

    def splits(self) -> Splits:
        """Training images, and a fifth as many test images, but at least 20."""
        count = self.count
        if self.source is not None:
            whole = load_data(DataConfig(source=self.source, image_size=self.size))
            return Splits(_at_most(whole.train, count), _at_most(whole.test, max(count // 5, 20)))
        return Splits(random_images(count, self.size, seed=0), random_images(max(count // 5, 20), self.size, seed=1))


def has_card() -> bool:
    """Whether torch sees a CUDA device."""
    return torch.cuda.is_available()


def random_images(count: int, size: int, seed: int) -> ImageSet:
    """Images without anything to learn, in ten classes."""
    images = torch.randint(256, (count, 3, size, size), generator=seeded(seed), dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 10, tuple(f"class {c}" for c in range(10)))


def _at_most(data: ImageSet, count: int) -> ImageSet:
    return data if len(data) <= count else data.subset(stratified_indices(data.labels, count, seed=0))


# Ceilings


def ceilings(job: Job) -> None:
    """Versions, and what the card gives at most: bytes copied, and matrix products in bfloat16, on random data."""
    device = job.device
    name = torch.cuda.get_device_name(device) if has_card() else platform.processor() or platform.machine()
    job.add(figure="device", value=name)
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}"
    job.add(figure="versions", value=versions)
    job.add(figure="copy, TB/s (read and written)", value=_copied(2**20 if job.small else 2**31, device) / 1e12)
    job.add(figure="bf16 matrix product, TFLOP/s", value=_multiplied(256 if job.small else 8192, device) / 1e12)


def _copied(count: int, device: torch.device) -> float:
    """Bytes per second, read and written, of a copy of ``count`` bytes within the device."""
    source = torch.randint(256, (count,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * count / _seconds(lambda: target.copy_(source), device)


def _multiplied(size: int, device: torch.device) -> float:
    """Floating-point operations per second of a product of two square matrices in bfloat16."""
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    return 2 * size**3 / _seconds(lambda: left @ right, device)


def _seconds(work: Callable[[], Any], device: torch.device, repeats: int = 20) -> float:
    """Median seconds of a call, after three that do not count."""
    found = []
    for repeat in range(repeats + 3):
        calls = rate(lambda: (work(), 1)[1], device)
        if repeat >= 3:
            found.append(1 / calls)
    return statistics.median(found)


def peak(out: Path) -> float | None:
    """The measured rate of bf16 matrix products in TFLOP/s; null if it was not measured."""
    path = out / "ceilings.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return next((row["value"] for row in rows if row["figure"].startswith("bf16")), None)


# Tests


def tests(job: Job) -> None:
    """The tests that need a card."""
    which = "tests/trainers/defenses/test_on_a_gpu.py" if job.small else "tests/trainers"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", which]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    for line in (line for line in lines if line.startswith(("FAILED", "ERROR"))):
        job.add(result=line)
    job.add(result=lines[-1] if lines else done.stderr.strip()[-200:])


# Images per second


@dataclass(frozen=True)
class Switches:
    """How a network is computed.

    Args:
        amp: bfloat16 autocast; else float32.
        channels_last: memory format of the networks; else contiguous.
        autotuned: ``torch.backends.cudnn.benchmark``.
        compiled: ``torch.compile`` of the networks.
    """

    amp: bool = False
    channels_last: bool = False
    autotuned: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        names = {"channels_last": self.channels_last, "autotuned": self.autotuned, "compiled": self.compiled}
        return ", ".join(["bf16" if self.amp else "fp32", *(name for name, on in names.items() if on)])

    @contextlib.contextmanager
    def compute(self, device: torch.device) -> Iterator[Compute]:
        """Where to compute in this way."""
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = self.autotuned
        try:
            yield (Compute if self.channels_last else _Contiguous)(device, self.amp, self.compiled)
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


ALONE_AND_TOGETHER = (
    Switches(),
    Switches(channels_last=True),
    Switches(amp=True),
    Switches(autotuned=True),
    Switches(amp=True, channels_last=True),
    Switches(amp=True, channels_last=True, autotuned=True),
    Switches(amp=True, channels_last=True, autotuned=True, compiled=True),
)


class Control:
    """Training without a defense, ready to be timed."""

    def __init__(self, data: ImageSet, model: ModelConfig, augmentation: Augmentation, compute: Compute):
        self.defense = NoDefense(NoneParams(epochs=1), TrainingTask(data, model, augmentation, compute, seed=0))
        self._stage = self.defense.stages()[0]

    def reset(self) -> None:
        """Begin with other draws than the last time: nothing else matters for the time that it takes."""

    def epoch(self) -> int:
        """Train one epoch."""
        return self._stage.run(0).images_seen


def rates(job: Job) -> None:
    """Images per second of V&B's stages, of scoring and of a control, for every switch alone and together."""
    model, data = job.model, job.splits().train
    few = random_images(min(job.count, 100), job.size, seed=0)
    crop, device, ceiling = Augmentation(max(job.size // 8, 1)), job.device, peak(job.out)
    with Switches().compute(device) as compute:
        work = {name: flops(sides(few, model, crop, compute)[name], method) for name, method in METHODS.items()}
    for switches in ALONE_AND_TOGETHER[:: 5 if job.small else 1]:
        with switches.compute(device) as compute:
            for name, side in sides(data, model, crop, compute).items():
                if job.is_over:
                    return
                found = timed(side, METHODS[name], device, 1 if job.small else 2)
                reached = found["images/s"] * work[name] / 1e12
                share = None if ceiling is None else reached / ceiling
                reach = {"TFLOP/s": reached, "share of peak": share}
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


# Side by side


def side_by_side(job: Job) -> None:
    """Trainings of the tiny network in one, two and four processes on the same card."""
    counts = (1, 2) if job.small else (1, 2, 4)
    alone = None
    for count in counts:
        if job.is_over:
            return
        context, seconds = get_context("spawn"), 1.0 if job.small else 8.0
        barrier = context.Barrier(count)
        with context.Pool(count, _remember, (barrier,)) as pool:  # a barrier is handed over at the start, or never
            arguments = [(job.size, min(job.count, 5000), seconds, 1 / count)] * count
            found = pool.starmap(_train_for, arguments, chunksize=1)
        together = sum(found)
        alone = alone or together
        row = {"images/s of all": together, "against one": together / alone, "slowest, images/s": min(found)}
        job.add(processes=count, **row)


_barrier: Barrier | None = None


def _remember(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _train_for(size: int, images: int, seconds: float, share: float) -> float:
    """Images per second of stage 1 of V&B with the tiny network, while the others do the same."""
    compute = ComputeConfig(device="cuda" if has_card() else "cpu").open(share if has_card() else 0.0)
    vab = ProjectVab(random_images(images, size, seed=0), ModelConfig("tiny"), Augmentation(max(size // 8, 1)), compute)
    vab.mix_epoch()
    assert _barrier is not None
    _barrier.wait(60.0)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        done += vab.mix_epoch()  # its report waits for the device
    return done / (time.perf_counter() - began)


# A training as in the paper


def paper(job: Job) -> None:
    """V&B against BadNets at the size of the paper, as far as the time goes, and how long all of it would take.

    Large images too are trained with the parameters of the paper's CIFAR-10 training.
    """
    splits = job.splits()
    params = {"mix_epochs": 2, "suppression_epochs": 1, "resplit_period": 2} if job.small else {}
    config = TrialConfig(
        data_fingerprint=splits.fingerprint,
        model=job.model,
        augmentation=Augmentation(max(job.size // 8, 1)),
        defense="vab",
        params=params,
        scenarios=(ScenarioConfig("badnets", "badnets", poison_rate=0.1, target=0),),
        repeats=(0,),
        sweep_seed=0,
        compute=ComputeConfig(device=job.device.type),
    )
    each: defaultdict[str, list[float]] = defaultdict(list)
    last = time.monotonic()
    for result in run_trial(config, splits, gpu_share=1.0 if has_card() else 0.0):
        found, now = result.measurement, time.monotonic()
        each[found.stage].append(now - last)
        last = now
        if found.epoch % 10 == 0 or len(each[found.stage]) <= 2 or result.final:
            job.add(
                epoch=found.epoch, stage=found.stage, seconds=found.seconds, loss=found.loss, val_acc=found.val_acc,
                val_asr=found.val_asr, detection_auroc=found.detection_auroc, images=found.images_seen,
            )  # fmt: skip
        if job.is_over:
            break
    planned = config.params
    epochs = {"mix": planned["mix_epochs"], "suppression": planned["suppression_epochs"]}
    usual = {stage: statistics.fmean(values[1:] or values) for stage, values in each.items()}
    if "suppression" not in usual:
        usual["suppression"] = _of_rates(job.out, "stage 2") or usual.get("mix", 0.0)
    whole = sum(each["warmup"]) + sum(count * usual.get(stage, 0.0) for stage, count in epochs.items())
    reached = "all of it" if result.final else f"projected from {sum(map(len, each.values()))} epochs"
    each_epoch = {f"{k}, s/epoch": v for k, v in usual.items()}
    job.add(stage=f"whole training, {reached}", seconds=whole, **each_epoch, **job.subject(splits.train))


def _of_rates(out: Path, what: str) -> float | None:
    """The least seconds of an epoch that the part ``rates`` has measured; null if it has none."""
    path = out / "rates.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return min((row["seconds"] for row in rows if row["what"] == what), default=None)
