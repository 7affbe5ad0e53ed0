"""Laws that hold for whatever attack there is."""

from typing import Any

import pytest
import torch

from tests.trainers.attacks.quick import (
    CLEAN_LABEL,
    MAY_COVER,
    MUST_COVER,
    OF_TARGET,
    TRAINED,
    Case,
    Noise,
    changed,
    of_every_attack,
    prepared,
    quick,
)
from trainers.attacks import ATTACKS, ArtifactCache
from trainers.compute import Compute
from trainers.errors import ConfigError


def test_the_list_is_keyed_by_name() -> None:
    assert list(ATTACKS) == [kind.name for kind in ATTACKS.values()]
    assert len(ATTACKS) == 14
    assert [name for name, kind in ATTACKS.items() if kind.clean_label] == list(CLEAN_LABEL)
    assert [name for name, kind in ATTACKS.items() if kind.rate_of_target] == list(OF_TARGET)
    covering = {name for name, kind in ATTACKS.items() if "cover_rate" in kind.Params.keys()}
    assert covering == {*MAY_COVER, *MUST_COVER}


@of_every_attack
def test_exactly_the_chosen_samples_differ(case: Case) -> None:
    clean, attack = case.clean(), case.attack()
    assert attack.counts(clean.labels, case.rate) == (case.poisoned, case.cover)
    made = attack.poison(clean, case.rate)
    assert (int(made.poisoned.sum()), int(made.cover.sum())) == (case.poisoned, case.cover)
    assert not (made.poisoned & made.cover).any()
    assert changed(clean, made.data.images).equal(made.poisoned | made.cover)
    assert (made.data.images.dtype, made.data.images.shape) == (torch.uint8, clean.images.shape)
    assert made.data.class_names == clean.class_names


@of_every_attack
def test_labels(case: Case) -> None:
    clean = case.clean()
    made = case.attack().poison(clean, case.rate)
    rows = zip(clean.labels.tolist(), made.data.labels.tolist(), made.poisoned.tolist(), strict=True)
    for old, new, chosen in rows:
        if not chosen:  # cover samples among them
            assert new == old
        elif case.name in CLEAN_LABEL:
            assert new == old == case.target
        else:
            assert new == case.wanted(old) != old
        if chosen and case.name == "tact":
            assert old == case.source
    assert made.data.labels.dtype == torch.int64


@of_every_attack
def test_the_same_seed_gives_the_same_bytes_and_leaves_the_clean_set_alone(case: Case) -> None:
    clean, attack = case.clean(), case.attack()
    before = clean.images.clone(), clean.labels.clone()
    one, again, other = attack.poison(clean, case.rate), attack.poison(clean, case.rate), case.attack()
    assert one.data.fingerprint == again.data.fingerprint == other.poison(clean, case.rate).data.fingerprint
    assert one.poisoned.equal(again.poisoned)
    assert one.cover.equal(again.cover)
    assert attack.trigger(clean.images).equal(other.trigger(clean.images))
    assert (clean.images.equal(before[0]), clean.labels.equal(before[1])) == (True, True)


@of_every_attack
def test_a_trigger_makes_new_images_of_the_same_kind(case: Case) -> None:
    clean, attack = case.clean(), case.attack()
    before = clean.images.clone()
    triggered = attack.trigger(clean.images)
    assert clean.images.equal(before)
    assert (triggered.dtype, triggered.shape) == (torch.uint8, clean.images.shape)
    assert changed(clean, triggered).all()
    # Neighbours in the batch do not matter.
    few = attack.trigger(clean.images[3:5])
    assert (few.int() - triggered[3:5].int()).abs().max() <= 1
    none = attack.trigger(clean.images[:0])
    assert (none.dtype, none.shape) == (torch.uint8, (0, *clean.images.shape[1:]))


@of_every_attack
def test_success_is_measured_on_images_that_are_not_of_the_target_class(case: Case) -> None:
    clean, attack = case.clean(), case.attack()
    labels = clean.labels.tolist()
    eligible = [label == case.source if case.name == "tact" else label != case.target for label in labels]
    assert attack.eligible(clean.labels).tolist() == eligible
    assert attack.target_of(clean.labels).tolist() == [case.wanted(label) for label in labels]


