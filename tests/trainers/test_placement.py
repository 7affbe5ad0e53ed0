"""Images on the device, in memory and on disk: the same numbers to the last bit."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.trainers.attacks.quick import MAY_COVER, MUST_COVER, PLAIN, TRAINED
from tests.trainers.data.test_decode import encoded
from tests.trainers.test_trial import numbers, run, scenario, trial
from trainers import compute
from trainers.attacks import ATTACKS, Attack
from trainers.attacks import base as base_module
from trainers.compute import Compute
from trainers.data import DataConfig, Findings, ImageSet, Splits
from trainers.data import cached as cached_module
from trainers.data import stored as stored_module
from trainers.data.encoded import decode_all
from trainers.data.stored import Gathered, Images, Stored
from trainers.defenses import DEFENSES
from trainers.placement import AHEAD, Sent, kept, placed, placement, settled
from trainers.scenario import build_scenario

COVER = (*MAY_COVER, *MUST_COVER)
Noise = Callable[..., ImageSet]
SMALL: dict[str, dict[str, Any]] = {
    "none": {"epochs": 2},
    "vab": {
        "warmup_steps": 2, "warmup_rounds": 1, "mix_epochs": 2, "suppression_epochs": 2, "resplit_period": 2,
        "victim_batch_size": 16,
    },
    "pt": {"partial_epochs": 1, "clean_epochs": 1, "finetune_epochs": 1},
    "dlp": {"supervised_epochs": 1, "unlearning_epochs": 1, "finetune_epochs": 2, "filter": "strip"},
    "bcu": {"training_epochs": 1, "distillation_epochs": 2, "unlabelled": "poisoned", "distillation_batch_size": 8},
    "abl": {"isolation_epochs": 1, "isolation_rate": 0.1, "finetune_epochs": 1, "unlearning_epochs": 1,
            "unlearning_rest": True},
}  # fmt: skip


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Splits], Splits]:
    """Splits with their images in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cached_module, "_processes", lambda first: ThreadPoolExecutor(1))

    def stored(images: ImageSet) -> ImageSet:
        items = [(str(n), encoded(Image.fromarray(i.permute(1, 2, 0).numpy()))) for n, i in enumerate(images.images)]
        found = decode_all(items, DataConfig(cache="on"), Findings()).images
        assert isinstance(found, Stored)
        return replace(images, images=found)

    def make(splits: Splits) -> Splits:
        assert splits.held_out is not None
        return Splits(stored(splits.train), stored(splits.test), stored(splits.held_out))

    return make


