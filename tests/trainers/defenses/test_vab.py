import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import trainers.defenses.vab
from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.data.batches import Augmentation
from trainers.defenses.base import Report, Stage, TrainingTask
from trainers.defenses.vab import Vab, VabParams
from trainers.errors import ConfigError, TrialError
from trainers.models import ModelConfig
from trainers.state import load_state, save_state

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


# State


@pytest.mark.parametrize(
    ("changes", "model", "size"),
    [
        ({"warmup_rounds": 2, "mix_epochs": 3}, "tiny", 8),
        ({"mixing": "mixup", "split": "gmm", "resplit_period": 1}, "tiny", 8),
        ({"mixing": "cutmix", "warmup_rounds": 0, "warmup_steps": 5, "schedule": "cosine"}, "tiny", 8),
        ({"mixing": "none", "upsampling": "nearest", "mix_epochs": 1}, "preact_resnet18", 16),
    ],
)
def test_a_state_loaded_between_any_two_epochs_goes_on_with_the_same_numbers(
    noise: Noise, tmp_path: Path, changes: dict[str, Any], model: str, size: int
) -> None:
    params, told = small(**changes), task(noise(36, size=size), model=model)
    whole = Vab(params, told)
    save_state(tmp_path / "0", whole.state())
    expected: Trace = []
    for stage, report in whole.epochs():
        expected.append(row(stage, report))
        save_state(tmp_path / str(len(expected)), whole.state())
    for trained in range(len(expected) + 1):
        again = Vab(params, told)
        again.load(load_state(tmp_path / str(trained)))
        assert figures(again) == expected[trained:]
        assert weights(again).equal(weights(whole))


def test_a_prefix_of_stages_can_be_shared(noise: Noise, tmp_path: Path) -> None:
    # Trials that agree on what the warm-up reads may start from one warm-up, whatever comes later.
    told = task(noise(60))
    first = Vab(small(), told)
    for _ in first.epochs():
        if first.stage_ended:
            break
    save_state(tmp_path / "warm", first.state())
    later = small(lr=0.2, momentum=0.5, weight_decay=0.05, mixing="none", temperature=1.0, batch_size=20)
    alone, sharing = Vab(later, told), Vab(later, told)
    sharing.load(load_state(tmp_path / "warm"))
    assert figures(sharing) == figures(alone)[2:]


def test_stage_1_can_be_shared_by_trials_that_differ_in_stage_2(noise: Noise, tmp_path: Path) -> None:
    told = task(noise(60))
    first = Vab(small(mix_epochs=1), told)
    for stage, _ in first.epochs():
        if stage.name == "mix":
            break
    save_state(tmp_path / "mixed", first.state())
    later = small(mix_epochs=1, temperature=0.5, early_weight=1.0)
    alone, sharing = Vab(later, told), Vab(later, told)
    sharing.load(load_state(tmp_path / "mixed"))
    assert figures(sharing) == figures(alone)[3:]


# Seeds


def test_equal_prefixes_of_parameters_give_equal_numbers(noise: Noise) -> None:
    told = task(noise(40))

    def rows(count: int, **changes: Any) -> Trace:
        return [row(stage, report) for _, (stage, report) in zip(range(count), Vab(small(**changes), told).epochs())]  # noqa: B905

    # Two epochs of warm-up, two of stage 1, two of stage 2.
    one = rows(5)
    later = {"lr": 0.01, "batch_size": 8, "mixing": "mixup", "mix_epochs": 1, "temperature": 2.0, "late_weight": 1.0}
    assert rows(2, **later) == one[:2]
    assert rows(3, **later)[2] != one[2]
    assert rows(4, temperature=2.0) == one[:4]
    assert rows(5, temperature=2.0)[4] != one[4]
    for changed in ({"victim_lr": 0.02}, {"threshold": 0.3}, {"smoothing": 0.5}, {"victim_batch_size": 10}):
        assert rows(1, **changed)[0] != one[0]
    told = task(noise(40), seed=4)
    assert rows(1)[0] != one[0]


# The Victim


