"""A small V&B, and ways to look into it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.data.augmentation import Augmentation
from trainers.defenses.base import Report, Stage, TrainingTask
from trainers.defenses.vab import Vab, VabParams
from trainers.models import ModelConfig

Noise = Callable[..., ImageSet]
SMALL: dict[str, Any] = {
    "warmup_rounds": 1, "mix_epochs": 2, "suppression_epochs": 2, "resplit_period": 2, "batch_size": 16,
    "victim_batch_size": 16, "victim_lr": 0.01, "lr": 0.05,
}  # fmt: skip


def small(**changes: Any) -> VabParams:
    return VabParams(**{**SMALL, **changes})


def task(data: ImageSet, seed: int = 3, model: str = "tiny", **augmentation: Any) -> TrainingTask:
    how = Augmentation(**{"crop": 1, **augmentation})
    return TrainingTask(data, ModelConfig(model, width=4), how, Compute(torch.device("cpu")), seed)


def weights(defense: Vab) -> Tensor:
    return torch.cat([v.flatten().double() for m in defense.modules.values() for v in m.state_dict().values()])


def steps(optimizer: torch.optim.Optimizer) -> int:
    """Steps that Adam has counted."""
    counts = {int(state["step"]) for state in optimizer.state_dict()["state"].values()}
    assert len(counts) <= 1
    return counts.pop() if counts else 0


class Fixed(Vab):
    """A Victim that is trained and scored as ever, but whose split is given: the first images are credible."""

    credible_count = 0

    def _split(self, threshold: float) -> None:
        self.tensors["credible"] = torch.arange(len(self.images)) < self.credible_count


def fixed(credible: int, told: TrainingTask, **changes: Any) -> Fixed:
    defense = Fixed(small(**changes), told)
    defense.credible_count = credible
    return defense


Trace = list[tuple[Any, ...]]


def row(stage: Stage, report: Report) -> tuple[Any, ...]:
    """All that is reported, in a form that == compares to the last bit."""
    scores = [None if column is None else column.tolist() for column in (report.suspicion, report.credible)]
    return (stage.name, report.loss, report.images_seen, report.model is not None, *scores)


def figures(defense: Vab) -> Trace:
    return [row(stage, report) for stage, report in defense.epochs()]


def softmax_of_victim(defense: Vab, temperature: float = 1.0) -> NDArray[np.float64]:
    """The Victim's shares on the images as they are, in eval mode, normalised and softened here."""
    pixels = defense.task.data.images.double() / 255
    mean, deviation = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True, correction=0)
    with torch.no_grad():
        logits = defense.victim.eval()(((pixels - mean) / deviation).float()).logits.double().numpy()
    softened: NDArray[np.float64] = np.exp(logits / temperature)
    return softened / softened.sum(1, keepdims=True)