@pytest.fixture
def splits(noise: Noise) -> Splits:
    return Splits(noise(36), noise(16, seed=1), noise(12, seed=2))


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defense_has_the_same_numbers_wherever_images_lie(
    name: str, splits: Splits, on_disk: Callable[[Splits], Splits], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trial(defense=name, params={"batch_size": 10, "lr": 0.05} | SMALL[name])
    stored = on_disk(splits)
    wanted = numbers(run(config, splits))
    assert stored.fingerprint == splits.fingerprint
    assert numbers(run(config, stored)) == wanted, "in a file, and small enough for the device"
    monkeypatch.setattr(compute, "IN_MEMORY", 0.0)
    sent: list[int] = []
    send = Sent._send
    monkeypatch.setattr(Sent, "_send", lambda self, indices: sent.append(len(indices)) or send(self, indices))
    assert numbers(run(config, splits)) == wanted, "in memory"
    assert numbers(run(config, stored)) == wanted, "on disk"
    assert sent


@pytest.mark.parametrize("attack", ["badnets", "blend", "wanet", *TRAINED])
def test_every_attack_hands_over_the_same_images(
    attack: str, splits: Splits, on_disk: Callable[[Splits], Splits]
) -> None:
    config = scenario(
        attack=attack, params=TRAINED.get(attack, {}) | ({"cover_rate": 0.1} if attack == "wanet" else {})
    )
    stored = on_disk(splits)
    before = splits.fingerprint
    plain = build_scenario(config, splits, 0, 0, Compute(torch.device("cpu")))
    lean = build_scenario(config, stored, 0, 0, Compute(torch.device("cpu"), image_room=0))
    assert isinstance(lean.data.images, Stored)
    assert lean.data.fingerprint == plain.data.fingerprint
    assert lean.cost == plain.cost
    assert plain.held_out is not None
    assert lean.held_out is not None
    for one, other in (
        (lean.truth.val.images, plain.truth.val.images),
        (lean.truth.val.triggered, plain.truth.val.triggered),
        (lean.truth.test.triggered, plain.truth.test.triggered),
        (lean.held_out.poisoned, plain.held_out.poisoned),
    ):
        assert whole(one).equal(whole(other))
    assert stored.fingerprint == before


def whole(images: Images | Gathered) -> torch.Tensor:
    return images[torch.arange(len(images))]


def test_a_poisoned_set_is_what_differs(splits: Splits, on_disk: Callable[[Splits], Splits]) -> None:
    stored = on_disk(splits)
    made = build_scenario(scenario(), stored, 0, 0, Compute(torch.device("cpu"), image_room=0))
    poisoned, clean = made.data.images, stored.train.images
    assert isinstance(poisoned, Stored)
    assert isinstance(clean, Stored)
    assert poisoned.file == clean.file
    assert (poisoned.rows != clean.rows).equal(made.truth.poisoned)


def test_batches_are_read_before_they_are_asked_for_and_no_more_than_a_few(noise: Noise) -> None:
    images = noise(40).images
    read: list[list[int]] = []

    class Watched(Stored):
        def gather(self, indices: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
            read.append(indices.tolist())
            return super().gather(indices, out)

    sent = Sent(Watched(images), torch.device("cpu"))
    batches = torch.randperm(40).split(4)
    for number, batch in enumerate(sent.ahead(batches)):
        assert sent.index_select(0, batch).equal(images[batch])
        assert sent.index_select(0, batch).equal(images[batch]), "as often as it is wanted"
        assert len(read) <= number + 1 + AHEAD
    assert read == [batch.tolist() for batch in batches], "each once"
    assert sent[torch.tensor([3, 1])].equal(images[[3, 1]]), "and others at once"


def test_the_reader_ends_with_a_loop_that_is_left(noise: Noise) -> None:
    sent = Sent(Stored(noise(40).images), torch.device("cpu"))
    batches = sent.ahead(torch.arange(40).split(4))
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # it is a generator
    assert torch.cat(list(sent.split(7))).equal(noise(40).images)


def test_the_place_is_chosen_by_size_and_said(
    noise: Noise, splits: Splits, on_disk: Callable[[Splits], Splits]
) -> None:
    images, cpu = noise(4).images, Compute(torch.device("cpu"))
    assert placed(images, replace(cpu, image_room=images.nbytes)) is images
    assert isinstance(placed(images, replace(cpu, image_room=images.nbytes - 1)), Sent)
    assert placement(images, images.nbytes, True) == "Training images: 0 MiB, kept on the device of each training."
    assert placement(images, 0, True) == "Training images: 0 MiB, in memory, from where each training reads them ahead."
    train = on_disk(splits).train.images
    assert isinstance(train, Stored)
    assert train.file is not None
    assert f"0 MiB, on disk ({train.file.path}), from where" in placement(train, 0, False)
    assert "on disk" in placement(train, train.nbytes, True)
    assert "kept on the device" in placement(train, train.nbytes, False)
    assert "on the GPU where they fit into its share, and otherwise on disk" in placement(train, None, False)


def test_on_a_cpu_no_training_copies_images_of_a_file(
    splits: Splits, on_disk: Callable[[Splits], Splits], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, cpu = on_disk(splits), Compute(torch.device("cpu"))
    assert isinstance(placed(stored.train.images, cpu), Sent)
    assert settled(stored.train.images, cpu) is stored.train.images
    on_a_gpu = Compute(torch.device("cuda"))
    assert kept(stored.train.images, on_a_gpu)
    assert settled(stored.test.images, on_a_gpu) is stored.test.images, "which hold it in their own memory"
    most = 0
    gather = Stored.gather

    def watched(self: Stored, indices: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        nonlocal most
        most = max(most, len(indices))
        return gather(self, indices, out)

    made = build_scenario(scenario(), stored, 0, 0, cpu)
    monkeypatch.setattr(Stored, "gather", watched)
    for batch in placed(made.data.images, cpu).split(9):
        assert len(batch) == 9
    assert most == 9, "and of a poisoned set neither"


@pytest.mark.parametrize(("attack", "epochs"), [("cl", 1), ("dynamic", 11)])
def test_networks_of_an_attacker_are_read_ahead_for(
    attack: str, epochs: int, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    ahead = Sent.ahead

    def watched(self: Sent, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        read.append(sum(len(batch) for batch in batches))
        return ahead(self, batches)

    monkeypatch.setattr(Sent, "ahead", watched)
    config = scenario(attack=attack, params=TRAINED[attack])
    build_scenario(config, splits, 0, 0, Compute(torch.device("cpu"), image_room=0))
    assert read == epochs * [len(splits.train)]


def test_images_in_memory_are_hashed_once_for_all_trainings(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []
    sha256 = hashlib.sha256

    def watched(content: bytes = b"") -> Any:
        hashed.append(content)
        return sha256(content)

    monkeypatch.setattr(hashlib, "sha256", watched)
    for repeat in range(2):
        config = scenario(attack="cl", params=TRAINED["cl"])
        build_scenario(config, splits, 0, repeat, Compute(torch.device("cpu"), image_room=0))
    assert len([content for content in hashed if content.startswith(b"((36, ")]) == 1


@pytest.mark.parametrize("attack", [name for name in ATTACKS if name not in ("cl", "dynamic")])
def test_no_attack_sees_more_than_a_part_and_none_draws_otherwise_for_it(
    attack: str, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, given = PLAIN.get(attack, {}) | TRAINED.get(attack, {}), []
    config = scenario(attack=attack, poison_rate=0.2, params=plain | ({"cover_rate": 0.3} if attack in COVER else {}))
    kind, cpu = ATTACKS[attack], Compute(torch.device("cpu"))
    trigger, poison_images, cover_images = kind.trigger, kind.poison_images, kind.cover_images

    def watched(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def made(self: Attack, images: torch.Tensor, *more: Any) -> torch.Tensor:
            given.append(len(images))
            return make(self, images, *more)

        return made

    whole = build_scenario(config, splits, 0, 0, cpu)
    for module in (base_module, stored_module):
        monkeypatch.setattr(module, "PART", 3)
    for name, make in (("trigger", trigger), ("poison_images", poison_images), ("cover_images", cover_images)):
        monkeypatch.setattr(kind, name, watched(make))
    parts = build_scenario(config, splits, 0, 0, cpu)
    assert max(given) == 3
    assert parts.data.fingerprint == whole.data.fingerprint
    assert isinstance(parts.truth.val.triggered, torch.Tensor)
    assert parts.truth.val.triggered.equal(whole.truth.val.triggered)
    assert parts.held_out is not None
    assert whole.held_out is not None
    assert parts.held_out.poisoned.equal(whole.held_out.poisoned)