@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 5, 11])
def test_warmup_steps_are_optimiser_steps(noise: Noise, wanted: int) -> None:
    defense = Vab(small(warmup_steps=wanted), task(noise(60)))  # a pass is four batches
    _, report = next(defense.epochs())
    assert steps(defense.optimizers["victim"]) == wanted
    # Whole passes of 16, 16, 16 and 12 images, then what is left over.
    passes, rest = divmod(wanted, 4)
    assert report.images_seen == 60 * passes + 16 * rest


def test_without_warmup_steps_it_is_one_pass(noise: Noise) -> None:
    defense = Vab(small(), task(noise(60)))
    _, report = next(defense.epochs())
    assert (steps(defense.optimizers["victim"]), report.images_seen) == (4, 60)
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
            trained.append(steps(defense.optimizers["victim"]) > count)
        before, count = report.suspicion, steps(defense.optimizers["victim"])
    assert redone == trained == [False, True, False, True, False, True, True, True]


def softmax_of_victim(defense: Vab, temperature: float = 1.0) -> NDArray[np.float64]:
    """The Victim's shares on the images as they are, in eval mode, normalised and softened here."""
    pixels = defense.task.data.images.double() / 255
    mean, deviation = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True, correction=0)
    with torch.no_grad():
        logits = defense.victim.eval()(((pixels - mean) / deviation).float()).logits.double().numpy()
    softened: NDArray[np.float64] = np.exp(logits / temperature)
    return softened / softened.sum(1, keepdims=True)


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


def test_the_victim_sees_no_augmentation(noise: Noise) -> None:
    plain = figures(Vab(small(), task(noise(60), crop=0, flip=False)))
    moved = figures(Vab(small(), task(noise(60), crop=3, flip=True)))
    assert plain[:2] == moved[:2]
    assert plain[2][1] != moved[2][1]


def test_victim_and_beneficiary_are_networks_of_their_own(noise: Noise) -> None:
    defense = Vab(small(victim_model="preact_resnet18"), task(noise(20, size=16)))
    assert set(defense.modules) == set(defense.optimizers) == {"victim", "beneficiary"}
    assert len(defense.victim.stages) == 4
    assert len(defense.beneficiary.stages) == 3
    alike = Vab(small(), task(noise(20)))
    assert not alike.victim.head.weight.equal(alike.beneficiary.head.weight)


def test_optimisers_have_their_parameters(noise: Noise) -> None:
    defense = Vab(small(victim_weight_decay=0.01, momentum=0.7), task(noise(20)))
    (victim,), (beneficiary,) = (defense.optimizers[role].param_groups for role in ("victim", "beneficiary"))
    assert (type(defense.optimizers["victim"]), victim["lr"], victim["weight_decay"]) == (torch.optim.Adam, 0.01, 0.01)
    assert (beneficiary["lr"], beneficiary["momentum"], beneficiary["weight_decay"]) == (0.05, 0.7, 5e-4)


# The Beneficiary


def test_the_learning_rate_falls_over_both_stages_together(noise: Noise) -> None:
    defense = Vab(small(mix_epochs=3, suppression_epochs=5, lr=0.8, decay=0.5, milestones=(0.25, 0.5)), task(noise(30)))
    optimizer = defense.optimizers["beneficiary"]
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


@pytest.mark.parametrize(("model", "size"), [("tiny", 4), ("resnet18", 8)])
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


@dataclasses.dataclass
class Recorder:
    """Every soft cross-entropy, and every loss of the Beneficiary."""

    parts: list[tuple[Tensor, float]]
    steps: list[tuple[float, list[int]]]

    def by_step(self) -> list[tuple[float, list[tuple[Tensor, float]]]]:
        return [(loss, [self.parts[i] for i in chosen]) for loss, chosen in self.steps]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder([], [])
    pending: list[int] = []

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        loss = -(targets * logits.float().log_softmax(1)).sum(1).mean()
        pending.append(len(made.parts))
        made.parts.append((targets.detach().clone(), loss.item()))
        return loss

    def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if isinstance(optimizer, torch.optim.SGD):
            made.steps.append((loss.item(), pending.copy()))
            pending.clear()

    monkeypatch.setattr(trainers.defenses.vab, "soft_cross_entropy", cross_entropy)
    monkeypatch.setattr(Vab, "step", staticmethod(step))
    return made