@of_every_attack
def test_rate_0_poisons_nothing_and_covers_nothing(case: Case) -> None:
    clean, attack = case.clean(), case.attack()
    assert attack.counts(clean.labels, 0.0) == (0, 0)
    prepared(attack, clean, 0.0)
    made = attack.poison(clean, 0.0)
    assert made.data.fingerprint == clean.fingerprint
    assert (int(made.poisoned.sum()), int(made.cover.sum())) == (0, 0)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_global_generator_is_left_alone_and_does_not_matter(noise: Noise, name: str) -> None:
    clean, made = noise(24), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        params = {"cover_rate": 0.1} if name in (*MUST_COVER, *MAY_COVER) else {}
        made.append(prepared(quick(name, **params), clean).poison(clean, 0.2).data.fingerprint)
        assert torch.get_rng_state().equal(before)
    assert made[0] == made[1]


# What is refused


@pytest.mark.parametrize("name", MUST_COVER)
def test_an_adaptive_attack_without_cover_samples_would_be_a_plain_one(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^cover_rate must be a number above 0 and below 1, but got 0\.$"):
        ATTACKS[name].Params(cover_rate=0)


@pytest.mark.parametrize("name", [*MUST_COVER, *MAY_COVER])
def test_a_cover_rate_of_no_sample(noise: Noise, name: str) -> None:
    attack = quick(name, cover_rate=0.001)
    with pytest.raises(
        ConfigError, match=r"^A cover_rate of 0\.001 rounds to no sample of 40; allowed is 0\.013 or more\.$"
    ):
        attack.counts(noise(40).labels, 0.1)


@pytest.mark.parametrize("name", [name for name in (*MUST_COVER, *MAY_COVER) if name != "tact"])
def test_more_poisoned_and_cover_samples_than_there_are(noise: Noise, name: str) -> None:
    labels = noise(40).labels
    assert quick(name, cover_rate=0.475).counts(labels, 0.5) == (20, 19)
    with pytest.raises(
        ConfigError, match=r"^21 poisoned and 20 cover samples are needed, but only 40 samples can be used; "
    ):
        quick(name, cover_rate=0.5).counts(labels, 0.525)


@pytest.mark.parametrize("name", CLEAN_LABEL)
def test_clean_labels_and_all_to_all(name: str) -> None:
    message = rf"^{name} is a clean-label attack and needs a target class; all-to-all is not possible\.$"
    with pytest.raises(ConfigError, match=message):
        quick(name, target=None)


@pytest.mark.parametrize("name", CLEAN_LABEL)
def test_a_clean_label_rate_of_no_sample(noise: Noise, name: str) -> None:
    base, allowed = ("10 in the target class, 0", r"0\.05") if name in OF_TARGET else ("40", r"0\.013")
    message = rf"^A poison_rate of 0\.01 rounds to no sample of {base}; allowed is {allowed} or more\.$"
    with pytest.raises(ConfigError, match=message):
        quick(name).counts(noise(40).labels, 0.01)


@pytest.mark.parametrize("name", CLEAN_LABEL)
def test_a_class_without_images_cannot_be_poisoned(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} poisons images of class 2, but the data has none\.$"):
        quick(name, target=2).counts(torch.tensor([0, 1, 3]), 0.5)


@pytest.mark.parametrize("name", [name for name, kind in ATTACKS.items() if "trigger" in kind.Params.keys()])
def test_a_trigger_image_that_cannot_be_read(name: str) -> None:
    for path in ("/nowhere/gone.png", "~nobody-of-this-name/gone.png"):
        with pytest.raises(ConfigError, match=r"^The trigger image .*gone\.png cannot be read: No such file"):
            quick(name, trigger=path)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("blend", {"alpha": 0.001}), ("sig", {"delta": 0.4, "frequency": 2}), ("wanet", {"strength": 1e-4}),
        ("narcissus", {"step_size": 0.5}), ("slow_release", {"alpha": 0.001, "low_alpha": 0.0005}),
    ],
)  # fmt: skip
def test_a_trigger_that_changes_nothing_is_refused(noise: Noise, name: str, params: dict[str, Any]) -> None:
    clean = noise(40, seed=1)
    attack = prepared(quick(name, **params), clean, 0.2)
    with pytest.raises(ConfigError, match=rf"^The trigger of {name} is too faint: it changes no pixel of any image\.$"):
        attack.poison(clean, 0.2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("name", TRAINED)
def test_what_is_trained_on_a_gpu_poisons_on_the_cpu(noise: Noise, name: str) -> None:
    clean = noise(40, seed=1)
    attack = quick(name)
    attack.prepare(clean, 0.2, ArtifactCache(Compute(torch.device("cuda"), amp=True), 0))
    made = attack.poison(clean, 0.2)
    assert made.data.images.device.type == "cpu"
    assert changed(clean, made.data.images).equal(made.poisoned | made.cover)
    assert attack.trigger(clean.images).device.type == "cpu"
