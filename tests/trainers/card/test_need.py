"""What defenses say of themselves, against what they do; and the sum."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.defenses import small_defenses, vab_small
from trainers.card.dry_step import NetworkBytes, model_bytes
from trainers.card.need import FEW_FLOATS, FLOAT_COPIES, HELD, WORKSPACES, MemoryNeed, memory_need
from trainers.compute import CUDA_ITSELF, PASS_IMAGES, Compute
from trainers.data import ImageSet
from trainers.data.image_set import Splits
from trainers.defenses import DEFENSES
from trainers.defenses.base import Defense
from trainers.defenses.footprint import DataSize
from trainers.models import ModelConfig, ModelOutput, build_model
from trainers.unlabelled import Unlabelled, count_of

SMALL: dict[str, dict[str, Any]] = {
    "none": {"epochs": 2, **small_defenses.COMMON},
    "vab": vab_small.SMALL,
    **{name: small_defenses.COMMON | params for name, params in small_defenses.SMALL.items()},
}
TINY = ModelConfig("tiny")
DATA = DataSize(1000, (3, 16, 16), 10)

HALF = Compute(torch.device("cpu"), amp=True)


@pytest.mark.parametrize("name", DEFENSES)
def test_what_a_defense_trains_is_what_it_says(
    noise: Callable[..., ImageSet], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Weights, moments and the images of a pass, of a whole training."""
    passes: dict[nn.Module, list[int]] = {}

    def counted(self: Defense, network: nn.Module, images: Tensor) -> ModelOutput:
        if torch.is_grad_enabled():
            passes.setdefault(network, []).append(len(images))
        output: ModelOutput = network(images)
        return output

    monkeypatch.setattr(Defense, "run_network", counted)
    task = small_defenses.task(noise(60))
    defense = DEFENSES[name](DEFENSES[name].Params(**SMALL[name]), task)
    for _ in defense.epochs():
        pass
    size = DataSize.of(task.data, unlabelled=60)
    networks = DEFENSES[name].footprint(defense.params, task.model, size, PASS_IMAGES).networks
    assert len(networks) == len(defense.modules)
    for said, network in zip(networks, defense.modules.values(), strict=True):
        assert said.certain_pass <= max(passes[network]) <= said.largest_pass
    moments = sum(
        value.numel()
        for descent in defense.descents.values()
        for kept in descent.optimizer.state.values()
        for value in kept.values()
        if isinstance(value, Tensor) and value.ndim
    )
    said_moments = sum(
        one.moments * sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        for one, network in zip(networks, defense.modules.values(), strict=True)
    )
    assert moments == said_moments


def test_sgd_and_adam_and_no_momentum() -> None:
    kind = DEFENSES["vab"]
    for momentum, moments in ((0.9, [2, 1]), (0.0, [2, 0])):
        networks = kind.footprint(kind.Params(momentum=momentum), TINY, DATA, 4096).networks
        assert [one.moments for one in networks] == moments


def test_frozen_parts_adamw_and_an_average_by_formula() -> None:
    options = {"frozen_parts": "body", "optimizer": "adamw", "ema_decay": 0.9}
    kind = DEFENSES["none"]
    network = build_model(TINY, DATA.shape, DATA.classes, 0)
    values = sum(weight.numel() for weight in network.parameters())
    trained = sum(weight.numel() for role in ("stage3", "head") for weight in network.parts()[role].parameters())
    buffers = sum(buffer.nbytes for buffer in network.buffers())
    plain, tuned = (memory_need(kind, kind.Params(**how), TINY, DATA, HALF) for how in ({}, options))
    assert tuned.kept - plain.kept == 4 * (values + 3 * trained - 2 * values) + buffers
    whole, body = (model_bytes(TINY, DATA.shape, DATA.classes, True, frozen) for frozen in ("none", "body"))
    assert body.step(1000) < whole.step(1000) / 2, "what lies before the trained parts keeps no activations"


@pytest.mark.parametrize(
    ("name", "averages"), [("none", [True]), ("vab", [False, True]), ("pt", [False, True]), ("bcu", [True, True])]
)
def test_the_networks_that_have_an_average(noise: Callable[..., ImageSet], name: str, averages: list[bool]) -> None:
    kind = DEFENSES[name]
    params = kind.Params(**SMALL[name] | {"ema_decay": 0.9, "frozen_parts": "stem"})
    networks = kind.footprint(params, TINY, DATA, 4096).networks
    assert [one.averaged for one in networks] == averages
    modules = kind(params, small_defenses.task(noise(60))).modules
    assert len(modules) == len(networks) + sum(averages)
    assert networks[-1].frozen == ("none" if name == "bcu" else "stem")


