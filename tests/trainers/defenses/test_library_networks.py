"""Each defense trains a convolutional network and a vision transformer of timm."""

from functools import cache

import pytest
import torch

from tests.trainers.defenses.small_defenses import COMMON, weights
from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.data.augmentation import Augmentation
from trainers.defenses import DEFENSES
from trainers.defenses.base import Defense, TrainingTask
from trainers.models import ModelConfig
from trainers.seeding import seeded

SHORT = {
    "vab": {"warmup_steps": 2, "warmup_rounds": 1, "mix_epochs": 1, "suppression_epochs": 1, "threshold": 0.5},
    "pt": {"partial_epochs": 1, "score_epochs": 1, "clean_epochs": 1, "finetune_epochs": 1, "frozen": "early"},
    "dlp": {"supervised_epochs": 1, "unlearning_epochs": 1, "finetune_epochs": 1, "refilter_period": 1},
    "bcu": {"training_epochs": 1, "distillation_epochs": 1, "distillation_batch_size": 16},
    "abl": {"isolation_epochs": 1, "isolation_rate": 0.1, "finetune_epochs": 1, "unlearning_epochs": 1},
    "none": {"epochs": 1},
}


@cache
def images() -> ImageSet:
    """Noise of two classes, one dark and one bright."""
    labels = torch.arange(24) % 2
    pixels = torch.randint(128, (24, 3, 32, 32), generator=seeded(0)) + 127 * labels[:, None, None, None]
    return ImageSet(pixels.byte(), labels, ("dark", "bright"))


def defense(name: str, network: str) -> Defense:
    data = images()
    compute = Compute(torch.device("cpu"))
    task = TrainingTask(data, ModelConfig(network), Augmentation(crop=2), compute, 3, data.images.flip(3))
    kind = DEFENSES[name]
    params = kind.Params(**COMMON | SHORT[name])
    kind.check(params, data, task.model)
    return kind(params, task)


@pytest.mark.parametrize("network", ["timm:resnet18", "timm:vit_tiny_patch16_224"])
@pytest.mark.parametrize("name", SHORT)
def test_it_trains_and_reports_a_model(name: str, network: str) -> None:
    own = defense(name, network)
    before = weights(own)
    reports = [report for _, report in own.epochs()]
    assert reports[-1].model is not None
    assert all(report.loss is not None for report in reports)
    assert own.logits_of(reports[-1].model, images().images).shape == (24, 2)
    assert not torch.equal(weights(own), before)


def test_every_defense_is_tested() -> None:
    assert set(SHORT) == set(DEFENSES)
