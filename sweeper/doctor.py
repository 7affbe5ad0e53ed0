"""Checks what a sweep needs: one line per check, with what to do if it fails."""

import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sweeper.cluster.address import VARIABLE, RayUnavailable
from sweeper.cluster.finding import Finding
from sweeper.cluster.gpu_memory import GPU_MEMORY, gpu_memory
from sweeper.cluster.hosts import asked, check_hosts, hosts
from sweeper.cluster.memory import lack_of_memory
from sweeper.cluster.runtime import ray_runtime
from sweeper.decoding import decoding_shown
from sweeper.preset.blocks import scenario_config
from sweeper.preset.class_numbers import describe_classes
from sweeper.preset.fitting import fit_to_data
from sweeper.preset.misfits import Misfits
from sweeper.preset.spec import SweepSpec
from sweeper.report.summary import FEW_IMAGES
from sweeper.run_folder.mirror import RUNS
from sweeper.run_folder.provenance import PACKAGES, package_versions
from sweeper.running import WORKER
from sweeper.tracking.store import check_store, shorten, tracking_uri, without_secret
from trainers.data.config import SOURCES
from trainers.data.image_set import Splits
from trainers.data.subset import stratified_halves
from trainers.errors import ConfigError
from trainers.scenario import HALVES_SEED
from trainers.storage.files import write_text
from trainers.storage.object_store import Place

LITTLE_SPACE = 5 * 2**30
PROBE = "sweeper-doctor"


def examine(spec: SweepSpec, preset: dict[str, Any], storage: Place, console: Console) -> Iterator[Finding]:
    """Run the checks, one after the other.

    Args:
        spec: a sweep whose data is read. Its scenarios and defenses are to fit the data, its trainings a host.
        preset: it was validated from.
        storage: where run folders go.
        console: for progress.
    """
    loaded: list[Splits] = []
    room: list[int] = []

    def data() -> Finding:
        with decoding_shown(console):
            loaded.append(spec.load())
        return _data(spec, loaded[0])

    def ray() -> Finding:
        finding, fit = _ray(spec)
        room.append(fit)
        return finding

    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("versions", _versions),
        ("GPUs", _gpus),
        ("Ray", ray),
        ("memory", lambda: _memory(spec, *room)),
        ("storage", lambda: _storage(storage)),
        ("tracking store", lambda: _tracking(storage if isinstance(storage, Path) else RUNS)),
        ("data", data),
        ("preset", lambda: _preset(spec, preset, loaded[0])),
    ]
    if spec.resources.gpu and spec.device != "cpu":
        checks.insert(-1, (GPU_MEMORY, lambda: gpu_memory(spec, loaded[0])))
    for name, check in checks:
        if name in (GPU_MEMORY, "preset") and not loaded:
            return
        try:
            yield check()
        except RayUnavailable as error:  # which says what to do
            yield Finding(name, False, str(error))
        except ConfigError as error:  # a sentence for the user, which is not cut off
            remedy = "" if name == "data" else _REMEDIES[name]  # a sentence about data says what to do
            yield Finding(name, False, without_secret(str(error)), remedy)
        except Exception as error:  # noqa: BLE001  # whatever goes wrong is what was asked for
            yield Finding(name, False, shorten(error), _REMEDIES[name])


_REMEDIES = {
    "versions": "Install the locked packages: make .venv/installed.",
    "GPUs": "Check the driver with nvidia-smi; without GPUs, sweeps run on the CPU.",
    "memory": "End what else runs here, or set search.workers.",
    "Ray": "Stop what is left of Ray (ray stop), or unset RAY_ADDRESS to run on this machine alone.",
    "storage": "Give --storage a folder that you may write, with space left; on a cluster, one that all hosts see, or s3://.",
    "tracking store": "Start the server, or unset MLFLOW_TRACKING_URI to use a file beside the runs.",
    GPU_MEMORY: "Check the driver with nvidia-smi.",
    "preset": "Change what is named, or leave it out (gallery does, and draws the others).",
    "data": f"Check data of the preset; data.source takes {SOURCES}.",
}


def _versions() -> Finding:
    known = package_versions(PACKAGES)
    missing = [name for name in PACKAGES if name not in known]
    text = f"Python {platform.python_version()}, " + ", ".join(f"{name} {number}" for name, number in known.items())
    if missing:
        return Finding("versions", False, f"{text}; missing: {', '.join(missing)}", _REMEDIES["versions"])
    return Finding("versions", True, text)


def _gpus() -> Finding:
    if not torch.cuda.is_available():
        return Finding("GPUs", True, "torch sees none; trainings run on the CPU")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("GPUs", True, f"{', '.join(names)}; a training uses one if its preset says resources.gpu")