@pytest.mark.parametrize(("epochs", "early"), [(4, 2), (3, 2), (1, 1)])
def test_the_weight_of_the_suspicious_rises_half_way(noise: Noise, recorder: Recorder, epochs: int, early: int) -> None:
    defense = fixed(30, task(noise(60)), mix_epochs=0, suppression_epochs=epochs)
    figures(defense)
    found = [(loss - parts[0][1]) / parts[1][1] for loss, parts in recorder.by_step()]
    assert found == pytest.approx([0.1] * 2 * early + [0.5] * 2 * (epochs - early), abs=1e-4)


def in_order(rows: list[list[float]]) -> NDArray[np.float64]:
    """Rows with a single number each, sorted by its place and size."""
    return np.array(sorted(rows, key=lambda row: (int(np.argmax(row)), max(row))))


@pytest.mark.parametrize("suppression", ["both", "credible", "suspicious", "none"])
def test_whose_targets_are_suppressed(noise: Noise, recorder: Recorder, suppression: str) -> None:
    """Both kinds of target from the formulas; the Beneficiary is made to take every image for class 2."""
    data = noise(60)
    lengths = {"mix_epochs": 0, "suppression_epochs": 1}
    defense = fixed(
        32, task(data), mixing="none", suppression=suppression, temperature=2.5, lr=1e-9, batch_size=8, **lengths
    )
    torch.nn.init.zeros_(defense.beneficiary.head.weight)
    defense.beneficiary.head.bias.data = torch.tensor([0.0, 0.0, 9.0, 0.0])
    for _ in defense.epochs():
        if not recorder.steps:  # the Beneficiary starts from here
            belief = softmax_of_victim(defense, temperature=2.5)
    labelled = torch.cat([parts[0][0] for _, parts in recorder.by_step()])
    unlabelled = torch.cat([parts[1][0] for _, parts in recorder.by_step()])

    expected = []
    for index in list(range(32)) * 2:  # two views of each
        row = [0.0] * 4
        label = int(data.labels[index])
        row[label] = 1 - float(belief[index, label]) if suppression in ("both", "credible") else 1.0
        expected.append(row)
    assert np.allclose(in_order(labelled.tolist()), in_order(expected), atol=1e-4)

    # 28 suspicious ones are shared out to 4 batches of 7; their own labels play no part.
    expected = []
    for index in list(range(32, 60)) * 2:
        guess = 1 - float(belief[index, 2]) if suppression in ("both", "suspicious") else 1.0
        expected.append([0.0, 0.0, guess, 0.0])
    assert len(unlabelled) == 2 * 28
    assert np.allclose(in_order(unlabelled.tolist()), in_order(expected), atol=1e-4)


def test_stage_1_trains_on_given_labels(noise: Noise, recorder: Recorder) -> None:
    data = noise(60)
    defense = fixed(32, task(data), mixing="none", mix_epochs=1, suppression_epochs=0)
    figures(defense)
    targets = torch.cat([parts[0][0] for _, parts in recorder.by_step()])
    by_hand = [[float(c == label) for c in range(4)] for label in data.labels[:32].tolist() * 2]
    assert in_order(targets.tolist()).tolist() == in_order(by_hand).tolist()


@pytest.mark.parametrize("mixing", ["attention", "mixup", "cutmix"])
def test_mixed_targets_are_shared_between_two(noise: Noise, recorder: Recorder, mixing: str) -> None:
    figures(fixed(40, task(noise(60)), mixing=mixing, mix_epochs=1, suppression_epochs=0))
    targets = torch.cat([parts[0][0] for _, parts in recorder.by_step()])
    assert targets.sum(1).allclose(torch.ones(80), atol=1e-5)
    assert int((targets > 1e-6).sum(1).max()) == 2
    assert (targets > -1e-6).all()