def test_the_sum_by_formula() -> None:
    size = model_bytes(TINY, DATA.shape, DATA.classes, True)
    assert isinstance(size, NetworkBytes)
    need = memory_need(DEFENSES["none"], DEFENSES["none"].Params(batch_size=999), TINY, DATA, HALF)
    images, facts = 1000 * 768, 1000 * (8 + 4 * (30 + FEW_FLOATS))
    assert need.kept == images + facts + 3 * size.weights + size.buffers
    assert need.largest_step == size.step(1000) + 1000 * FLOAT_COPIES * 4 * 768
    assert need.most == round(HELD * (need.kept + need.largest_step)) + WORKSPACES + CUDA_ITSELF
    assert need.tensors == need.kept + need.largest_step + WORKSPACES
    assert need.certain < need.most


def test_a_small_batch_needs_what_the_evaluation_needs() -> None:
    size = model_bytes(TINY, DATA.shape, DATA.classes, True)
    need = memory_need(DEFENSES["none"], DEFENSES["none"].Params(batch_size=2), TINY, DATA, HALF)
    assert need.certain_step == need.largest_step == size.prediction(1000) + 1000 * FLOAT_COPIES * 4 * 768


@pytest.mark.parametrize(
    ("name", "params", "certain", "largest"),
    [
        ("none", {"batch_size": 128}, 128, 129),
        ("none", {"batch_size": 5000}, 1000, 1000),
        ("vab", {"batch_size": 128}, 256, 500),
        ("vab", {"batch_size": 400}, 800, 802),
        ("vab", {"batch_size": 128, "suppression": "filter"}, 256, 258),
        ("vab", {"batch_size": 128, "suppression_epochs": 0}, 256, 258),
        ("abl", {"batch_size": 100}, 100, 101),
        ("abl", {"batch_size": 100, "isolation_rate": 0.1, "unlearning_rest": True}, 100, 112),
        ("pt", {"batch_size": 100, "isolation_rate": 0.1}, 100, 112),
        ("pt", {"batch_size": 100, "isolation": "gmm"}, 100, 500),
        ("pt", {"batch_size": 100, "finetune_epochs": 0}, 100, 101),
        ("dlp", {"batch_size": 100, "isolation_rate": 0.1}, 100, 123),
        ("dlp", {"batch_size": 100, "finetune_epochs": 0}, 100, 112),
        ("dlp", {"batch_size": 100, "finetune_epochs": 0, "unlearning_epochs": 0}, 100, 101),
    ],
)
def test_the_images_of_a_pass(name: str, params: dict[str, Any], certain: int, largest: int) -> None:
    kind = DEFENSES[name]
    last = kind.footprint(kind.Params(**params), TINY, DATA, pass_images=500).networks[-1]
    assert (last.certain_pass, last.largest_pass) == (certain, largest)


def test_the_limit_of_a_pass_is_that_of_the_training() -> None:
    kind = DEFENSES["vab"]
    needs = [
        memory_need(kind, kind.Params(), TINY, DATA, Compute(torch.device("cpu"), pass_images=most))
        for most in (300, 500, None, 4096)
    ]
    assert needs[0].most < needs[1].most < needs[2].most == needs[3].most
    assert len({need.certain for need in needs}) == 1


def test_images_that_do_not_stay_on_the_card_need_no_room_there() -> None:
    here, elsewhere = (
        memory_need(DEFENSES["bcu"], DEFENSES["bcu"].Params(), TINY, DATA, replace(HALF, image_room=room))
        for room in (1000 * 768, 1000 * 768 - 1)
    )
    assert here.kept - elsewhere.kept == 2 * 1000 * 768, "bcu has them twice"


def test_unlabelled_images_count(noise: Callable[..., ImageSet]) -> None:
    splits = Splits(noise(20), noise(20, seed=1), noise(8, seed=2), {"folder:x": torch.zeros(5, 3, 8, 8).byte()})
    counts = [("clean", None, 8), ("poisoned", 3, 3), ("folder:x", None, 5), ("folder:y", 4, 0)]
    assert [count_of(Unlabelled(source, asked), splits) for source, asked, _ in counts] == [n for *_, n in counts]
    assert count_of(None, splits) == 0


def test_bytes_of_a_need_add_up() -> None:
    assert MemoryNeed(100, 10, 50).certain - MemoryNeed(100, 10, 50).most == -48
