import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from trainers.attacks import ArtifactCache, Attack, LabelMap
from trainers.attacks.badnets import BadNets, BadNetsParams
from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.errors import ConfigError
from trainers.params import Parameters, param

Noise = Callable[..., ImageSet]


@dataclass(frozen=True)
class DimParams(Parameters):
    strength: int = param(200, ge=1, le=255, doc="of the trigger at test time")
    cover_rate: float = param(0.1, ge=0, lt=1, doc="cover samples")


class Dim(Attack):
    """Writes a constant over the first row: dimmer in training than at test time, dimmest on cover samples."""

    name: ClassVar[str] = "dim"
    Params = DimParams
    params: DimParams
    prepared: tuple[int, float] = (0, 0.0)
    chosen: tuple[list[int], list[int]] = ([], [])

    def trigger(self, images: torch.Tensor) -> torch.Tensor:
        return self._paint(images, self.params.strength)

    def prepare(self, clean: ImageSet, rate: float, artifacts: ArtifactCache) -> None:
        self.prepared = len(clean), rate

    def poison_images(self, images: torch.Tensor, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.chosen = chosen.tolist(), []
        return self._paint(images, self.params.strength // 2)

    def cover_images(self, images: torch.Tensor, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.chosen = self.chosen[0], chosen.tolist()
        return self._paint(images, self.params.strength // 4)

    def _paint(self, images: torch.Tensor, value: int) -> torch.Tensor:
        painted = images.clone()
        painted[:, :, 0] = value
        return painted


class CleanDim(Dim):
    """Keeps every label."""

    name: ClassVar[str] = "clean_dim"
    clean_label: ClassVar[bool] = True
    rate_of_target: ClassVar[bool] = True


def dim(kind: type[Dim] = Dim, target: int | None = 1, classes: int = 4, seed: int = 0, **params: float) -> Dim:
    return kind(DimParams(**params), LabelMap(target, classes), (3, 8, 8), seed)  # type: ignore[arg-type]


def badnets(target: int | None = 0, classes: int = 4, channels: int = 3, size: int = 8, seed: int = 0) -> BadNets:
    return BadNets(BadNetsParams(size=2), LabelMap(target, classes), (channels, size, size), seed)


@pytest.mark.parametrize("target", [0, 2])
def test_all_to_one(target: int) -> None:
    attack, labels = badnets(target), torch.tensor([0, 1, 2, 3, 2])
    assert attack.target_of(labels).tolist() == [target] * 5
    assert attack.eligible(labels).tolist() == [label != target for label in labels.tolist()]
    assert attack.candidates(labels).equal(attack.eligible(labels))


def test_all_to_all() -> None:
    attack, labels = badnets(None), torch.tensor([0, 1, 2, 3, 2])
    assert attack.target_of(labels).tolist() == [1, 2, 3, 0, 3]
    assert attack.eligible(labels).tolist() == [True] * 5
    assert badnets(None, classes=2).target_of(torch.tensor([0, 1])).tolist() == [1, 0]


def test_clean_label_poisons_the_target_class_and_is_measured_on_the_others() -> None:
    attack, labels = dim(CleanDim, target=1), torch.tensor([0, 1, 2, 1])
    assert attack.candidates(labels).tolist() == [False, True, False, True]
    assert attack.eligible(labels).tolist() == [True, False, True, False]


def test_clean_label_needs_a_target() -> None:
    with pytest.raises(ConfigError, match="clean_dim is a clean-label attack and needs a target class"):
        dim(CleanDim, target=None)


def changed(clean: ImageSet, images: torch.Tensor) -> torch.Tensor:
    return (images != clean.images).flatten(1).any(1)


@pytest.mark.parametrize(("rate", "count", "poisoned"), [(0.125, 20, 3), (0.125, 36, 5), (0.12, 20, 2), (0.13, 20, 3)])
def test_the_number_is_rounded_and_halves_go_up(rate: float, count: int, poisoned: int) -> None:
    labels = torch.arange(count) % 4
    assert badnets().counts(labels, rate) == (poisoned, 0)
    assert dim(cover_rate=rate).counts(labels, 0.1)[1] == poisoned


def test_the_seed_decides_who_is_poisoned(noise: Noise) -> None:
    clean = noise(60)
    one, again, other = (badnets(seed=seed).poison(clean, 0.2) for seed in (1, 1, 2))
    assert one.data.fingerprint == again.data.fingerprint
    assert one.poisoned.equal(again.poisoned)
    assert not one.poisoned.equal(other.poisoned)
    assert one.data.fingerprint != other.data.fingerprint


def test_every_candidate_may_be_chosen(noise: Noise) -> None:
    clean, hits = noise(12), torch.zeros(12, dtype=torch.int64)
    for seed in range(60):
        hits += badnets(seed=seed).poison(clean, 0.5).poisoned
    assert (hits[clean.labels == 0] == 0).all()
    assert (hits[clean.labels != 0] > 20).all()  # 40 on average


def test_rate_0_poisons_nothing(noise: Noise) -> None:
    clean = noise(20)
    poisoned = badnets().poison(clean, 0.0)
    assert poisoned.data.fingerprint == clean.fingerprint
    assert (poisoned.poisoned.sum(), poisoned.cover.sum()) == (0, 0)
    assert dim(cover_rate=0.5).counts(clean.labels, 0.0) == (0, 0)  # without poison there is nothing to cover


def test_all_that_can_be_poisoned(noise: Noise) -> None:
    clean = noise(40)
    assert badnets().poison(clean, 0.75).poisoned.equal(clean.labels != 0)
    assert badnets(None).poison(clean, 0.99).poisoned.all()


def test_a_rate_of_no_sample(noise: Noise) -> None:
    with pytest.raises(ConfigError, match=r"A poison_rate of 0\.01 rounds to no sample of 20; allowed is .* or more"):
        badnets().poison(noise(20), 0.01)


@pytest.mark.parametrize("count", [20, 50, 60, 100, 3000, 7000])
def test_the_smallest_rate_that_the_message_allows_is_allowed(count: int) -> None:
    labels = torch.arange(count) % 4
    with pytest.raises(ConfigError) as caught:
        badnets().counts(labels, 1e-6)
    found = re.search(r"allowed is (\S+) or more", str(caught.value))
    assert found is not None
    assert badnets().counts(labels, float(found[1]))[0] == 1


def test_more_samples_than_candidates(noise: Noise) -> None:
    with pytest.raises(ConfigError, match=r"0\.8 is 32 samples, but only 30 can be poisoned by badnets"):
        badnets().poison(noise(40), 0.8)


def test_a_target_class_without_samples_for_a_clean_label_attack() -> None:
    with pytest.raises(ConfigError):
        dim(CleanDim, target=1).counts(torch.tensor([0, 2, 3]), 0.5)


def test_cover_samples_carry_a_trigger_of_their_own_and_keep_their_label(noise: Noise) -> None:
    clean = noise(40)
    attack = dim(cover_rate=0.25, strength=200)
    made = attack.poison(clean, 0.1)
    assert (int(made.poisoned.sum()), int(made.cover.sum())) == (4, 10)
    assert not (made.poisoned & made.cover).any()
    assert made.data.labels[made.cover].equal(clean.labels[made.cover])
    assert made.data.labels[made.poisoned].tolist() == [1] * 4
    first_rows = made.data.images[:, :, 0]
    assert (first_rows[made.cover] == 50).all()
    assert (first_rows[made.poisoned] == 100).all()  # weaker than at test time
    assert (attack.trigger(clean.images)[:, :, 0] == 200).all()
    neither = ~(made.poisoned | made.cover)
    assert attack.chosen == (made.poisoned.nonzero().flatten().tolist(), made.cover.nonzero().flatten().tolist())
    assert made.data.images[neither].equal(clean.images[neither])
    assert made.data.images[:, :, 1:].equal(clean.images[:, :, 1:])


def test_cover_samples_do_not_change_who_is_poisoned(noise: Noise) -> None:
    clean = noise(40)
    assert dim(cover_rate=0.25).poison(clean, 0.1).poisoned.equal(dim(cover_rate=0.5).poison(clean, 0.1).poisoned)


def test_more_poisoned_and_cover_samples_than_images(noise: Noise) -> None:
    assert dim(cover_rate=0.5).counts(noise(20).labels, 0.5) == (10, 10)
    with pytest.raises(ConfigError, match="10 poisoned and 12 cover samples are needed, but only 20"):
        dim(cover_rate=0.6).poison(noise(20), 0.5)


def test_a_cover_rate_of_no_sample_is_refused(noise: Noise) -> None:
    # It would turn an adaptive attack into a plain one without a word.
    with pytest.raises(ConfigError, match="cover"):
        dim(cover_rate=0.003).poison(noise(40), 0.1)


def test_clean_label_counts_a_share_of_the_target_class(noise: Noise) -> None:
    clean = noise(40)  # ten of each class
    made = dim(CleanDim, target=1, cover_rate=0.0).poison(clean, 0.3)
    assert int(made.poisoned.sum()) == 3
    assert (clean.labels[made.poisoned] == 1).all()
    assert made.data.labels.equal(clean.labels)
    assert changed(clean, made.data.images).equal(made.poisoned)
    with pytest.raises(ConfigError, match=r"0\.04 rounds to no sample of 10"):
        dim(CleanDim, target=1).poison(clean, 0.04)


def test_prepare_is_the_place_to_train_on_clean_data(noise: Noise) -> None:
    attack = dim()
    artifacts = ArtifactCache(Compute(torch.device("cpu")), 0)
    attack.prepare(noise(20), 0.25, artifacts)
    assert attack.prepared == (20, 0.25)
    badnets().prepare(noise(20), 0.25, artifacts)  # most attacks need nothing
