"""More images than memory: what a training keeps of them, and how fast it is, wherever they lie.

Images are decoded from Parquet for the first time, with one and with two processes, and generated ones from a file
each. One undefended epoch is trained with images on the device (this CPU's memory), in memory (put together batch by
batch) and on disk (mapped from the file of decoded images), in turns, each time in a new process; all must learn the
same. And one epoch is trained on many generated images of 64x64, written as JPEGs to Parquet in shards, and decoded,
mapped and trained on in one process.

Memory is the most that is seen of ``RssAnon``, of the process and those that it started: pages of mapped files are
apart, since the system takes them back when it needs them.
"""

import argparse
import io
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.timing import spread, table
from trainers.compute import Compute
from trainers.data import DataConfig, cached, load_data
from trainers.data.augmentation import Augmentation
from trainers.defenses.base import TrainingTask
from trainers.defenses.none import NoDefense, NoneParams
from trainers.measuring.evaluation import Monitor
from trainers.models import ModelConfig
from trainers.scenario import ScenarioConfig, build_scenario

CLASSES, SIDE, SHARD = 10, 64, 10_000
MIB = 2**20
PLACES = {"device": ("off", float("inf")), "memory": ("off", 0.0), "disk": ("on", 0.0)}
"""Per place of the images, ``data.cache`` and the room on the device."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    Args:
        place: of the images.
        images: that were trained on.
        load_s: seconds of loading, with decoding.
        train_s: seconds of the epoch.
        anonymous: most bytes of anonymous memory, from the beginning of loading on.
        loss: of the epoch.
        val_acc: after it.
    """

    place: str
    images: int
    load_s: float
    train_s: float
    anonymous: int
    loss: float
    val_acc: float


def write_shards(folder: Path, count: int, seed: int = 0) -> None:
    """Write ``count`` images as JPEGs: a pattern for each class, in noise, and a tenth as many to test on."""
    folder.mkdir(parents=True)
    for name, labels, encoded in _shards(count, seed):
        shard = pa.table({"image": [{"bytes": image, "path": None} for image in encoded], "label": labels})
        pq.write_table(shard, folder / f"{name}.parquet", row_group_size=1000)


def write_files(folder: Path, count: int) -> None:
    """Write the same images as files of their own, in a folder for each class of each split."""
    for name, labels, encoded in _shards(count, seed=0):
        for number, (label, image) in enumerate(zip(labels, encoded, strict=True)):
            place = folder / name.partition("-")[0] / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{name}-{number:05}.jpg").write_bytes(image)


