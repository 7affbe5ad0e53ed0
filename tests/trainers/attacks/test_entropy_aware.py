from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainers.attacks.quick import CPU, Noise, prepared, quick
from tests.trainers.defenses.vab_small import steps
from trainers.attacks import ArtifactCache, entropy_aware
from trainers.attacks.entropy_aware import EntropyAware, EntropyAwareParams
from trainers.data import ImageSet
from trainers.data.stored import Gathered
from trainers.errors import ConfigError
from trainers.seeding import seeded

RATE = 0.2


def aware(target: int | None = 0, classes: int = 4, seed: int = 0, **params: Any) -> Any:
    return quick("entropy_aware", target, classes, seed=seed, **{"cover_rate": 0.1, **params})


def fake_entropies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Victim's entropy is an image's brightness, so that what a plan is after can be worked out."""
    monkeypatch.setattr(EntropyAware, "_victim", lambda *_: None)
    monkeypatch.setattr(EntropyAware, "_entropies", staticmethod(lambda victim, images: brightness(images)))


def brightness(images: Tensor | Gathered) -> Tensor:
    return torch.cat([some.double().mean((1, 2, 3)).float() for some in images.split(100)])


def shades(count: int) -> ImageSet:
    """Noise of different brightness."""
    generator = seeded(4)
    level = torch.randint(1, 200, (count, 1, 1, 1), generator=generator)
    images = level + torch.randint(56, (count, 3, 8, 8), generator=generator)
    return ImageSet(images.byte(), torch.arange(count) % 4, ("a", "b", "c", "d"))


# The plan


def test_the_plan_is_what_is_poisoned(noise: Noise) -> None:
    clean, attack = noise(40), prepared(aware(low_alpha=0.1, high_alpha=0.45), noise(40), RATE)
    made, plan = attack.poison(clean, RATE), attack._plan
    assert made.poisoned.nonzero().flatten().tolist() == sorted(plan["poisoned"].tolist())
    assert made.cover.nonzero().flatten().tolist() == sorted(plan["cover"].tolist())
    levels = np.linspace(0.1, 0.45, 8)
    pattern = attack.pattern.numpy()
    for i in (made.poisoned | made.cover).nonzero().flatten().tolist():
        opacity = float(plan["opacity"][i])
        assert np.abs(levels - opacity).min() < 1e-6
        wanted = (1 - opacity) * clean.images[i].numpy() + opacity * pattern
        assert np.abs(made.data.images[i].numpy() - wanted).max() <= 0.5 + 1e-3
    assert (made.data.images.int() - clean.images.int()).abs().max() <= 0.45 * 255 + 0.5


def test_poisoned_samples_are_to_have_the_clean_ones_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_entropies(monkeypatch)
    clean = shades(200)
    shares = (np.arange(40) + 0.5) / 40
    missed = np.zeros(2)
    for seed in range(5):
        attack = prepared(aware(seed=seed), clean, RATE)
        made = attack.poison(clean, RATE)
        untouched = ~(made.poisoned | made.cover)
        # The plan's quantiles were those of the clean samples of the plan before it.
        goals = np.quantile(brightness(clean.images[untouched]).numpy(), shares)
        at_random = attack.trigger(clean.images[clean.labels != 0][:40])
        for which, images in enumerate((made.data.images[made.poisoned], at_random)):
            missed[which] += np.abs(np.sort(brightness(images).numpy()) - goals).mean()
    assert missed[0] < missed[1] / 2


def test_cover_samples_look_like_poisoned_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_entropies(monkeypatch)
    clean = shades(200)
    attack = prepared(aware(cover_rate=0.3), clean, RATE)
    plan = attack._plan
    assert len(set(plan["opacity"][plan["cover"]].tolist())) > 1
    assert not set(plan["cover"].tolist()) & set(plan["poisoned"].tolist())
    # If every poisoned sample is best at the fourth level, so are they.
    fourth = torch.full((40,), 3)
    monkeypatch.setattr(entropy_aware, "match", lambda offers, wanted, count: (torch.arange(count), fourth[:count]))
    plan = prepared(aware(cover_rate=0.3, low_alpha=0.1, high_alpha=0.8), clean, RATE)._plan
    for where in (plan["cover"], plan["poisoned"]):
        assert plan["opacity"][where].unique().tolist() == pytest.approx([0.4])


def test_the_goal_are_samples_that_are_clean_and_the_offers_four_candidates_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clean, before, told = shades(200), [], []
    monkeypatch.setattr(EntropyAware, "_victim", lambda self, *_: before.append(self._plan))

    def watched(victim: None, images: Tensor | Gathered) -> Tensor:
        told.append(torch.cat(list(images.split(100))))
        return brightness(images)

    monkeypatch.setattr(EntropyAware, "_entropies", staticmethod(watched))
    attack = prepared(aware(rounds=1, low_alpha=0.1, high_alpha=0.8), clean, 0.15)
    untouched = torch.ones(200, dtype=torch.bool)
    untouched[before[0]["poisoned"]] = untouched[before[0]["cover"]] = False
    assert told[0].equal(clean.images[untouched])
    candidates = clean.images[clean.labels != 0].flatten(1).numpy()
    for number, images in enumerate(told[1:]):
        opacity = 0.1 + 0.1 * number
        wanted = (1 - opacity) * candidates + opacity * attack.pattern.flatten().numpy()
        offered = images.flatten(1).numpy()[:, None]
        assert ((np.abs(offered - wanted).max(2) <= 0.5 + 1e-3).sum(1) == 1).all()
        assert len(np.unique(offered, axis=0)) == len(images) == 120  # four times 30
    assert len(told) == 1 + 8


def test_at_test_time_the_pattern_stands_at_alpha(noise: Noise) -> None:
    images, attack = noise(5).images, aware(alpha=0.4)
    wanted = 0.6 * images.numpy() + 0.4 * attack.pattern.numpy()
    assert np.abs(attack.trigger(images).numpy() - wanted).max() <= 0.5 + 1e-3


# The attacker's Victim


@pytest.mark.parametrize("rounds", [1, 3])
def test_each_round_trains_a_victim_on_the_plan_before_it(
    noise: Noise, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    told, real = [], EntropyAware._victim

    def watched(self: Any, clean: ImageSet, rate: float, artifacts: ArtifactCache, seed: int) -> Any:
        victim = real(self, clean, rate, artifacts, seed)
        told.append((self.poison(clean, rate).data.fingerprint, victim.task.data.fingerprint, seed))
        return victim

    monkeypatch.setattr(EntropyAware, "_victim", watched)
    attack = prepared(aware(rounds=rounds), noise(40), RATE)
    assert len(told) == rounds
    assert all(plan == seen for plan, seen, _ in told)
    assert len({seed for _, _, seed in told}) == rounds
    assert attack.poison(noise(40), RATE).data.fingerprint not in {plan for plan, _, _ in told}


def test_a_victim_goes_through_the_warm_up(noise: Noise) -> None:
    clean = noise(40)
    attack = prepared(aware(surrogate_steps=3, surrogate_lr=0.004), clean, RATE)
    victim = attack._victim(clean, RATE, ArtifactCache(CPU, 0), 5)
    # Three steps, then two passes of one batch over what is suspicious.
    assert steps(victim.descents["victim"].optimizer) == 5
    assert victim.descents["victim"].optimizer.param_groups[0]["lr"] == 0.004
    logits = victim.logits_of(victim.victim, clean.images[:6]).double().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    entropies = attack._entropies(victim, clean.images[:6]).numpy()
    assert np.allclose(entropies, -(shares * np.log(shares)).mean(1), atol=1e-6)


def test_a_plan_belongs_to_a_rate_and_a_seed(noise: Noise, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_entropies(monkeypatch)
    clean, artifacts = noise(40), ArtifactCache(CPU, 0, tmp_path)
    for seed, rate in ((0, 0.2), (0, 0.2), (0, 0.3), (1, 0.2)):
        attack = aware(seed=seed)
        attack.prepare(clean, rate, artifacts)
        assert int(attack.poison(clean, rate).poisoned.sum()) == 40 * rate
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


# Label noise


@pytest.mark.parametrize("target", [0, None])
def test_a_share_of_the_poisoned_labels_is_neither_target_nor_true(target: int | None) -> None:
    attack = aware(target, classes=5, label_noise=0.25)
    labels = torch.arange(200) % 4 + 1
    given, new = labels.clone(), attack.poison_labels(labels, torch.arange(200), seeded(0))
    assert labels.equal(given)
    wanted = [0] * 200 if target == 0 else [(label + 1) % 5 for label in labels.tolist()]
    noisy = [i for i in range(200) if new[i] != wanted[i]]
    assert len(noisy) == 50
    assert all(new[i] != labels[i] for i in range(200))
    pairs = {(int(labels[i]), int(new[i])) for i in noisy}
    assert len(pairs) == 12  # each of four classes may become any of the three others


def test_label_noise_in_a_poisoned_set(noise: Noise) -> None:
    clean = noise(40)
    made = prepared(aware(label_noise=0.5), clean, RATE).poison(clean, RATE)
    assert int((made.data.labels[made.poisoned] != 0).sum()) == 4  # of eight
    assert (made.data.labels != clean.labels)[made.poisoned].all()
    assert made.data.labels[~made.poisoned].equal(clean.labels[~made.poisoned])


# What is refused


def test_label_noise_needs_a_third_class() -> None:
    with pytest.raises(ConfigError, match=r"^label_noise needs three classes or more"):
        aware(classes=2, label_noise=0.5)
    aware(classes=2)
    aware(classes=3, label_noise=0.5)


def test_clean_samples_must_remain() -> None:
    labels = torch.arange(40) % 4
    assert aware(cover_rate=0.475).counts(labels, 0.5) == (20, 19)
    with pytest.raises(ConfigError, match=r"^20 poisoned and 20 cover samples leave none of 40 samples clean\.$"):
        aware(cover_rate=0.5).counts(labels, 0.5)


def test_bad_parameters() -> None:
    with pytest.raises(ConfigError, match=r"^low_alpha must be at most high_alpha, 0\.2, but got 0\.3\.$"):
        EntropyAwareParams(low_alpha=0.3)
    assert EntropyAwareParams(low_alpha=0.3, high_alpha=0.3).alpha == 0.2
    with pytest.raises(ConfigError, match="label_noise must be a number at least 0 and below 1, but got 1"):
        EntropyAwareParams(label_noise=1)


def test_a_plan_is_for_one_rate(noise: Noise) -> None:
    clean = noise(40, seed=1)
    attack = prepared(quick("entropy_aware"), clean, 0.2)
    with pytest.raises(ValueError, match=r"The plan is for a poison_rate of 0\.2, but got 0\.1"):
        attack.poison(clean, 0.1)
