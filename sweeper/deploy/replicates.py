"""Replicates: models trained with one setting on the same images, which differ in their seeds alone."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sweeper.deploy.agreement import Agreement, agreement, suspicious_share
from sweeper.run_folder.tables import write_table
from trainers.blind import Trained
from trainers.data.batches import Normalizer
from trainers.data.image_set import ImageSet
from trainers.data.stored import Images
from trainers.errors import TrialError
from trainers.measuring.evaluation import predict_classes
from trainers.storage.saved_model import SavedModel

FILE = "replicates.parquet"


@dataclass(frozen=True)
class Replicates:
    """The models that were trained, and how far they agree.

    Args:
        seeds: of the M models that were trained, ascending.
        failures: why trainings failed, by seed.
        predictions: int64 (M, N), the class that each model predicts for each training image, not augmented.
        marks: bool (M, N), whether each model marks each training image as suspicious; null if the defense marks none.
        agreement: of the models.
    """

    seeds: tuple[int, ...]
    failures: dict[int, str]
    predictions: np.ndarray
    marks: np.ndarray | None
    agreement: Agreement

    @property
    def asked(self) -> int:
        """How many models were to be trained."""
        return len(self.seeds) + len(self.failures)

    @property
    def chosen(self) -> int:
        """Seed of the model that is nearest to the others."""
        return self.seeds[self.agreement.nearest]

    @property
    def marked_by(self) -> np.ndarray | None:
        """Share of the models that mark each image as suspicious, float (N,); null if the defense marks none."""
        return None if self.marks is None else suspicious_share(self.marks)


def train_replicates(
    seeds: Sequence[int],
    train_one: Callable[[int], Trained],
    images: Images,
    device: torch.device,
    say: Callable[[str], object],
) -> Replicates:
    """Train one model after the other, and compare them. A training that fails costs no other.

    Only predictions and verdicts are held in memory; ``train_one`` keeps the models.

    Args:
        seeds: one for each model, ascending.
        train_one: trains with a seed.
        images: the training images, uint8 (N, C, H, W).
        device: where to predict.
        say: told a line before each training, and why one failed.

    Raises:
        TrialError: all trainings failed.
    """
    predictions, marks, failures = [], [], {}
    for number, seed in enumerate(seeds, start=1):
        name = f"Model {number} of {len(seeds)} (seed {seed})"
        say(name)
        try:
            trained = train_one(seed)
            predictions.append(_predicted(trained.model, images, device))
        except RuntimeError as error:  # a TrialError, or one of torch
            failures[seed] = _reason(error)
            say(f"{name} failed: {failures[seed]}")
            continue
        if trained.credible is not None:
            marks.append(~trained.credible.numpy())
    if not predictions:
        reasons = "; ".join(f"seed {seed}: {reason.rstrip('.')}" for seed, reason in failures.items())
        raise TrialError(f"None of {len(seeds)} models could be trained ({reasons}).")
    classes, marked = np.stack(predictions), np.stack(marks) if marks else None
    done = tuple(seed for seed in seeds if seed not in failures)
    return Replicates(done, failures, classes, marked, agreement(classes, marked))


def write_replicates(replicates: Replicates, data: ImageSet, folder: Path) -> None:
    """Write ``replicates.parquet``: for each training image the verdict and the predicted class of each model.

    Args:
        replicates: the models.
        data: the training images.
        folder: where to.
    """
    columns: dict[str, list[Any]] = {
        "index": list(range(len(data))),
        "path": list(data.names or [None] * len(data)),
        "label": [data.class_names[label] for label in data.labels.tolist()],
    }
    if replicates.marks is not None:
        columns["marked_by"] = suspicious_share(replicates.marks).tolist()
        for seed, marked in zip(replicates.seeds, replicates.marks.tolist(), strict=True):
            columns[f"verdict_{seed}"] = ["suspicious" if mark else "credible" for mark in marked]
    for seed, classes in zip(replicates.seeds, replicates.predictions.tolist(), strict=True):
        columns[f"prediction_{seed}"] = [data.class_names[label] for label in classes]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    write_table(folder / FILE, rows, tuple(columns))


def _predicted(model: SavedModel, images: Images, device: torch.device) -> np.ndarray:
    """The class that a model predicts for each image: int64 (N,)."""
    network = copy.deepcopy(model.network).to(device)
    normalise = Normalizer(model.normalise.mean.to(device), model.normalise.std.to(device))
    classes: np.ndarray = predict_classes(network, normalise, images, device).numpy()
    return classes


def _reason(error: RuntimeError) -> str:
    """Why a training failed, in a line."""
    text = str(error).partition("\n")[0]
    return text if isinstance(error, TrialError) else f"{type(error).__name__}: {text}"
