"""The parts of ``benchmarks.card``."""

import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Any

import torch

from benchmarks.card_job import Job, has_card, random_images
from benchmarks.card_rates import MOST_IMAGES, TOGETHER, measured, rates
from benchmarks.multi_process_service import multi_process_service
from benchmarks.project import ProjectVab
from benchmarks.timing import rate
from trainers.card.need import need_in_a_sweep
from trainers.compute import Compute, ComputeConfig
from trainers.data import Splits
from trainers.data.augmentation import Augmentation
from trainers.defenses.vab import Vab, VabParams
from trainers.models import ModelConfig
from trainers.scenario import ScenarioConfig
from trainers.trial import TrialConfig, run_trial

__all__ = ["ceilings", "paper", "rates", "side_by_side", "tests"]

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


# Side by side


def side_by_side(job: Job) -> None:
    """Trainings of the tiny network in one, two and four processes on the same card, without and with CUDA's MPS."""
    counts = (1, 2) if job.small else (1, 2, 4)
    alone = _side_by_side(job, counts, None, "no")
    with multi_process_service(job.out / "mps") as runs:
        if runs:
            _side_by_side(job, counts[1:], alone, "yes")
        else:
            job.add(processes="-", MPS="cannot be started here")


def _side_by_side(job: Job, counts: tuple[int, ...], alone: float | None, service: str) -> float | None:
    """Measure, with the rate of one process ``alone`` if it is known; returns that rate."""
    longest = 0.0 if job.small else 15.0
    for count in counts:
        began = time.monotonic()
        if began + longest > job.until:  # an end by force would leave the service running
            break
        context, seconds = get_context("spawn"), 1.0 if job.small else 8.0
        barrier = context.Barrier(count)
        with context.Pool(count, _remember, (barrier,)) as pool:  # a barrier is handed over at the start, or never
            arguments = [(job.size, min(job.count, 5000), seconds, 1 / count, job.device.type)] * count
            found = pool.starmap(_train_for, arguments, chunksize=1)
        together = sum(found)
        alone = alone or together
        row = {"images/s of all": together, "against one": together / alone, "slowest, images/s": min(found)}
        job.add(processes=count, MPS=service, **row)
        longest = 1.5 * (time.monotonic() - began)
    return alone


_barrier: Barrier | None = None


def _remember(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _train_for(size: int, images: int, seconds: float, share: float, device: str) -> float:
    """Images per second of stage 1 of V&B with the tiny network, while the others do the same."""
    compute = ComputeConfig(device=device).open(share if device == "cuda" else 0.0)
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
        usual["suppression"] = _of_rates(job, "stage 2", len(splits.train)) or usual.get("mix", 0.0)
    whole = sum(each["warmup"]) + sum(count * usual.get(stage, 0.0) for stage, count in epochs.items())
    reached = "all of it" if result.final else f"projected from {sum(map(len, each.values()))} epochs"
    each_epoch = {f"{k}, s/epoch": v for k, v in usual.items()}
    memory = _memory(job, splits, VabParams(**config.params), config.compute.on_cuda())
    job.add(stage=f"whole training, {reached}", seconds=whole, **each_epoch, **memory, **job.subject(splits.train))


def _of_rates(job: Job, what: str, images: int) -> float | None:
    """Seconds of an epoch on so many images, as the part ``rates`` has measured the usual way; null if it has not."""
    rows = [row for row in measured(job.out, "rates") if (row["what"], row["how"]) == (what, str(TOGETHER))]
    return rows[0]["seconds"] * images / min(images, MOST_IMAGES) if rows else None


def _memory(job: Job, splits: Splits, params: VabParams, compute: Compute) -> dict[str, float | None]:
    """Columns of the memory that was estimated and used, in GiB."""
    need, sized = need_in_a_sweep(Vab, params, job.model, splits, compute), 2**30
    free, total = torch.cuda.mem_get_info() if has_card() else (0, 0)
    return {
        "need GiB": need.certain / sized,
        "at most GiB": need.most / sized,
        "tensors at most GiB": need.tensors / sized,
        "peak GiB": torch.cuda.max_memory_allocated() / sized if has_card() else None,
        "reserved GiB": torch.cuda.max_memory_reserved() / sized if has_card() else None,
        "in use on the card GiB": (total - free) / sized if has_card() else None,
    }