def _ray(spec: SweepSpec) -> tuple[Finding, int]:
    """Whether Ray can be used, and how many trainings fit on its hosts at once."""
    with ray_runtime() as joined:
        known = hosts()
    cpus, gpus = (sum(host.has.get(name, 0.0) for host in known) for name in ("CPU", "GPU"))
    text = f"{len(known)} host{'s' if len(known) > 1 else ''}, {cpus:g} CPUs, {gpus:g} GPUs"
    where = "a cluster that runs" if joined else "started on this machine alone"
    wanted = spec.resources.by_name()
    room = sum(host.room(wanted) for host in known)
    if not room:
        text = f"{text} ({where}); a training asks for {asked(wanted)}, which no host has"
        return Finding("Ray", False, text, "Change resources of the preset, or start hosts that have it."), room
    return Finding("Ray", True, f"{text} ({where})"), room


def _memory(spec: SweepSpec, room: int = 0) -> Finding:
    """Whether there is memory for the trainings that run at once: of those for which there is room, at least one."""
    if os.environ.get(VARIABLE, "") not in ("", "local"):
        return Finding("memory", True, f"hosts of the cluster of {VARIABLE} look after it themselves")
    met = 1 if spec.search.scenarios == "one" else len(spec.scenarios)
    trainings = spec.search.trials * met * len(spec.seeds)
    workers = max(min(room, spec.search.workers or room, trainings), 1)
    lack = lack_of_memory(workers)
    if lack is None:
        return Finding("memory", True, f"there is room for {workers} training{'s' if workers > 1 else ''} at once")
    return Finding("memory", False, lack, _REMEDIES["memory"])


def _storage(storage: Place) -> Finding:
    if isinstance(storage, Path):
        storage.mkdir(parents=True, exist_ok=True)
    write_text(storage / f".{PROBE}", "")
    (storage / f".{PROBE}").unlink()
    free, text = math.inf, f"{storage} can be written"
    if isinstance(storage, Path):
        free = shutil.disk_usage(storage).free
        text = f"{storage.resolve()} can be written, {free / 2**30:.0f} GiB free"
    try:
        with ray_runtime():
            many = len(hosts())
            check_hosts(storage, WORKER)
    except RayUnavailable:  # another line says so
        many = 1
    if free < LITTLE_SPACE:
        return Finding("storage", False, text, _REMEDIES["storage"])
    return Finding("storage", True, text + (f", as {many} hosts can, which run the same program" if many > 1 else ""))


def _tracking(runs: Path) -> Finding:
    uri = tracking_uri(runs)
    check_store(uri)
    return Finding("tracking store", True, f"{without_secret(uri)} answers and can be written")


def _data(spec: SweepSpec, splits: Splits) -> Finding:
    shape = "x".join(map(str, splits.train.images.shape[1:]))
    text = f"{spec.data.source}: {len(splits.train)} training and {len(splits.test)} test images of {shape}"
    text = f"{text}, {splits.train.num_classes} classes"
    return Finding("data", True, text, notes=tuple(splits.findings.lines()))


def _preset(spec: SweepSpec, preset: dict[str, Any], splits: Splits) -> Finding:
    names = [block.values["name"] for block in spec.scenario_blocks]
    misfits = Misfits(names)
    fitted = fit_to_data(spec, preset, splits.train, misfits)
    try:
        fitted.spec.settled(splits).check_against(splits, misfits)
    except ConfigError as error:
        # The sentence whole, however long: it lists what does not fit.
        return Finding("preset", False, str(error), _REMEDIES["preset"])
    text = f"{len(names)} scenario{'s fit' if len(names) > 1 else ' fits'} the data: "
    text += describe_classes(fitted.spec.scenario_blocks, splits.train.class_names)
    notes = [f"Left out: {words}." for words in fitted.left_out] + _few_triggered(fitted.spec, splits)
    return Finding("preset", True, text, notes=tuple(notes))


def _few_triggered(spec: SweepSpec, splits: Splits) -> list[str]:
    """A sentence if attack success is going to be measured on few images, as the report says afterwards."""
    half, _ = stratified_halves(splits.test.labels, HALVES_SEED)
    labels = splits.test.labels[half]
    counts = {}
    for block in spec.scenario_blocks:
        config = scenario_config(block.kind, block.draw(lambda _, searched: searched.corners()[0]))
        counts[config.name] = int(config.build_attack(splits.train, seed=0).eligible(labels).sum())
    least = min(counts, key=lambda name: counts[name])
    if counts[least] >= FEW_IMAGES:
        return []
    return [
        f"Warning: attack success is going to be measured on as few as {counts[least]} triggered images (in {least}), "
        f"since half of the {len(splits.test)} test images are for validation; use more test images, {FEW_IMAGES} "
        "triggered ones or more."
    ]