def _shards(count: int, seed: int) -> Iterator[tuple[str, list[int], list[bytes]]]:
    """Name, labels and encoded images of each shard."""
    draw = np.random.default_rng(seed)
    patterns = draw.integers(0, 256, (CLASSES, 8, 8, 3))
    for split, images in (("train", count), ("test", max(count // 10, 2 * CLASSES))):
        for start in range(0, images, SHARD):
            labels = [number % CLASSES for number in range(start, min(start + SHARD, images))]
            coarse = np.clip((patterns[labels] + draw.normal(0, 60, (len(labels), 8, 8, 3))), 0, 255).astype(np.uint8)
            yield f"{split}-{start // SHARD:05}", labels, [_jpeg(image) for image in coarse]


def _jpeg(coarse: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(encoded, "JPEG", quality=75)
    return encoded.getvalue()


def anonymous_memory(pid: int | None = None) -> int:
    """Bytes of anonymous memory of a process (this one) and of those that it started."""
    place, total = Path(f"/proc/{pid or os.getpid()}"), 0
    with suppress(OSError, StopIteration):  # it has ended
        lines = (place / "status").read_text(encoding="utf-8").splitlines()
        total = 1024 * int(next(line for line in lines if line.startswith("RssAnon:")).split()[1])
        for children in place.glob("task/*/children"):
            total += sum(anonymous_memory(int(child)) for child in children.read_text(encoding="utf-8").split())
    return total


@contextmanager
def most_memory() -> Iterator[Callable[[], int]]:
    """Watch anonymous memory; what is yielded returns the most that was seen so far."""
    ended, most = threading.Event(), [anonymous_memory()]

    def watch() -> None:
        while not ended.wait(0.1):
            most[0] = max(most[0], anonymous_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: max(most[0], anonymous_memory())
    finally:
        ended.set()
        thread.join()


def epoch(source: str, place: str, image_size: int | None, network: str) -> Epoch:
    """Load images, and train one undefended epoch on them, of which 1% are poisoned."""
    torch.set_num_threads(1)
    cache, room = PLACES[place]
    with most_memory() as seen:
        started = time.perf_counter()
        splits = load_data(DataConfig(source=source, image_size=image_size, cache=cache))
        loaded = time.perf_counter() - started
        compute = Compute(torch.device("cpu"), image_room=room)
        scenario = build_scenario(ScenarioConfig("patch", "badnets", 0.01), splits, 0, 0, compute)
        model = ModelConfig(network, width=8)
        task = TrainingTask(scenario.data, model, Augmentation(), compute, 0)
        defense = NoDefense(NoneParams(epochs=1), task)
        started = time.perf_counter()
        _, report = next(defense.epochs())
        trained = time.perf_counter() - started
        monitor = Monitor(scenario, compute, model)
        figures = monitor.measure(report, epoch=1, stage="", images_seen=0, seconds=0.0, final=True)
        return Epoch(place, len(scenario.data), loaded, trained, seen(), report.loss or 0.0, figures.val_acc or 0.0)


def decode(source: str, processes: int) -> tuple[int, float, int]:
    """Decode images for the first time: how many, in how many seconds, with how much anonymous memory."""
    with most_memory() as seen, patch.object(cached, "_processes", lambda first: cached.decoders(processes)):
        started = time.perf_counter()
        splits = load_data(DataConfig(source=source, cache="on"))
        return len(splits.train) + len(splits.test), time.perf_counter() - started, seen()


@dataclass(frozen=True)
class Runner:
    """Calls work with a cache of images of its own.

    Args:
        folder: of the caches.
        apart: whether each call has a process of its own, so that its memory is its own too.
    """

    folder: Path
    apart: bool

    def __call__(self, work: Callable[[], Any], cache: str) -> Any:
        """What ``work`` returns; ``cache`` names its cache."""
        place = {"XDG_CACHE_HOME": str(self.folder / cache)}
        if not self.apart:
            with patch.dict(os.environ, place):
                return work()
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn, _set, (place,)) as pool:
            return pool.submit(work).result()


def _set(place: dict[str, str]) -> None:
    os.environ.update(place)


def compare(source: str, image_size: int | None, network: str, repeats: int, run: Runner) -> list[Epoch]:
    """One epoch with images in each place, in turns; the first on disk decodes them."""
    works = [partial(epoch, source, place, image_size, network) for _ in range(repeats) for place in PLACES]
    return [run(work, "compared") for work in works]


def lines_of(epochs: Sequence[Epoch]) -> list[list[str]]:
    """A line for each place."""
    lines = []
    for place in dict.fromkeys(found.place for found in epochs):
        own = [found for found in epochs if found.place == place]
        lines.append(
            [
                place,
                f"{own[0].images:,}",
                spread([found.images / found.train_s for found in own]),
                spread([found.anonymous / MIB for found in own]),
                f"{own[0].load_s:.1f} s",
                f"{statistics.median(found.load_s for found in own[1:] or own):.1f} s",
            ]
        )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=__doc__.splitlines()[0])
    parser.add_argument("--parquet", type=Path, help="real images to decode and to compare places with; default: none")
    parser.add_argument("--images", type=int, default=1_000_000, help="generated images of 64x64 (1,000,000)")
    parser.add_argument("--files", type=int, default=100_000, help="generated images in files of their own (100,000)")
    parser.add_argument("--image-size", type=int, help="of the real images (as they are)")
    parser.add_argument("--network", default="tiny", help="network (tiny)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of the comparison (3)")
    parser.add_argument("--folder", type=Path, help="where images and caches go; they are removed (a temporary folder)")
    parser.add_argument("--small", action="store_true", help="few images, to see that it works")
    args = parser.parse_args(argv)
    if args.small:
        args.images, args.files, args.repeats = 400, 100, 1
    with tempfile.TemporaryDirectory(prefix="images-", dir=args.folder) as scratch:
        folder = Path(scratch)
        generated = folder / "shards"
        write_shards(generated, args.images)
        write_files(folder / "files", args.files)
        compared = f"parquet:{args.parquet or generated}"
        run, rows = Runner(folder, apart=not args.small), []
        for source, count in ((compared, 1), (compared, 2), (f"folder:{folder / 'files'}", 2)):
            kind = source.partition(":")[0]
            images, seconds, memory = run(partial(decode, source, count), f"{kind}-{count}")
            rows.append(
                [
                    kind,
                    f"{count}",
                    f"{images:,}",
                    f"{seconds:.1f} s",
                    f"{images / seconds:,.0f}",
                    f"{memory / MIB:,.0f}",
                ]
            )
        print(table(["from", "processes that decode", "images", "first load", "images/s", "MiB"], rows) + "\n")
        epochs = compare(compared, args.image_size, args.network, args.repeats, run)
        header = ["images lie", "images", "trained/s", "anonymous MiB", "first load", "later loads"]
        print(table(header, lines_of(epochs)) + "\n")
        learned = {(found.loss, found.val_acc) for found in epochs}
        print(f"All learned the same: {'yes' if len(learned) == 1 else f'NO, {learned}'}\n")
        if args.parquet is not None:
            whole = partial(epoch, f"parquet:{generated}", "disk", None, args.network)
            print(table(header, lines_of([run(whole, "generated")])))
    return 0 if len(learned) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
