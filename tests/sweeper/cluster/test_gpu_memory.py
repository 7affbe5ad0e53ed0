"""The line about a card's memory, with a card that is made up and without one."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sweeper.cluster import gpu_memory as module
from sweeper.cluster.finding import Finding
from sweeper.cluster.gpu_memory import gpu_memory, needs
from sweeper.preset.spec import validate
from tests.sweeper.small import preset_with
from trainers.card.need import MemoryNeed
from trainers.data.image_set import Splits
from trainers.data.memory import GIB
from trainers.defenses import DEFENSES

Patch = pytest.MonkeyPatch


def looked_at(patch: Patch, cards: list[int], gpu: float, certain: float, most: float) -> Finding:
    """The finding for a preset that asks for ``gpu``, on cards of so many GiB, where trainings need so many GiB."""

    class Known(MemoryNeed):
        certain = property(lambda _: int(certain * GIB))  # type: ignore[assignment]
        most = property(lambda _: int(most * GIB))  # type: ignore[assignment]

    def properties(index: int) -> Any:
        return SimpleNamespace(total_memory=cards[index] * GIB)

    patch.setattr(module, "needs", lambda _spec, _splits: [Known(0, int(certain * GIB), 0)])
    patch.setattr(torch.cuda, "is_available", lambda: bool(cards))
    patch.setattr(torch.cuda, "device_count", lambda: len(cards))
    patch.setattr(torch.cuda, "get_device_properties", properties)
    preset = preset_with(resources={"gpu": gpu})
    return gpu_memory(validate(preset, "small.yaml"), None)  # type: ignore[arg-type]  # needs are made up


def test_without_a_card_the_need_alone_is_said(monkeypatch: Patch) -> None:
    finding = looked_at(monkeypatch, [], 0.25, 1.9, 1.9)
    assert finding.fine
    assert finding.found == "a training needs about 1.9 GiB; torch sees no GPU here to compare that with"


def test_a_small_need_on_a_large_card(monkeypatch: Patch) -> None:
    finding = looked_at(monkeypatch, [80], 1.0, 1.9, 1.9)
    assert (finding.fine, finding.notes) == (True, ())
    assert finding.found == (
        "a training needs about 1.9 GiB; the smallest GPU here has 80.0 GiB: resources.gpu: 0.125 is enough (8 "
        "trainings at once)"
    )


def test_the_smallest_card_counts(monkeypatch: Patch) -> None:
    assert "GPU here has 8.0 GiB: resources.gpu: 0.25 is enough" in looked_at(monkeypatch, [80, 8], 0.5, 1.9, 1.9).found


def test_a_card_for_one_training(monkeypatch: Patch) -> None:
    finding = looked_at(monkeypatch, [16], 1.0, 9.0, 9.0)
    assert finding.found.endswith("; the smallest GPU here has 16.0 GiB: resources.gpu: 1 is enough")


def test_a_share_that_is_too_small_is_amiss(monkeypatch: Patch) -> None:
    finding = looked_at(monkeypatch, [16], 0.125, 3.1, 3.1)
    assert not finding.fine
    assert finding.found == (
        "a training needs about 3.1 GiB, and its share (resources.gpu: 0.125 of a GPU with 16.0 GiB) is 2.0 GiB"
    )
    assert finding.remedy == "Set resources.gpu: 0.2, or lower batch_size."


@pytest.mark.parametrize(("gpu", "room"), [(0.5, "its share (resources.gpu: 0.5 of"), (1.0, "the GPU has 16.0 GiB")])
def test_a_need_larger_than_the_card_is_amiss(monkeypatch: Patch, gpu: float, room: str) -> None:
    finding = looked_at(monkeypatch, [16], gpu, 17.0, 20.0)
    assert not finding.fine
    assert finding.found.startswith("a training needs about 17.0 GiB, and up to 20.0 GiB in its largest steps, and ")
    assert room in finding.found
    assert finding.remedy == "Lower batch_size, or use a GPU with more memory."


def test_steps_that_may_become_too_large_are_noted(monkeypatch: Patch) -> None:
    finding = looked_at(monkeypatch, [16], 0.25, 2.6, 12.2)
    assert finding.fine
    assert finding.found == (
        "a training needs about 2.6 GiB, and up to 12.2 GiB in its largest steps; the smallest GPU here has 16.0 GiB: "
        "resources.gpu: 1 is enough"
    )
    assert finding.notes == (
        "Warning: the largest steps may not fit, since its share (resources.gpu: 0.25 of a GPU with 16.0 GiB) is 4.0 "
        "GiB; a training that runs out of memory is FAILED. To be sure, raise resources.gpu, or lower batch_size or "
        "pass_images.",
    )


def test_no_share_is_proposed_where_the_largest_steps_fit_none(monkeypatch: Patch) -> None:
    finding = looked_at(monkeypatch, [16], 1.0, 1.5, 20.0)
    assert finding.fine
    assert finding.found.endswith("up to 20.0 GiB in its largest steps; the smallest GPU here has 16.0 GiB")
    assert finding.notes[0].endswith("lower batch_size or pass_images, or use a GPU with more memory.")


def test_the_control_and_every_corner_of_every_defense_are_looked_at(monkeypatch: Patch) -> None:
    seen: list[tuple[str, int]] = []

    def need(kind: Any, params: Any, *_: object) -> MemoryNeed:
        seen.append((kind.name, params.batch_size))
        return MemoryNeed(0, 0, 0)

    monkeypatch.setattr(module, "need_in_a_sweep", need)
    defenses = [{"name": "abl", "batch_size": {"int": [8, 64]}}, {"name": "pt"}]
    preset = preset_with(defense=defenses, control={"batch_size": 32})
    needs(validate(preset, "small.yaml"), None)  # type: ignore[arg-type]  # data is not looked at
    assert seen == [("none", 32), ("abl", 8), ("abl", 64), ("pt", 128)]


def test_the_need_of_real_data() -> None:
    preset = preset_with(defense=[{"name": name} for name in DEFENSES if name != "none"])
    preset["data"] = {"source": "shapes", "train_size": 200, "test_size": 100, "held_out_size": 20}
    spec = validate(preset, "small.yaml")
    splits: Splits = spec.load()
    assert all(0.5 * GIB < need.certain <= need.most < GIB for need in needs(spec, splits))
