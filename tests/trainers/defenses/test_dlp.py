"""DLP's filter, its bounded unlearning and its fine-tuning."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.defenses.small_defenses import small, task
from trainers.data import ImageSet
from trainers.defenses import dlp

Noise = Callable[..., ImageSet]


def until(defense: Any, stage: str) -> None:
    """Train to the end of a stage."""
    for current, _ in defense.epochs():
        if current.name == stage and defense.stage_ended:
            return


def entropies(defense: Any, images: torch.Tensor) -> np.ndarray:
    logits = defense.logits_of(defense.network, images).double().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.asarray(-(shares * np.log(shares)).mean(1))


def test_the_filter_takes_the_most_certain_predictions(noise: Noise) -> None:
    defense: Any = small("dlp", task(noise(40)))
    until(defense, "supervised")
    expected = entropies(defense, defense.images)
    assert set(defense.isolated().tolist()) == set(expected.argsort()[:4].tolist())


def test_strip_superimposes_other_images(noise: Noise) -> None:
    defense: Any = small("dlp", task(noise(20)), filter="strip", strip_overlays=3)
    until(defense, "supervised")
    state = defense.generator.get_state()
    found = defense._entropies()
    defense.generator.set_state(state)
    images, expected = defense.images.int(), np.zeros(20)
    for _ in range(3):
        other = torch.randperm(20, generator=defense.generator)
        expected += entropies(defense, torch.minimum(images + images[other], torch.tensor(255)).byte()) / 3
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-6)


def test_unlearning_ends_where_the_ceiling_is_reached(noise: Noise) -> None:
    defense: Any = small(
        "dlp", task(noise(40)), supervised_epochs=15, unlearning_epochs=40, unlearning_lr=0.02, unlearning_ceiling=2.0
    )
    losses, seen = [], []
    for stage, report in defense.epochs():
        if stage.name == "finetuning":
            break
        if stage.name == "unlearning":
            seen.append(report.images_seen)
            losses.append(float(defense.losses(defense.network)[defense.isolated()].mean()))
    first = next(number for number, loss in enumerate(losses) if loss >= 2.0)
    assert 0 < first < 39, "it takes more than an epoch, and fewer than there are"
    assert all(count > 36 for count in seen[: first + 1])
    assert all(count == 0 for count in seen[first + 1 :])
    assert losses[-1] == losses[first] < 10


def test_fine_tuning_gives_filtered_samples_no_label_of_theirs(noise: Noise) -> None:
    """Other labels of the filtered samples change nothing, once they are filtered."""
    found = []
    for changed in (False, True):
        defense: Any = small("dlp", task(noise(40)), unlearning_epochs=0, finetune_epochs=2, refilter_period=5)
        until(defense, "supervised")
        if changed:
            isolated = defense.isolated()
            defense.labels[isolated] = (defense.labels[isolated] + 1) % 4
            defense.targets[isolated] = defense.targets[isolated].roll(1, 1)
        until(defense, "finetuning")
        found.append(defense.network.head.weight.detach().clone())
    assert found[0].equal(found[1])


def test_the_filter_runs_again(noise: Noise) -> None:
    defense: Any = small("dlp", task(noise(40)), unlearning_epochs=0, finetune_epochs=5, refilter_period=2)
    until(defense, "supervised")
    scores = [defense.tensors["scores"]]
    for _, report in defense.epochs():
        assert report.images_seen == 36 + 2 * 3, "two views of one of the four beside each of three batches"
        scores.append(defense.tensors["scores"])
    changed = [not one.equal(two) for one, two in pairwise(scores)]
    assert changed == [False, False, True, False, True]


def test_run_again_the_filter_goes_by_the_loss(noise: Noise) -> None:
    """What was unlearned is certain no more: it stands out by its label, which the network no longer believes."""
    defense: Any = small("dlp", task(noise(40)), unlearning_epochs=0, finetune_epochs=2, refilter_period=1)
    stages = defense.epochs()
    for stage, _ in stages:
        if stage.name == "finetuning":
            break
    losses = defense.losses(defense.network)
    defense.network.train()
    next(stages)
    assert set(defense.isolated().tolist()) == set(losses.argsort(descending=True)[:4].tolist())


@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_the_unlabelled_weight_rises(noise: Noise, weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlp, "soft_cross_entropy", lambda logits, targets: logits.sum() * 0)
    monkeypatch.setattr(dlp, "unlabelled_loss", lambda logits, targets: logits.sum() * 0 + 1)
    defense: Any = small(
        "dlp", task(noise(40)), unlearning_epochs=0, finetune_epochs=4, unlabelled_weight=weight, ramp_epochs=2
    )
    losses = [report.loss for stage, report in defense.epochs() if stage.name == "finetuning"]
    assert losses == pytest.approx([weight / 2, weight, weight, weight])