@pytest.mark.parametrize(
    ("stage", "mixing", "passes"),
    [
        ("mix", "attention", 3),  # one a view for the attention, and the one that is trained
        ("mix", "mixup", 1),
        ("suppression", "attention", 5),  # and one a view for the pseudo-labels
        ("suppression", "none", 3),
    ],
)
def test_passes_without_gradient_run_in_training_mode(noise: Noise, stage: str, mixing: str, passes: int) -> None:
    lengths = {"mix_epochs": int(stage == "mix"), "suppression_epochs": int(stage == "suppression")}
    defense = fixed(32, task(noise(60)), mixing=mixing, **lengths)
    figures(defense)
    counted = {int(v) for k, v in defense.beneficiary.state_dict().items() if k.endswith("num_batches_tracked")}
    assert counted == {2 * passes}  # two batches


def test_attention_mix_gets_two_views_and_the_attention_on_each(noise: Noise, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def remember(*given: Any) -> tuple[Tensor, Tensor]:
        calls.append(given)
        return given[0], given[1]

    monkeypatch.setattr(trainers.defenses.vab, "attention_mix", remember)
    defense = fixed(16, task(noise(60)), upsampling="nearest", mask_threshold=0.3, mix_epochs=1, suppression_epochs=0)
    epochs = defense.epochs()
    next(epochs), next(epochs)
    beneficiary = copy.deepcopy(defense.beneficiary).train()
    next(epochs)
    ((images, targets, attention, partner, threshold),) = calls
    first, second = images.split(16)
    assert not first.equal(second)
    assert targets[:16].equal(targets[16:])
    assert partner.sort().values.equal(torch.arange(32))  # over both views together
    assert threshold == 0.3
    for view, given in ((first, attention[:16]), (second, attention[16:])):
        with torch.no_grad():
            energy = beneficiary(view).features.double().square().sum(1).numpy()
        map_ = np.kron(energy, np.ones((1, 4, 4)))  # from 2x2 to 8x8
        low, high = map_.min((1, 2), keepdims=True), map_.max((1, 2), keepdims=True)
        assert np.allclose(given.numpy(), (map_ - low) / (high - low), atol=1e-4)


def test_pseudo_labels_are_the_mean_over_two_views(
    noise: Noise, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[Tensor, Tensor]] = []
    run_network = Fixed.run_network

    def remember(self: Fixed, network: Any, images: Tensor) -> Any:
        output = run_network(self, network, images)
        if network is self.beneficiary:
            passes.append((images, output.logits.detach()))
        return output

    monkeypatch.setattr(Fixed, "run_network", remember)
    lengths = {"mix_epochs": 0, "suppression_epochs": 1}
    figures(fixed(16, task(noise(60)), mixing="none", suppression="none", **lengths))
    # One labelled batch of 16, so one of all 44 suspicious: a pass for each view, and one that is trained.
    (one, first), (two, second), (trained, _) = passes
    assert len(one) == len(two) == 44
    assert not one.equal(two)
    assert trained[32:].equal(torch.cat([one, two]))
    mean = (np.exp(log_shares(first)) + np.exp(log_shares(second))) / 2
    by_hand = [[float(c == guess) for c in range(4)] for guess in mean.argmax(1)] * 2
    assert recorder.parts[1][0].tolist() == by_hand
    assert len(set(mean.argmax(1))) > 1


def log_shares(logits: Tensor) -> NDArray[np.float64]:
    values: NDArray[np.float64] = logits.double().numpy()
    return values - np.log(np.exp(values).sum(1, keepdims=True))


def test_beta_draws() -> None:
    data = ImageSet(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4) % 2, ("a", "b"))
    defense = Vab(small(), task(data))
    for b in (0.2, 1.0, 5.0):
        draws = np.array([defense._beta(b) for _ in range(800)])
        assert ((draws >= 0) & (draws <= 1)).all()
        # Mean 1/2 and variance 1 / (4 (2 b + 1)) of Beta(b, b).
        assert draws.mean() == pytest.approx(0.5, abs=0.06)
        assert draws.var() == pytest.approx(1 / (4 * (2 * b + 1)), rel=0.2)


# Errors


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
