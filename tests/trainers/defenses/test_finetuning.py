"""The options for fine-tuning, with every defense and the control."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.defenses import small_defenses, vab_small
from tests.trainers.defenses.small_defenses import row, task, weights
from trainers.data import ImageSet
from trainers.data.batches import batch_count, shuffled_batches
from trainers.defenses import DEFENSES
from trainers.defenses.base import Defense, TrainingTask
from trainers.errors import ConfigError
from trainers.models import ModelConfig
from trainers.seeding import seeded
from trainers.storage.state import load_state, save_state

Noise = Callable[..., ImageSet]

SMALL: dict[str, dict[str, Any]] = {
    "none": {"epochs": 2},
    "vab": vab_small.SMALL | {"mix_epochs": 1},
    "pt": {"partial_epochs": 1, "score_epochs": 1, "clean_epochs": 2, "finetune_epochs": 1, "clean_start": "partial"},
    "dlp": {"supervised_epochs": 1, "unlearning_epochs": 1, "finetune_epochs": 2, "refilter_period": 1},
    "bcu": {"training_epochs": 1, "distillation_epochs": 2, "distillation_batch_size": 16},
    "abl": {"isolation_epochs": 1, "isolation_rate": 0.1, "finetune_epochs": 1, "unlearning_epochs": 1},
}
ALL_OPTIONS: dict[str, Any] = {
    "optimizer": "adamw", "lr": 0.01, "lr_warmup_steps": 5, "schedule": "cosine_steps", "backbone_lr_factor": 0.3,
    "frozen_parts": "stem", "clip_norm": 0.5, "label_smoothing": 0.1, "ema_decay": 0.6,
}  # fmt: skip
KEPT = {"none": "network", "vab": "beneficiary", "pt": "network", "dlp": "network", "bcu": "student", "abl": "network"}
"""The network that each keeps."""
UNLEARNING = {"pt": "finetuning", "dlp": "unlearning", "abl": "unlearning"}


def made(name: str, told: TrainingTask, **changes: Any) -> Any:
    kind = DEFENSES[name]
    own = SMALL[name] | ({"score_moments": 3} if name == "vab" else {})
    return kind(kind.Params(**(small_defenses.COMMON | own | changes)), told)


@pytest.mark.parametrize("name", DEFENSES)
def test_a_state_loaded_between_any_two_epochs_goes_on_with_the_same_numbers(
    noise: Noise, tmp_path: Path, name: str
) -> None:
    told = task(noise(40))
    whole = made(name, told, **ALL_OPTIONS)
    save_state(tmp_path / "0", whole.state())
    expected: list[tuple[Any, ...]] = []
    for stage, report in whole.epochs():
        expected.append(row(stage, report))
        save_state(tmp_path / str(len(expected)), whole.state())
    for trained in range(len(expected) + 1):
        again = made(name, told, **ALL_OPTIONS)
        again.load(load_state(tmp_path / str(trained)))
        assert [row(stage, report) for stage, report in again.epochs()] == expected[trained:]
        assert weights(again).equal(weights(whole))


@pytest.mark.parametrize("name", DEFENSES)
def test_what_is_reported_is_the_average_with_the_statistics_of_the_network(noise: Noise, name: str) -> None:
    """After epochs of unlearning it has the weights of the network itself, which few steps have changed."""
    defense = made(name, task(noise(40)), ema_decay=0.5)
    trained, average = (defense.modules[role] for role in (KEPT[name], f"{KEPT[name]}_average"))
    for stage, report in defense.epochs():
        if report.model is not average:  # no network yet, or BCU's teacher
            continue
        assert all(one.equal(two) for one, two in zip(trained.buffers(), average.buffers(), strict=True))
        same = [one.equal(two) for one, two in zip(trained.parameters(), average.parameters(), strict=True)]
        assert all(same) if stage.name == UNLEARNING.get(name) else not any(same)
    assert report.model is average


@pytest.mark.parametrize("name", DEFENSES)
def test_frozen_parts_keep_weights_and_statistics(noise: Noise, name: str) -> None:
    """BCU's student trains all of its parts, since weights of all of them are new."""
    defense = made(name, task(noise(40)), frozen_parts="early", clean_start="fresh") if name == "pt" else made(
        name, task(noise(40)), frozen_parts="early"
    )  # fmt: skip
    network = defense.modules["network" if name == "bcu" else KEPT[name]]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for _ in defense.epochs():
        pass
    for key, value in network.state_dict().items():
        still = key.startswith(("stem", "stages.0"))
        assert value.equal(before[key]) is still, key
    if name == "bcu":
        assert not any(weight.equal(before[key]) for key, weight in defense.student.named_parameters())


