"""Runs trainings on a worker, one after the other in a reused Ray actor."""

import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import torch
from ray import tune

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.provenance import code_digest
from trainers.data import DataConfig, Findings, load_data, load_unlabelled
from trainers.data.cache_folder import CacheFolder
from trainers.data.cached import open_cached
from trainers.data.config import ON
from trainers.data.image_set import ImageSet, Splits
from trainers.data.stored import CacheFile, Images
from trainers.errors import ConfigError, HostError, TrialError
from trainers.storage.object_store import ObjectPath
from trainers.storage.state_store import StateStore, SupersededError
from trainers.trial import EpochResult, SharedTrunk, TrialConfig, run_trial

_ELSEWHERE = "elsewhere "
_FULL = (ENOSPC, EDQUOT)

Packed = dict[str, Any]


def pack(splits: Splits, read_as: DataConfig) -> Packed:
    """Pack the data for workers: arrays that Ray's object store shares between them without copying, and of images that
    lie in a file its path alone.

    Args:
        splits: the data.
        read_as: how it is read, for hosts that do not have the file.
    """
    packed: Packed = {"class_names": splits.train.class_names, "read_as": read_as}
    for name, part in (("train", splits.train), ("test", splits.test), ("held_out", splits.held_out)):
        if part is None:
            continue
        packed[f"{name}_images"], packed[f"{name}_labels"] = _packed(part.images), part.labels.numpy()
    for source, images in splits.elsewhere.items():
        packed[_ELSEWHERE + source] = _packed(images)
    return packed


def unpack(packed: Packed) -> Splits:
    """Unpack the data over the same memory or the same files, which nothing may write to.

    Raises:
        ConfigError: this host has not the same images.
    """
    read_as: DataConfig = replace(packed["read_as"], cache=ON)

    def images(key: str) -> Images:
        source = key.removeprefix(_ELSEWHERE) if key.startswith(_ELSEWHERE) else None
        return _unpacked(packed[key], read_as, source)

    def part(name: str) -> ImageSet:
        return ImageSet(images(f"{name}_images"), _tensor(packed[f"{name}_labels"]), packed["class_names"])

    return Splits(
        part("train"),
        part("test"),
        part("held_out") if "held_out_images" in packed else None,
        {key.removeprefix(_ELSEWHERE): images(key) for key in packed if key.startswith(_ELSEWHERE)},
    )


def _packed(images: Images) -> npt.NDArray[Any] | tuple[CacheFile, npt.NDArray[Any]]:
    """The images, or the file that holds them and their places in it."""
    if isinstance(images, torch.Tensor):
        return images.numpy()
    assert images.file is not None, "what differs from a file, or lies in memory, belongs to a training"
    return images.file, images.rows.numpy()


def _unpacked(packed: Any, read_as: DataConfig, source: str | None) -> Images:
    """The images, from the file where this host sees it, or else from its own cache, into which it decodes them once.

    Args:
        packed: what :func:`_packed` gave.
        read_as: the settings of the data.
        source: of images without labels; null: the data's.

    Raises:
        ConfigError: this host has not the same images.
    """
    if not isinstance(packed, tuple):
        return _tensor(packed)
    file, rows = packed
    own = CacheFile(CacheFolder.of_this_host().path / file.path.name, file.key)
    found = open_cached(file) or open_cached(own)
    if found is None:
        load_data(read_as) if source is None else load_unlabelled(source, read_as, Findings())
        found = open_cached(own)
    if found is None:
        raise HostError(
            f"The images of {source or read_as.source} are not those that the sweep began with, or the Pillow of this "
            "host is another one."
        )
    return found.subset(_tensor(rows))


def _tensor(array: Any) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(array))


def _host() -> str:
    """Ray's name of the host that this worker runs on; empty outside a worker."""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""


def unusable_reason(folder: RunFolder, code: str | None) -> str | None:
    """Why no training of a sweep may run on this host; null if it may. Hosts that join late are checked only here."""
    if code is None:
        return None
    if code_digest() != code:
        return "It runs another version of this program."
    try:
        seen = ((folder.store or folder.path) / folder.sweep.name).exists()
    except OSError as error:
        return f"It cannot look into {folder.store or folder.path}: {error}"
    return None if seen else f"It does not see {folder.store or folder.path}."


