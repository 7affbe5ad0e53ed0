"""Each defense that is not tested alone already, short enough for a test, and what it reports."""

from typing import Any

import torch
from torch import Tensor

from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.data.augmentation import Augmentation
from trainers.defenses import DEFENSES
from trainers.defenses.base import Defense, Report, Stage, TrainingTask
from trainers.models import ModelConfig

ISOLATING = ("pt", "dlp", "abl")
"""Those that mark samples."""

SMALL: dict[str, dict[str, Any]] = {
    "pt": {"partial_epochs": 3, "score_epochs": 2, "clean_epochs": 2, "finetune_epochs": 2},
    "dlp": {"supervised_epochs": 2, "unlearning_epochs": 2, "finetune_epochs": 3, "refilter_period": 2},
    "bcu": {"training_epochs": 2, "distillation_epochs": 3, "distillation_batch_size": 16},
    "abl": {"isolation_epochs": 2, "isolation_rate": 0.1, "finetune_epochs": 2, "unlearning_epochs": 2},
}
COMMON = {"batch_size": 16, "lr": 0.05}


def task(data: ImageSet, seed: int = 3, model: str = "tiny") -> TrainingTask:
    """Beside the training images, as many without labels."""
    unlabelled = data.images.flip(3)
    compute = Compute(torch.device("cpu"))
    return TrainingTask(data, ModelConfig(model, width=4), Augmentation(crop=1), compute, seed, unlabelled)


def small(name: str, told: TrainingTask, **changes: Any) -> Defense:
    kind = DEFENSES[name]
    return kind(kind.Params(**(COMMON | SMALL[name] | changes)), told)


def weights(defense: Defense) -> Tensor:
    return torch.cat([v.flatten().double() for m in defense.modules.values() for v in m.state_dict().values()])


def row(stage: Stage, report: Report) -> tuple[Any, ...]:
    """All that is reported, in a form that == compares to the last bit."""
    scores = [None if column is None else column.tolist() for column in (report.suspicion, report.credible)]
    return (stage.name, report.loss, report.images_seen, report.model is not None, *scores)


def trace(defense: Defense) -> list[tuple[Any, ...]]:
    return [row(stage, report) for stage, report in defense.epochs()]
