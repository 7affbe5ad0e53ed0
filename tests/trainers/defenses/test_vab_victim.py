"""V&B's detector: warm-up, split, entropies."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.trainers.defenses.vab_small import Noise, figures, small, softmax_of_victim, steps, task
from trainers.defenses.base import TrainingTask
from trainers.defenses.parts.entropy import moments_of, split_by_mixture
from trainers.defenses.vab import Vab, VabParams
from trainers.optim import Descent


@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 5, 11])
def test_warmup_steps_are_optimiser_steps(noise: Noise, wanted: int) -> None:
    defense = Vab(small(warmup_steps=wanted), task(noise(60)))  # a pass is four batches
    _, report = next(defense.epochs())
    assert steps(defense.descents["victim"].optimizer) == wanted
    # Whole passes of 16, 16, 16 and 12 images, then what is left over.
    passes, rest = divmod(wanted, 4)
    assert report.images_seen == 60 * passes + 16 * rest


def entropies_after_each_step(params: VabParams, told: TrainingTask, epochs: int) -> list[NDArray[np.float64]]:
    """Of all images, by hand, in the first epochs of a training."""
    found: list[NDArray[np.float64]] = []

    class Watched(Vab):
        def step(self, descent: Descent, loss: torch.Tensor) -> None:
            super().step(descent, loss)
            shares = softmax_of_victim(self)
            found.append(-(shares * np.log(shares)).mean(1))
            descent.train()

    for _ in zip(range(epochs), Watched(params, told).epochs(), strict=False):
        pass
    return found


@pytest.mark.parametrize(("steps", "count", "moments"), [(6, 3, [2, 4, 6]), (7, 2, [3, 7]), (2, 5, [1, 2])])
def test_a_score_of_the_warm_up_is_the_mean_over_its_moments(
    noise: Noise, steps: int, count: int, moments: list[int]
) -> None:
    params = small(warmup_steps=steps, warmup_rounds=1, score_moments=count, smoothing=0.6)
    told = task(noise(60))
    defense = Vab(params, told)
    epochs = defense.epochs()
    next(epochs)
    assert len(defense.tensors["earlier"]) == len(moments) - 1
    _, report = next(epochs)
    assert report.suspicion is not None
    assert "earlier" not in defense.tensors
    entropies = entropies_after_each_step(params, told, 2)
    first = np.mean([entropies[moment - 1] for moment in moments], axis=0)
    in_round = entropies[steps:]  # a pass over the suspicious samples
    second = np.mean([in_round[moment - 1] for moment in moments_of(len(in_round), count)], axis=0)
    smoothed = 0.6 * second + 0.4 * first
    expected = 1 - (smoothed - smoothed.min()) / (smoothed.max() - smoothed.min())
    assert np.allclose(report.suspicion.numpy(), expected, atol=1e-4)


def test_moments_leave_the_training_as_it_is(noise: Noise) -> None:
    """They draw no numbers, and move no statistics: the seed of the stage aside, nothing changes."""
    told = task(noise(60))
    states = []
    for count in (1, 3):
        defense = Vab(small(warmup_steps=7, warmup_rounds=0, score_moments=count), told)
        defense.stage_seed = lambda index: 1  # type: ignore[method-assign]
        next(defense.epochs())
        states.append(torch.cat([value.flatten().double() for value in defense.victim.state_dict().values()]))
    assert states[0].equal(states[1])


def test_moments_by_number() -> None:
    assert moments_of(124, 4) == [31, 62, 93, 124]
    assert (moments_of(5, 1), moments_of(3, 8), moments_of(0, 3)) == ([5], [1, 2, 3], [])


def test_without_warmup_steps_it_is_one_pass(noise: Noise) -> None:
    defense = Vab(small(), task(noise(60)))
    _, report = next(defense.epochs())
    assert (steps(defense.descents["victim"].optimizer), report.images_seen) == (4, 60)
    assert (report.model, report.suspicion, report.credible) == (None, None, None)


def test_thresholds_of_the_warm_up(noise: Noise) -> None:
    params = small(warmup_rounds=4, threshold=0.25, threshold_start=1.0, threshold_decay=0.3)
    defense = Vab(params, task(noise(60)))
    reports = [report for _, report in zip(range(5), (r for _, r in defense.epochs()), strict=False)]
    # Rounds 1, 2 and 3 start from a split at 0.7, 0.4 and 0.25; the last one ends with one at 0.25.
    for report, threshold in zip(reports[1:], [0.7, 0.4, 0.25, 0.25], strict=True):
        assert report.suspicion is not None
        assert report.credible is not None
        entropy = 1 - report.suspicion
        clear = (entropy - threshold).abs() > 1e-5
        assert report.credible[clear].equal((entropy > threshold)[clear])
        assert (float(entropy.min()), float(entropy.max())) == pytest.approx((0.0, 1.0))


def test_each_warm_up_round_is_one_pass_over_the_suspicious(noise: Noise) -> None:
    defense = Vab(small(warmup_rounds=2), task(noise(60)))
    for number, (_, report) in enumerate(defense.epochs()):
        if number == 1:
            assert report.credible is not None
            assert 0 < report.images_seen == int((~report.credible).sum())
        if number == 2:
            break


def test_without_rounds_the_warm_up_ends_with_a_split(noise: Noise) -> None:
    defense = Vab(small(warmup_rounds=0), task(noise(60)))
    stage, report = next(defense.epochs())
    assert (stage.epochs, report.model) == (1, None)
    assert report.credible is not None
    assert 0 < int(report.credible.sum()) < 60


def test_the_split_is_redone_when_it_is_due(noise: Noise) -> None:
    # Stage 1: after epochs 2 and 4; stage 2: after every epoch. Each time the Victim is trained first.
    defense = Vab(small(mix_epochs=5, suppression_epochs=3, resplit_period=2), task(noise(60)))
    redone, trained = [], []
    before, count = None, 0
    for stage, report in defense.epochs():
        if stage.name != "warmup":
            assert report.suspicion is not None
            redone.append(not report.suspicion.equal(before))
            trained.append(steps(defense.descents["victim"].optimizer) > count)
        before, count = report.suspicion, steps(defense.descents["victim"].optimizer)
    assert redone == trained == [False, True, False, True, False, True, True, True]


def test_suspicion_is_the_smoothed_entropy_turned_round(noise: Noise) -> None:
    params = small(warmup_rounds=0, mix_epochs=3, suppression_epochs=1, resplit_period=1, smoothing=0.6)
    defense = Vab(params, task(noise(60)))
    smoothed: NDArray[np.float64] | None = None
    for _, report in defense.epochs():
        share = softmax_of_victim(defense)
        entropy = -(share * np.log(share)).sum(1) / 4
        smoothed = entropy if smoothed is None else 0.6 * entropy + 0.4 * smoothed
        normalised = (smoothed - smoothed.min()) / (smoothed.max() - smoothed.min())
        assert report.suspicion is not None
        assert np.allclose(report.suspicion.numpy(), 1 - normalised, atol=1e-3)


@pytest.mark.parametrize("split", ["threshold", "gmm"])
def test_entropies_may_be_compared_within_each_given_label(noise: Noise, split: str) -> None:
    """Labels of 30, 20, 9 and 1 samples; the one keeps its place in the whole set."""
    labels = torch.arange(4).repeat_interleave(torch.tensor([30, 20, 9, 1]))
    params = small(warmup_rounds=0, mix_epochs=1, suppression_epochs=0, split=split, split_scope="class", threshold=0.4)
    defense = Vab(params, task(replace(noise(60), labels=labels)))
    _, report = next(defense.epochs())
    share = softmax_of_victim(defense)
    entropy = -(share * np.log(share)).sum(1) / 4
    expected = (entropy - entropy.min()) / (entropy.max() - entropy.min())
    for label in range(3):
        own = entropy[labels == label]
        expected[labels == label] = (own - own.min()) / (own.max() - own.min())
    assert report.suspicion is not None
    assert report.credible is not None
    assert np.allclose(report.suspicion.numpy(), 1 - expected, atol=2e-3)
    if split == "threshold":
        clear = np.abs(expected - 0.4) > 2e-3
        assert (report.credible.numpy() == (expected > 0.4))[clear].all()
    else:
        assert report.credible.equal(split_by_mixture(1 - report.suspicion, defense.task.seed))


def test_a_class_that_the_victim_is_certain_of_is_kept_in_part(noise: Noise) -> None:
    """Over the whole set it leaves the credible samples whole; a poisoned part of it stands out either way."""
    entropy = torch.cat([torch.linspace(0.1, 0.2, 30), torch.linspace(0.0, 0.01, 5), torch.linspace(0.6, 1.0, 25)])
    labels = torch.tensor([0] * 35 + [1] * 25)
    kept = {}
    for scope in ("set", "class"):
        defense = Vab(small(split_scope=scope, threshold=0.3), task(replace(noise(60), labels=labels)))
        defense.tensors["entropy"] = entropy
        defense._split(0.3)
        kept[scope] = [
            int(defense.tensors["credible"][part].sum()) for part in (slice(30), slice(30, 35), slice(35, 60))
        ]
    assert kept["set"] == [0, 0, 25]
    assert kept["class"] == [30, 0, 17]


def test_the_victim_sees_no_augmentation(noise: Noise) -> None:
    plain = figures(Vab(small(), task(noise(60), crop=0, flip=False)))
    moved = figures(Vab(small(), task(noise(60), crop=3, flip=True)))
    assert plain[:2] == moved[:2]
    assert plain[2][1] != moved[2][1]


def test_victim_and_beneficiary_are_networks_of_their_own(noise: Noise) -> None:
    defense = Vab(small(victim_model="preact_resnet18"), task(noise(20, size=16)))
    assert set(defense.modules) == set(defense.descents) == {"victim", "beneficiary"}
    assert len(defense.victim.stages) == 4
    assert len(defense.beneficiary.stages) == 3
    alike = Vab(small(), task(noise(20)))
    assert not alike.victim.head.weight.equal(alike.beneficiary.head.weight)


def test_optimisers_have_their_parameters(noise: Noise) -> None:
    defense = Vab(small(victim_weight_decay=0.01, momentum=0.7), task(noise(20)))
    (victim,), (beneficiary,) = (defense.descents[role].optimizer.param_groups for role in ("victim", "beneficiary"))
    assert (type(defense.descents["victim"].optimizer), victim["lr"], victim["weight_decay"]) == (
        torch.optim.Adam,
        0.01,
        0.01,
    )
    assert (beneficiary["lr"], beneficiary["momentum"], beneficiary["weight_decay"]) == (0.05, 0.7, 5e-4)
