"""Targets, weights and mixing in V&B's losses."""

import copy
import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import trainers.defenses.vab
from tests.trainers.defenses.vab_small import (
    Fixed,
    Noise,
    figures,
    fixed,
    softmax_of_victim,
    task,
)
from trainers.defenses.vab import Vab
from trainers.optim import Descent


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

    def step(self: Vab, descent: Descent, losses: Iterable[Tensor]) -> Tensor:
        (loss,) = losses
        descent.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        descent.step()
        if isinstance(descent.optimizer, torch.optim.SGD):
            made.steps.append((loss.item(), pending.copy()))
            pending.clear()
        return loss.detach()

    monkeypatch.setattr(trainers.defenses.vab, "soft_cross_entropy", cross_entropy)
    monkeypatch.setattr(Vab, "step_in_passes", step)
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
