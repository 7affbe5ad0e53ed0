"""A training that does not fit its share of a card says so; the card is made up."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainers.card import room as room_module
from trainers.card.need import MemoryNeed
from trainers.card.room import Room, proposed_share, within
from trainers.compute import CUDA_ITSELF, Compute, ComputeConfig
from trainers.data import ImageSet
from trainers.data.augmentation import Augmentation
from trainers.data.image_set import Splits
from trainers.data.memory import GIB
from trainers.errors import TrialError
from trainers.models import ModelConfig
from trainers.scenario import ScenarioConfig
from trainers.trial import TrialConfig, run_trial

CARD = Compute(torch.device("cuda"))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    def of(gibibytes: float) -> None:
        found = SimpleNamespace(total_memory=int(gibibytes * GIB))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: found)

    return of


class Need(MemoryNeed):
    """A need of so many GiB."""

    def __init__(self, certain: float, most: float | None = None):
        super().__init__(0, int(certain * GIB), int((certain if most is None else most) * GIB))

    least = property(lambda self: self.certain_step)  # type: ignore[assignment]
    certain = property(lambda self: self.certain_step)  # type: ignore[assignment]
    most = property(lambda self: self.largest_step)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("total", "share", "needed", "said"),
    [
        (
            16, 0.25, 12.3,
            "This training needs at least 12.3 GiB of GPU memory, and its share (resources.gpu: 0.25 of a GPU with "
            "16.0 GiB) is 4.0 GiB; raise resources.gpu, or lower batch_size.",
        ),
        (
            8, 0.25, 12.3,
            "This training needs at least 12.3 GiB of GPU memory, and its share (resources.gpu: 0.25 of a GPU with "
            "8.0 GiB) is 2.0 GiB; lower batch_size, or use a GPU with more memory.",
        ),
        (
            8, 1.0, 12.3,
            "This training needs at least 12.3 GiB of GPU memory, and the GPU has 8.0 GiB; lower batch_size, or use a "
            "GPU with more memory.",
        ),
    ],
)  # fmt: skip
def test_a_training_that_does_not_fit_does_not_begin(
    card: Callable[[float], None], total: float, share: float, needed: float, said: str
) -> None:
    card(total)
    with pytest.raises(TrialError) as caught, within(CARD, share, lambda: Need(needed)):
        pytest.fail("it began")
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("share", "most", "said"),
    [
        (
            0.25, 6.0,
            "The GPU ran out of memory: this training needs up to about 6.0 GiB, and its share (resources.gpu: 0.25 of "
            "a GPU with 16.0 GiB) is 4.0 GiB; raise resources.gpu, or lower batch_size or "
            "pass_images.",
        ),
        (
            0.0, 20.0,
            "The GPU ran out of memory: this training needs up to about 20.0 GiB, and the GPU has 16.0 GiB; lower "
            "batch_size or pass_images, or use a GPU with more memory.",
        ),
    ],
)  # fmt: skip
def test_memory_that_runs_out_later_is_a_sentence_too(
    card: Callable[[float], None], share: float, most: float, said: str
) -> None:
    card(16)
    with pytest.raises(TrialError) as caught, within(CARD, share, lambda: Need(1.0, most)):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert str(caught.value) == said


def test_memory_that_runs_out_although_it_should_suffice_is_no_verdict_on_the_training(
    card: Callable[[float], None],
) -> None:
    """A crash is tried again, an error of the training is not."""
    card(16)
    with pytest.raises(torch.OutOfMemoryError) as caught, within(CARD, 1.0, lambda: Need(1.0, 2.0)):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert str(caught.value) == (
        "The GPU ran out of memory, although this training needs no more than about 2.0 GiB, and the GPU has 16.0 GiB; "
        "something else may run on it, or what its attack trains may need more."
    )


def test_other_errors_stay_what_they_are(card: Callable[[float], None]) -> None:
    card(16)
    with pytest.raises(RuntimeError, match=r"^no memory$"), within(CARD, 1.0, lambda: Need(1.0)):
        raise RuntimeError("no memory")


def test_on_the_cpu_nothing_is_estimated() -> None:
    estimated: list[Need] = []

    def need() -> Need:
        estimated.append(Need(1.0))
        return estimated[0]

    with within(Compute(torch.device("cpu")), 1.0, need):
        pass
    assert not estimated


@pytest.mark.parametrize(("share", "available"), [(0.0, 16), (0.5, 8), (1.0, 16), (2.0, 16)])
def test_the_room_is_what_torch_is_limited_to(
    card: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, share: float, available: int
) -> None:
    card(16)
    limits: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    ComputeConfig(device="cuda").open(share)
    room = Room.of(0, share)
    assert room.bytes == available * GIB
    assert limits[0] * room.total == room.bytes - (CUDA_ITSELF if 0 < share < 1 else 0)


@pytest.mark.parametrize(
    ("need", "share"),
    [(0.1, 0.125), (2, 0.125), (2.01, 0.142), (4, 0.25), (5.3, 0.333), (5.4, 0.5), (8.1, 1), (16, 1), (16.1, None)],
)
def test_proposed_shares(need: float, share: float | None) -> None:
    assert proposed_share(int(need * GIB), 16 * GIB) == share


@pytest.mark.parametrize(("share", "begins"), [(0.00001, "This training needs at least"), (1.0, None)])
def test_a_trial_on_a_card_is_refused_before_anything_is_built(
    card: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    noise: Callable[..., ImageSet],
    share: float,
    begins: str | None,
) -> None:
    card(16)
    built: list[Any] = []

    def build(*args: Any) -> None:
        built.append(args)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(ComputeConfig, "open", lambda _self, _share: CARD)
    monkeypatch.setattr("trainers.trial.build_scenario", build)
    config = TrialConfig(
        data_fingerprint="f", model=ModelConfig("tiny", width=4), augmentation=Augmentation(crop=1), defense="none",
        params={"epochs": 1}, scenarios=(ScenarioConfig(name="patch", attack="badnets"),), repeats=(0,),
        sweep_seed=0, compute=ComputeConfig(device="cuda"),
    )  # fmt: skip
    with pytest.raises(TrialError if begins else torch.OutOfMemoryError) as caught:
        next(run_trial(config, Splits(noise(60), noise(40, seed=1)), gpu_share=share))
    assert bool(built) == (begins is None)
    assert str(caught.value).startswith(begins or "The GPU ran out of memory, although")


def test_figures_are_in_gibibytes() -> None:
    assert room_module.sized(3 * GIB // 2) == "1.5 GiB"