@pytest.mark.parametrize("name", DEFENSES)
def test_frozen_parts_that_are_not_there_are_refused_before_training(noise: Noise, name: str) -> None:
    kind = DEFENSES[name]
    for wrong, text in (("stage9", "frozen_parts must be one of"), ("stem+stage1+stage2+stage3+head", "leave a part")):
        with pytest.raises(ConfigError, match=text):
            kind.check(kind.Params(frozen_parts=wrong), noise(40), ModelConfig(width=4))


STAGES: dict[str, dict[str, dict[str, str]]] = {
    "adamw": {"optimizer": {"none": "training", "vab": "mix", "pt": "partial", "dlp": "supervised", "bcu": "training",
                            "abl": "isolation"}},
    "warm-up": {"lr_warmup_steps": {"none": "training", "vab": "mix", "pt": "partial", "dlp": "supervised",
                                    "bcu": "training", "abl": "isolation"}},
    "clip": {"clip_norm": {"none": "training", "vab": "mix", "pt": "partial", "dlp": "supervised", "bcu": "training",
                           "abl": "isolation"}},
    "backbone": {"backbone_lr_factor": {"none": "training", "vab": "mix", "pt": "clean", "dlp": "supervised",
                                        "bcu": "training", "abl": "isolation"}},
    "frozen": {"frozen_parts": {"none": "training", "vab": "mix", "pt": "clean", "dlp": "supervised",
                                "bcu": "training", "abl": "isolation"}},
    "smoothing": {"label_smoothing": {"none": "training", "vab": "mix", "pt": "clean", "dlp": "supervised",
                                      "bcu": "training", "abl": "finetuning"}},
    "average": {"ema_decay": {"none": "training", "vab": "mix", "pt": "clean", "dlp": "supervised",
                              "bcu": "training", "abl": "isolation"}},
    "steps": {"schedule": {"none": "training", "vab": "mix", "pt": "clean", "dlp": "supervised", "bcu": "training",
                           "abl": "finetuning"}},
}  # fmt: skip
"""The first stage of each defense whose numbers an option changes; no earlier stage reads it."""


@pytest.mark.parametrize("option", STAGES)
@pytest.mark.parametrize("name", DEFENSES)
def test_the_first_stage_that_an_option_changes_is_the_first_that_reads_it(
    noise: Noise, name: str, option: str
) -> None:
    ((key, by_defense),) = STAGES[option].items()
    told = task(noise(40))
    plain = made(name, told)
    changed = made(name, told, **{key: ALL_OPTIONS[key]})
    reading = [stage.name for stage in plain.stages(plain.params) if key in stage.reads]
    assert reading[0] == by_defense[name]
    for (stage, _), _ in zip(plain.epochs(), changed.epochs(), strict=True):
        same = all(small_weights(plain, role).equal(small_weights(changed, role)) for role in plain.modules)
        if stage.name == by_defense[name]:
            assert not same or key == "ema_decay"
            return
        assert same


def small_weights(defense: Defense, role: str) -> Tensor:
    return torch.cat([value.flatten().double() for value in defense.modules[role].state_dict().values()])


def test_label_smoothing_by_formula(noise: Noise, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of the control's first batch: ``-(1 - s) log p_y - s mean_c log p_c``."""
    seen: list[tuple[Tensor, Tensor]] = []
    run, step = Defense.run_network, Defense.step
    logits: list[Tensor] = []

    def watched(self: Defense, network: nn.Module, images: Tensor) -> Any:
        output = run(self, network, images)
        logits.append(output.logits.detach())
        return output

    monkeypatch.setattr(Defense, "run_network", watched)
    monkeypatch.setattr(
        Defense, "step", lambda self, how, loss: (seen.append((logits[-1], loss)), step(self, how, loss))
    )
    defense = made("none", task(noise(40)), label_smoothing=0.3)
    batches = shuffled_batches(torch.arange(40), 16, seeded(defense.stage_seed(0)))
    labels = defense.labels[next(batches)]
    next(defense.epochs())
    log_p = seen[0][0].log_softmax(1)
    by_hand = -0.7 * log_p[torch.arange(16), labels].mean() - 0.3 * log_p.mean()
    assert float(seen[0][1].detach()) == pytest.approx(float(by_hand), abs=1e-6)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_the_number_of_batches_is_that_of_the_batches(size: int) -> None:
    for samples in range(20):
        batches = list(shuffled_batches(torch.arange(samples), size, seeded(1)))
        assert batch_count(samples, size) == len(batches), samples
