from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from trainers.blind import Setting, Trained, train_blind
from trainers.compute import Compute
from trainers.data import DataConfig, ImageSet, load_data
from trainers.data.augmentation import Augmentation
from trainers.defenses.base import Report, TrainingTask
from trainers.defenses.none import NoDefense
from trainers.errors import TrialError
from trainers.models import ModelConfig
from trainers.storage.state_store import StateStore

CPU = Compute(torch.device("cpu"))
VAB = {"warmup_steps": 4, "warmup_rounds": 1, "mix_epochs": 2, "suppression_epochs": 2, "batch_size": 64, "lr": 0.05}


def setting(defense: str = "vab", **params: object) -> Setting:
    known = VAB if defense == "vab" else {"epochs": 3, "batch_size": 64}
    return Setting(defense, known | params, ModelConfig("tiny", width=4), Augmentation(0, False))


def images() -> ImageSet:
    return load_data(DataConfig(train_size=200, test_size=20)).train


def run(where: Path, how: Setting, stop_after: int | None = None, seed: int = 0) -> tuple[Trained | None, list[int]]:
    """Train, or be cut off after some epochs; the result and the epochs that were told of."""
    told: list[int] = []

    def progress(stage: str, epoch: int, total: int, loss: float | None) -> None:
        told.append(epoch)
        if epoch == stop_after:
            raise KeyboardInterrupt

    try:
        return train_blind(how, images(), CPU, seed, StateStore(where, every_s=0.0), progress), told
    except KeyboardInterrupt:
        return None, told


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 5])
def test_a_training_that_was_cut_off_goes_on_to_the_same_model(tmp_path: Path, stop_after: int) -> None:
    whole, _ = run(tmp_path / "whole", setting())
    cut, before = run(tmp_path / "cut", setting(), stop_after)
    again, after = run(tmp_path / "cut", setting())
    assert cut is None
    assert (before[-1], after[0]) == (stop_after, stop_after + 1)
    assert whole
    assert again
    pixels = images().images
    assert torch.equal(whole.model.probabilities(pixels), again.model.probabilities(pixels))
    assert whole.losses == again.losses
    assert whole.suspicion is not None
    assert again.suspicion is not None
    assert torch.equal(whole.suspicion, again.suspicion)


def test_a_training_that_was_cut_off_after_its_last_epoch_trains_that_one_again(tmp_path: Path) -> None:
    """A state from which nothing is left to train would leave no model."""
    whole, told = run(tmp_path / "whole", setting())
    _, before = run(tmp_path / "cut", setting(), stop_after=told[-1])
    again, after = run(tmp_path / "cut", setting())
    assert (before, after) == (told, told[-1:])
    assert whole
    assert again
    assert whole.losses == again.losses
    assert torch.equal(whole.model.probabilities(images().images), again.model.probabilities(images().images))


def test_a_defense_gets_the_images_and_their_labels_and_not_the_names_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name may say what an image is, and where it came from: nothing that an attacker would leave in place."""
    told: list[TrainingTask] = []
    made = NoDefense.__init__

    def watched(self: NoDefense, params: NoDefense.Params, task: TrainingTask) -> None:
        told.append(task)
        made(self, params, task)

    monkeypatch.setattr(NoDefense, "__init__", watched)
    given = images()
    named = replace(given, names=tuple(f"added-{n}.png" if n % 9 == 0 else f"{n}.png" for n in range(len(given))))
    train_blind(setting("none", epochs=1), named, CPU, 7, StateStore(tmp_path), lambda *_: None)
    (task,) = told
    assert task.data.names is None
    assert {field.name for field in fields(task.data)} == {"images", "labels", "class_names", "names", "_known"}
    assert set(task.data._known) <= {"fingerprint"}
    assert task.data.images.equal(given.images)
    assert task.data.labels.equal(given.labels)
    assert (task.data.class_names, task.seed, task.unlabelled) == (given.class_names, 7, None)
    assert named.names is not None, "the list to review needs them"


def test_what_files_are_called_changes_nothing_of_the_model(tmp_path: Path) -> None:
    given = images()
    named = replace(given, names=tuple(f"{n}.png" for n in range(len(given))))
    one, other = (
        train_blind(setting(), data, CPU, 0, StateStore(tmp_path / str(number)), lambda *_: None)
        for number, data in enumerate((given, named))
    )
    assert one.losses == other.losses
    assert torch.equal(one.model.probabilities(given.images), other.model.probabilities(given.images))


def test_seeds_differ(tmp_path: Path) -> None:
    first, second = (run(tmp_path / str(seed), setting(), seed=seed)[0] for seed in (0, 1))
    assert first
    assert second
    assert first.losses != second.losses


def test_a_defense_that_marks_nothing_leaves_a_model_alone(tmp_path: Path) -> None:
    trained, _ = run(tmp_path, setting("none"))
    assert trained
    assert (trained.suspicion, trained.credible, len(trained.losses)) == (None, None, 3)
    assert trained.model.class_names == images().class_names


def test_a_network_that_is_not_finite_is_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step may break what the loss before it did not show."""
    trained = NoDefense.train

    def broken(self: NoDefense, epoch: int) -> Report:
        report = trained(self, epoch)
        torch.nn.init.constant_(self.network.head.bias, float("nan"))
        return report

    monkeypatch.setattr(NoDefense, "train", broken)
    with pytest.raises(TrialError, match="The network's weights are not finite"):
        run(tmp_path, setting("none", epochs=1))


def test_a_loss_that_is_not_finite_ends_it(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="loss is"):
        run(tmp_path, setting("none", lr=1e30))
