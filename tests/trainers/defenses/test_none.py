import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.data.augmentation import Augmentation
from trainers.defenses.base import TrainingTask
from trainers.defenses.none import NoDefense, NoneParams
from trainers.defenses.parts.mixing import soft_cross_entropy
from trainers.errors import ConfigError, TrialError
from trainers.models import ModelConfig
from trainers.storage.state import load_state, save_state

Noise = Callable[..., ImageSet]


def task(data: ImageSet, augmentation: Augmentation | None = None, model: str = "tiny") -> TrainingTask:
    augmentation = augmentation or Augmentation(crop=1)
    return TrainingTask(data, ModelConfig(model, width=4), augmentation, Compute(torch.device("cpu")), seed=3)


def weights(defense: NoDefense) -> torch.Tensor:
    return torch.cat([v.flatten().double() for v in defense.network.state_dict().values()])


@pytest.mark.parametrize(
    ("model", "mixing"), [("tiny", {}), ("preact_resnet18", {}), ("tiny", {"mixup": 0.2, "cutmix": 1.0})]
)
def test_a_state_loaded_between_any_two_epochs_goes_on_with_the_same_numbers(
    noise: Noise, tmp_path: Path, model: str, mixing: dict[str, float]
) -> None:
    params, told = NoneParams(epochs=4, batch_size=16, **mixing), task(noise(50, size=16), model=model)
    whole, reports = NoDefense(params, told), []
    save_state(tmp_path / "0", whole.state())
    for number, (_, report) in enumerate(whole.epochs(), start=1):
        reports.append((report.loss, report.images_seen))
        save_state(tmp_path / str(number), whole.state())
    for trained in range(5):
        again = NoDefense(params, told)
        again.load(load_state(tmp_path / str(trained)))
        assert [(r.loss, r.images_seen) for _, r in again.epochs()] == reports[trained:]
        assert weights(again).equal(weights(whole))


def test_an_epoch_sees_every_image_once(noise: Noise) -> None:
    defense = NoDefense(NoneParams(epochs=2, batch_size=8), task(noise(33)))
    reports = [report for _, report in defense.epochs()]
    assert [report.images_seen for report in reports] == [33, 33]
    assert all(report.model is defense.network for report in reports)
    assert all(report.suspicion is None and report.credible is None for report in reports)


@pytest.mark.parametrize("mixing", [{}, {"mixup": 1.0, "cutmix": 1.0}])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_few_images_and_a_last_batch_of_one(noise: Noise, count: int, mixing: dict[str, float]) -> None:
    defense = NoDefense(NoneParams(epochs=2, batch_size=8, **mixing), task(noise(count)))
    losses = [report.loss for _, report in defense.epochs()]
    assert all(loss is not None and loss > 0 for loss in losses)


def test_an_epoch_of_one_batch_by_hand(noise: Noise) -> None:
    data = noise(12)
    defense = NoDefense(
        NoneParams(epochs=1, batch_size=12, milestones=()), task(data, Augmentation(crop=0, flip=False))
    )
    reference = copy.deepcopy(defense.network).train()
    optimizer = torch.optim.SGD(reference.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    pixels = data.images.double() / 255
    mean, deviation = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True, correction=0)
    batch = ((pixels - mean) / deviation).float()
    loss = functional.cross_entropy(reference(batch).logits, data.labels)
    loss.backward()
    optimizer.step()
    ((_, report),) = defense.epochs()
    assert report.loss == pytest.approx(loss.item(), abs=1e-5)
    assert defense.network.head.weight.allclose(reference.head.weight, atol=1e-5)


def test_it_learns_what_can_be_learned() -> None:
    labels = torch.arange(60) % 2
    images = torch.zeros(60, 1, 8, 8, dtype=torch.uint8)
    images[labels == 1, :, :, 4:] = 200
    told = task(ImageSet(images, labels, ("a", "b")), Augmentation(crop=1, flip=False))
    defense = NoDefense(NoneParams(epochs=6, batch_size=16, lr=0.05), told)
    losses = [report.loss for _, report in defense.epochs()]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0] / 2
    assert (defense.logits_of(defense.network, images).argmax(1) == labels).all()


def test_the_learning_rate_follows_the_schedule(noise: Noise) -> None:
    params = NoneParams(epochs=4, batch_size=16, lr=0.2, decay=0.5, milestones=(0.5,))
    defense = NoDefense(params, task(noise(20)))
    assert [defense.descent.optimizer.param_groups[0]["lr"] for _ in defense.epochs()] == pytest.approx(
        [0.2, 0.2, 0.1, 0.1]
    )


def test_a_loss_that_is_not_a_number(noise: Noise) -> None:
    defense = NoDefense(NoneParams(epochs=2), task(noise(20)))
    torch.nn.init.constant_(defense.network.head.bias, float("nan"))
    with pytest.raises(TrialError, match="The loss is nan in epoch 1 of stage training"):
        list(defense.epochs())


def test_no_epoch_is_no_training() -> None:
    with pytest.raises(ConfigError, match="epochs must be a whole number at least 1, but got 0"):
        NoneParams(epochs=0)


@pytest.mark.parametrize("mixing", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}])
def test_targets_follow_what_is_mixed(monkeypatch: pytest.MonkeyPatch, mixing: dict[str, float]) -> None:
    labels = torch.arange(64) % 2
    images = (200 * labels[:, None, None, None]).expand(-1, 3, 8, 8).to(torch.uint8)
    told = task(ImageSet(images, labels, ("black", "bright")), Augmentation(crop=0, flip=False))
    defense = NoDefense(NoneParams(epochs=10, batch_size=16, **mixing), told)
    batches, losses = list[torch.Tensor](), list[float]()

    def watched(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        share = (batches[-1].mean((1, 2, 3)) + 1) / 2  # black is -1 after normalisation, bright 1
        assert targets.dtype == torch.float32
        assert targets.allclose(torch.stack([1 - share, share], dim=1), atol=1e-5)
        losses.append(functional.cross_entropy(logits, targets).item())
        return soft_cross_entropy(logits, targets)

    run = NoDefense.run_network
    monkeypatch.setattr(NoDefense, "run_network", lambda *args: (batches.append(args[2]), run(*args))[1])
    monkeypatch.setattr("trainers.defenses.none.soft_cross_entropy", watched)
    reported = [report.loss for _, report in defense.epochs()]
    assert reported == pytest.approx([sum(losses[start : start + 4]) / 4 for start in range(0, 40, 4)], abs=1e-5)
    assert all(batch.dtype == torch.float32 for batch in batches)
    between = [bool((batch.abs() < 0.999).any()) for batch in batches]
    steady = [batch.flatten(1).std(1).max().item() < 1e-3 for batch in batches]
    if len(mixing) == 2:
        assert 8 < between.count(True) < 32
    else:
        assert between.count(True) == (40 if "mixup" in mixing else 0)
    assert all(one for one, mixed in zip(steady, between, strict=True) if mixed), (
        "mixup leaves an image of one colour so"
    )
    assert "cutmix" not in mixing or not all(steady)


def test_without_mixing_keys_are_as_before() -> None:
    assert NoneParams(mixup=0, cutmix=0).changed() == {}


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_bad_shares(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be a number at least 0, but got -1"):
        NoneParams(**{name: -1})