class TrainingActor(tune.Trainable):
    """Runs a training epoch by epoch. Ray hands the next one to the same actor, which keeps nothing of the last."""

    def setup(  # type: ignore[override]  # tune.with_parameters adds the arguments
        self,
        config: dict[str, Any],
        data: Packed,
        folder: Path,
        state_every_s: float,
        gpu_share: float,
        store: ObjectPath | None = None,
        code: str | None = None,
    ) -> None:
        """Open the data once, then the first training.

        Args:
            config: the job: ``training`` (the name of its states), ``attempt``
                (:func:`trainers.storage.state_store.new_attempt`) and the configuration as JSON, of one scenario and
                one seed; ``trunk``: the number of its first stages that it shares with others, if it does.
            data: what :func:`pack` gave.
            folder: the run folder.
            state_every_s: seconds between states.
            gpu_share: GPUs reserved.
            store: the run folder's place in an object store, if it has one.
            code: :func:`sweeper.run_folder.provenance.code_digest` of the driver; null: not asked for.
        """
        self._folder = RunFolder(folder, store)
        self._state_every_s = state_every_s
        self._gpu_share = gpu_share
        self._host = _host()
        self._unusable = unusable_reason(self._folder, code)
        if self._unusable is None:
            try:
                self._splits = unpack(data)
            except ConfigError as error:
                self._unusable = f"It cannot read the images: {error}"
        self._open(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Open the next training in this actor."""
        self._open(new_config)
        return True

    def _open(self, config: dict[str, Any]) -> None:
        self._store = StateStore(self._folder.states / config["training"], self._state_every_s, config["attempt"])
        self._begun = False
        self._held: dict[str, Any] | None = None
        if self._unusable is not None:  # another version of the program may misread the job
            return
        training = TrialConfig.from_json(config["job"])
        trunk = SharedTrunk(self._folder.trunks, config["trunk"]) if "trunk" in config else None
        self._results: Iterator[EpochResult] = run_trial(
            training, self._splits, self._store, self._gpu_share, self._folder.attack_cache, trunk
        )
        if training.compute.compile:  # graphs of earlier ones count towards a limit, after which none is compiled
            torch.compiler.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def step(self) -> dict[str, Any]:
        """Train and report one epoch. A training that cannot go on ends here, with its reason; only a crash is retried.

        Scores are sent in a report of their own before that of the epoch: only the driver writes to the run folder, and
        Ray keeps the last report of each training to the end.
        """
        if self._held is not None:
            held, self._held = self._held, None
            return held
        try:
            if self._unusable is not None:
                raise HostError(self._unusable)
            if not self._begun:  # Ray may open a training on one worker and hand it to another
                self._begin()
            result = next(self._results)
        except SupersededError:  # nobody waits for reports of this attempt
            raise
        except HostError as error:
            return self._head() | {"unusable": str(error), "done": True}
        except Exception as error:
            if isinstance(error, (TrialError, ConfigError)):
                return self._head() | {"error": str(error), "done": True}
            # With an object store, the full disk is this host's own, which files pass through.
            full = isinstance(error, OSError) and error.errno in _FULL
            if full and self._folder.store is None:
                return self._head() | {"disk_full": str(error), "done": True}
            self._store.note_crash(f"{type(error).__name__}: {error}")
            raise
        report = self._report(result)
        if result.scores is None:
            return report
        self._held = report
        return self._head(result) | {
            "scores": pa.table({name: column.numpy() for name, column in result.scores.items()}),
            "done": False,
        }

    def _begin(self) -> None:
        """Record in the training's states that this attempt begins on this host.

        Raises:
            HostError: this host cannot write there.
            SupersededError: another attempt has taken over.
        """
        try:
            self._store.begin(self._host)
        except OSError as error:
            if error.errno in _FULL:  # a full disk is reported as such
                raise
            raise HostError(f"It cannot write {self._store.folder}: {error}") from error
        self._begun = True

    def _head(self, result: EpochResult | None = None) -> dict[str, Any]:
        """The common part of all reports: attempt and host; with a result, scenario and seed too."""
        head: dict[str, Any] = {"attempt": self._store.attempt, "host": self._host}
        return head if result is None else head | {"scenario": result.scenario.name, "seed": result.repeat}

    def _report(self, result: EpochResult) -> dict[str, Any]:
        facts = {"poison_share": result.poison_share, "n_eval": result.n_eval, **asdict(result.cost)}
        # As pairs: of each number that it finds in dictionaries, Ray Tune keeps the last values and their means.
        figures = self._head(result) | {
            "figures": list(asdict(result.measurement).items()),
            "facts": list(facts.items()),
            "finished": result.final,
            "done": result.final,
        }
        if result.kept is not None:
            figures["trunk"] = [
                result.kept.error,
                result.kept.gone,
            ]  # as a list: Ray Tune would keep the last values of a plain one
        return figures
