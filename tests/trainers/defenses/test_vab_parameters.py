"""Errors and defaults of V&B."""

import math
from typing import Any

import pytest
import torch

from tests.trainers.defenses.vab_small import Noise, figures, small, task
from trainers.defenses.vab import Vab, VabParams
from trainers.errors import ConfigError, TrialError


@pytest.mark.parametrize("role", ["victim", "beneficiary"])
def test_a_network_that_is_not_a_number_ends_the_trial(noise: Noise, role: str) -> None:
    defense = Vab(small(), task(noise(40)))
    torch.nn.init.constant_(defense.modules[role].head.bias, float("nan"))
    with pytest.raises(TrialError, match=r"loss is nan|not finite"):
        figures(defense)


def test_a_victim_that_diverges_while_the_beneficiary_trains(noise: Noise) -> None:
    defense = Vab(small(resplit_period=1), task(noise(40)))
    epochs = defense.epochs()
    next(epochs), next(epochs)
    defense.victim.head.bias.data.fill_(math.nan)
    with pytest.raises(TrialError, match="Victim's predictions are not finite"):
        next(epochs)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threshold": 1.5}, "threshold must be a number at least 0 and at most 1, but got 1.5"),
        ({"split": "median"}, "split must be one of threshold, gmm"),
        ({"smoothing": 0}, "smoothing must be a number above 0 and at most 1, but got 0"),
        ({"warmup_steps": 0}, r"warmup_steps must be a whole number at least 1 \(or null\), but got 0"),
        ({"victim_model": "vgg"}, "victim_model must be one of tiny, resnet18, preact_resnet18, wide_resnet"),
        ({"temperature": 0}, "temperature must be a number above 0, but got 0"),
        ({"resplit_period": 0}, "resplit_period must be"),
        ({"mixing": "cut"}, "mixing must be one of attention, none, mixup, cutmix"),
        ({"suppression": True}, "suppression must be one of both, credible, suspicious, none"),
        ({"batch_size": 1}, "batch_size must be a whole number at least 2, but got 1"),
    ],
)
def test_parameters_out_of_range(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**wrong)


def test_the_defaults_are_those_of_the_authors_runs() -> None:
    p = VabParams()
    assert (p.warmup_steps, p.warmup_rounds) == (None, 2)
    assert (p.threshold, p.threshold_start, p.threshold_decay) == (0.2, 1.0, 0.4)
    assert (p.smoothing, p.victim_lr, p.victim_weight_decay, p.victim_batch_size) == (0.75, 1e-3, 5e-4, 128)
    assert (p.mix_epochs, p.resplit_period, p.suppression_epochs) == (100, 5, 100)
    assert (p.mask_threshold, p.temperature, p.early_weight, p.late_weight) == (0.1, 3.0, 0.1, 0.5)
    assert (p.lr, p.momentum, p.weight_decay, p.batch_size) == (0.1, 0.9, 5e-4, 128)
    assert (p.milestones, p.decay, p.schedule) == ((0.25, 0.5, 0.75), 0.1, "step")
