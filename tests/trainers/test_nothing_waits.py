"""Within an epoch no batch waits for the device: as many batches again need no further value of it."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.trainers.attacks.quick import TRAINED, prepared, quick
from tests.trainers.defenses import small_defenses, vab_small
from tests.trainers.waits import counted, counted_on_cuda
from trainers.compute import ComputeConfig
from trainers.data import ImageSet
from trainers.defenses import DEFENSES
from trainers.defenses.base import Defense, TrainingTask

Noise = Callable[..., ImageSet]

OPTIONS: dict[str, Any] = {
    "optimizer": "adamw", "lr_warmup_steps": 3, "schedule": "cosine_steps", "backbone_lr_factor": 0.3,
    "frozen_parts": "stem", "clip_norm": 0.5, "label_smoothing": 0.1, "ema_decay": 0.9,
}  # fmt: skip
"""All options for fine-tuning."""
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("none", {"epochs": 2}),
    ("none", {"epochs": 2, **OPTIONS}),
    ("vab", vab_small.SMALL | {"score_moments": 2, **OPTIONS}),
    ("none", {"epochs": 2, "mixup": 0.2, "cutmix": 1.0}),
    *((name, params) for name, params in small_defenses.SMALL.items()),
    ("abl", small_defenses.SMALL["abl"] | {"unlearning_rest": True, "ascent": "sample"}),
    ("pt", small_defenses.SMALL["pt"] | {"score": "entropy"}),
    *(
        ("vab", vab_small.SMALL | {"mixing": mixing, "suppression": suppression})
        for mixing, suppression in (
            ("attention", "both"), ("mixup", "none"), ("cutmix", "filter"), ("none", "credible"),
        )
    ),
]  # fmt: skip


def test_what_waits_is_counted() -> None:
    tensor, whole, mask = torch.tensor([1.5, 0]), torch.tensor([1, 2]), torch.tensor([True, False])
    with counted() as waits:
        tensor + 1, tensor.sum(), tensor[0], tensor[whole - 1], functional.one_hot(whole, 3), tensor.where(mask, tensor)
    assert not waits.counts

    def assign() -> None:
        tensor.clone()[mask] = tensor[:1]

    read: list[Callable[[], Any]] = [
        tensor[0].item, lambda: float(tensor[0]), lambda: bool(tensor[0]), tensor.tolist, tensor.numpy, tensor.cpu,
        tensor.nonzero, lambda: tensor[mask], assign, lambda: tensor.masked_select(mask), lambda: tensor.equal(tensor),
        tensor.unique, whole.bincount, lambda: torch.repeat_interleave(whole), whole.unique_consecutive,
    ]  # fmt: skip
    for call in read:
        with counted() as waits:
            call()
        assert sum(waits.counts.values()) == 1, call


def epochs_of(name: str, params: dict[str, Any], size: int, told: TrainingTask) -> Iterator[Any]:
    """The epochs of a defense with batches of a size."""
    sizes = {key: size for key in params if key.endswith("batch_size")} | {"batch_size": size, "lr": 0.01}
    kind = DEFENSES[name]
    return kind(kind.Params(**(params | sizes)), told).epochs()


@pytest.mark.parametrize(("name", "params"), VARIANTS)
def test_no_batch_of_a_defense_waits(
    noise: Noise, monkeypatch: pytest.MonkeyPatch, name: str, params: dict[str, Any]
) -> None:
    steps = Counter[str]()
    step = Defense.step_in_passes
    monkeypatch.setattr(Defense, "step_in_passes", lambda *args: (steps.update(["all"]), step(*args))[1])

    def waits_with(size: int) -> tuple[list[Counter[str]], int]:
        """What waits in each epoch with batches of a size, and how many steps there were."""
        steps.clear()
        epochs, each = epochs_of(name, params, size, small_defenses.task(noise(40))), []
        while True:
            with counted() as waits:
                if next(epochs, None) is None:
                    return each, steps["all"]
            each.append(waits.counts)

    few, many = waits_with(16), waits_with(4)
    assert many[1] > 2 * few[1] > 0
    assert many[0] == few[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize(("name", "params"), VARIANTS)
def test_no_batch_of_a_defense_waits_on_a_card(noise: Noise, name: str, params: dict[str, Any]) -> None:
    told = replace(small_defenses.task(noise(64)), compute=ComputeConfig("cuda").open(1.0))

    def waits_with(size: int) -> list[int]:
        epochs, each = epochs_of(name, params, size, told), []
        while True:
            with counted_on_cuda() as waits:
                if next(epochs, None) is None:
                    return each
            each.append(len(waits))

    waits_with(16)  # the first use of a kernel may wait
    assert waits_with(4) == waits_with(16)


@pytest.mark.parametrize("name", sorted(set(TRAINED) - {"entropy_aware"}))
def test_no_batch_of_an_attack_that_trains_waits(noise: Noise, name: str) -> None:
    """Entropy-Aware trains V&B's Victim, as above, and then matches samples one by one, all of it on the CPU."""

    def waits_with(images: int) -> Counter[str]:
        clean = noise(images)
        with counted() as waits:
            prepared(quick(name), clean)
        return waits.counts

    assert waits_with(600) == waits_with(200)
