"""The network that V&B keeps: schedule, splits of every kind, images that are counted."""

import pytest
import torch

from tests.trainers.defenses.vab_small import Noise, figures, fixed, small, task, weights
from trainers.data import ImageSet
from trainers.defenses.vab import Vab
from trainers.errors import ConfigError


def test_the_learning_rate_falls_over_both_stages_together(noise: Noise) -> None:
    defense = Vab(small(mix_epochs=3, suppression_epochs=5, lr=0.8, decay=0.5, milestones=(0.25, 0.5)), task(noise(30)))
    optimizer = defense.descents["beneficiary"].optimizer
    rates = [optimizer.param_groups[0]["lr"] for stage, _ in defense.epochs() if stage.name != "warmup"]
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2])


def test_the_warm_up_leaves_the_beneficiary_alone_and_it_is_deployed_afterwards(noise: Noise) -> None:
    defense = Vab(small(), task(noise(60)))
    fresh = {key: value.clone() for key, value in defense.beneficiary.state_dict().items()}
    for stage, report in defense.epochs():
        if stage.name == "warmup":
            assert report.model is None
            assert all(value.equal(fresh[key]) for key, value in defense.beneficiary.state_dict().items())
        else:
            assert report.model is defense.beneficiary


def images_by_hand(credible: int, suspicious: int, batch: int, with_suspicious: bool) -> int:
    """Views of the Beneficiary in an epoch: two of each labelled sample, two of each in the unlabelled batches."""
    if credible == 0:
        return 0
    labelled = max(credible, 2)
    full, rest = divmod(labelled, batch)
    batches = full + (rest > 1) if full else 1
    unlabelled = batches * max(suspicious // batches, 1) if suspicious and with_suspicious else 0
    return 2 * labelled + 2 * unlabelled


@pytest.mark.parametrize(
    ("credible", "mixing"),
    [
        (0, "attention"),  # all suspicious
        (1, "attention"),  # one sample, doubled
        (1, "none"),
        (1, "mixup"),
        (1, "cutmix"),
        (2, "attention"),
        (17, "attention"),  # one sample would be left for the last batch
        (17, "cutmix"),
        (37, "attention"),  # 23 suspicious for 3 batches: 7 each
        (57, "attention"),  # 3 suspicious for 4 batches: the floor of 1
        (59, "attention"),  # one suspicious for 4 batches
        (60, "attention"),  # none suspicious
    ],
)
def test_it_survives_every_split_and_counts_its_images(noise: Noise, credible: int, mixing: str) -> None:
    defense = fixed(credible, task(noise(60)), mixing=mixing)
    seen = {}
    for stage, report in defense.epochs():
        seen.setdefault(stage.name, []).append(report.images_seen)
        if stage.name != "warmup":
            assert (report.loss is None) == (credible == 0)
            assert report.credible is not None
            assert int(report.credible.sum()) == credible
    suspicious = 60 - credible
    victim = 2 if suspicious == 1 else suspicious
    mix = images_by_hand(credible, suspicious, 16, with_suspicious=False)
    both = images_by_hand(credible, suspicious, 16, with_suspicious=True)
    assert seen == {"warmup": [60, victim], "mix": [mix, mix + victim], "suppression": [both + victim] * 2}
    assert weights(defense).isfinite().all()


def test_a_weight_of_0_leaves_the_suspicious_out(noise: Noise) -> None:
    defense = fixed(30, task(noise(60)), early_weight=0, late_weight=0)
    reports = [(stage.name, report) for stage, report in defense.epochs()]
    assert [r.images_seen for name, r in reports if name == "suppression"] == [60 + 30] * 2


@pytest.mark.parametrize(("model", "size"), [("tiny", 4), ("resnet18", 8), ("imagenet_resnet18", 16)])
def test_small_images_whose_last_maps_are_one_pixel(noise: Noise, model: str, size: int) -> None:
    # Batch-norm cannot train on a single value per channel: one suspicious sample a batch has no more.
    defense = fixed(57, task(noise(60, size=size), model=model), mix_epochs=1, suppression_epochs=1)
    assert all(loss is not None for _, loss, *_ in figures(defense))


def test_two_images(noise: Noise) -> None:
    assert len(figures(Vab(small(), task(noise(2, classes=2))))) == 6
    assert len(figures(Vab(small(split="gmm"), task(noise(2, classes=2))))) == 6


def test_images_that_are_all_alike_are_all_suspicious() -> None:
    data = ImageSet(torch.full((20, 3, 8, 8), 9, dtype=torch.uint8), torch.arange(20) % 2, ("a", "b"))
    for split in ("threshold", "gmm"):
        rows = figures(Vab(small(split=split), task(data)))
        assert [sum(credible) for *_, credible in rows[1:]] == [0] * 5
        assert [loss for _, loss, *_ in rows[2:]] == [None] * 4


def test_one_stage_alone(noise: Noise) -> None:
    rows = figures(Vab(small(suppression_epochs=0), task(noise(40))))
    assert [name for name, *_ in rows] == ["warmup", "warmup", "mix", "mix"]
    rows = figures(Vab(small(mix_epochs=0), task(noise(40))))
    assert [name for name, *_ in rows] == ["warmup", "warmup", "suppression", "suppression"]
    with pytest.raises(ConfigError, match="mix_epochs and suppression_epochs must not both be 0"):
        small(mix_epochs=0, suppression_epochs=0)


def test_the_filter_alone_learns_nothing_of_suspicious_samples(noise: Noise) -> None:
    """Of the ablation: images of the suspicious ones may be anything, in every epoch of the Beneficiary."""
    found = []
    for changed in (False, True):
        defense = fixed(40, task(noise(60)), suppression="filter", mixing="none")
        for stage, report in defense.epochs():
            if stage.name == "warmup" and changed and defense.stage_ended:
                defense.images[40:] = 255 - defense.images[40:]
            if stage.name == "suppression":
                seen = report.images_seen
        found.append(defense.beneficiary.head.weight.detach().clone())
        assert seen == images_by_hand(40, 20, 16, with_suspicious=False) + 20, "and the Victim's pass"
    assert found[0].equal(found[1])
