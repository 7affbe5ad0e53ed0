"""Saved state and seeds of V&B."""

from pathlib import Path
from typing import Any

import pytest

from tests.trainers.defenses.vab_small import Noise, Trace, figures, row, small, task, weights
from trainers.defenses.vab import Vab
from trainers.storage.state import load_state, save_state


@pytest.mark.parametrize(
    ("changes", "model", "size"),
    [
        ({"warmup_rounds": 2, "mix_epochs": 3}, "tiny", 8),
        ({"mixing": "mixup", "split": "gmm", "resplit_period": 1}, "tiny", 8),
        ({"mixing": "none", "split_scope": "class"}, "tiny", 8),
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
