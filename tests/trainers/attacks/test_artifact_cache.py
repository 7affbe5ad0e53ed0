import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tests.trainers.attacks.quick import CPU, Noise, quick
from trainers.attacks import ArtifactCache, artifact_cache
from trainers.compute import Compute
from trainers.seeding import derive_seed, seeded


class Maker:
    """Makes random tensors from the seed it is given, and counts."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, seed: int) -> dict[str, torch.Tensor]:
        self.seeds.append(seed)
        draws = torch.rand(3, 2, generator=seeded(seed))
        return {"a": draws, "b": torch.tensor(7), "c": (draws * 9).byte()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and one[k].shape == other[k].shape and one[k].equal(other[k]) for k in one
    )


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_with_a_cache_a_thing_is_made_once(tmp_path: Path) -> None:
    maker = Maker()
    first = ArtifactCache(CPU, 5, tmp_path / "cache").made("thing", [1, "x"], maker)
    again = ArtifactCache(CPU, 5, tmp_path / "cache").made("thing", [1, "x"], maker)
    assert len(maker.seeds) == 1
    assert same(first, again)
    assert [file.name.startswith("thing-") for file in files(tmp_path / "cache")] == [True]


def test_without_a_cache_it_is_made_each_time_to_the_same_bytes(tmp_path: Path) -> None:
    maker = Maker()
    one, again = (ArtifactCache(CPU, 5).made("thing", [1, "x"], maker) for _ in range(2))
    assert len(maker.seeds) == 2
    assert same(one, again)
    assert same(one, ArtifactCache(CPU, 5, tmp_path).made("thing", [1, "x"], maker))
    assert set(maker.seeds) == {derive_seed(5, "thing", [1, "x"])}


@pytest.mark.parametrize(
    ("what", "parts", "seed"), [("thing", [2], 5), ("thing", [1], 6), ("other", [1], 5), ("thing", [1, None], 5)]
)
def test_anything_else_is_made_anew(tmp_path: Path, what: str, parts: list[Any], seed: int) -> None:
    maker = Maker()
    one = ArtifactCache(CPU, 5, tmp_path).made("thing", [1], maker)
    other = ArtifactCache(CPU, seed, tmp_path).made(what, parts, maker)
    assert maker.seeds[0] != maker.seeds[1]
    assert not same(one, other)
    assert len(files(tmp_path)) == 2
    assert same(one, ArtifactCache(CPU, 5, tmp_path).made("thing", [1], maker))
    assert len(maker.seeds) == 2


def test_other_numerics_leave_the_old_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Maker()
    ArtifactCache(CPU, 5, tmp_path).made("thing", [], maker)
    monkeypatch.setattr(artifact_cache, "NUMERICS", artifact_cache.NUMERICS + 1)
    ArtifactCache(CPU, 5, tmp_path).made("thing", [], maker)
    assert (len(maker.seeds), len(files(tmp_path))) == (2, 2)


@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    maker, artifacts = Maker(), ArtifactCache(CPU, 5, tmp_path)
    first = artifacts.made("thing", [], maker)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes({"empty": b"", "cut": whole[:-5], "other": b"no tensors in here"}[damage])
    assert same(artifacts.made("thing", [], maker), first)
    assert len(maker.seeds) == 2
    assert file.read_bytes() == whole


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def failing(seed: int) -> dict[str, torch.Tensor]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        ArtifactCache(CPU, 5, tmp_path).made("thing", [], failing)
    assert files(tmp_path) == []
    again = ArtifactCache(CPU, 5, tmp_path).made("thing", [], Maker())
    assert again.keys() == {"a", "b", "c"}, "the lock is free again"


def test_nothing_is_pickled(tmp_path: Path) -> None:
    ArtifactCache(CPU, 5, tmp_path).made("thing", [], Maker())
    (file,) = files(tmp_path)
    content = file.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert len(header) == 4  # three tensors, and the metadata
    with safe_open(file, framework="pt") as opened:
        shapes = sorted(tuple(opened.get_tensor(key).shape) for key in opened.keys())
    assert shapes == [(), (3, 2), (3, 2)]


@pytest.mark.parametrize("name", ["cl", "narcissus", "dynamic", "entropy_aware"])
def test_an_attack_from_the_cache_is_the_attack_that_filled_it(tmp_path: Path, noise: Noise, name: str) -> None:
    clean, made = noise(24), []
    cover = {} if name in ("cl", "narcissus") else {"cover_rate": 0.2}
    for cache in (tmp_path, tmp_path, None):
        attack = quick(name, **cover)
        attack.prepare(clean, 0.2, ArtifactCache(CPU, 1, cache))
        poisoned = attack.poison(clean, 0.2)
        made.append((poisoned.data.fingerprint, attack.trigger(clean.images).tolist()))
    assert made[0] == made[1] == made[2]
    assert all(file.suffix in (".safetensors", ".lock") for file in tmp_path.iterdir())
    assert len(files(tmp_path)) == (2 if name == "narcissus" else 1)
    # Another data set, or another repeat, is another matter.
    kept = files(tmp_path)
    quick(name, **cover).prepare(noise(24, seed=1), 0.2, ArtifactCache(CPU, 1, tmp_path))
    quick(name, **cover).prepare(clean, 0.2, ArtifactCache(CPU, 2, tmp_path))
    assert len(files(tmp_path)) == 3 * len(kept)


def test_attacks_and_rates_share_a_surrogate(tmp_path: Path, noise: Noise) -> None:
    clean, artifacts = noise(24), ArtifactCache(CPU, 1, tmp_path)
    for name, rate, seed in (("cl", 0.2, 0), ("cl", 0.5, 1), ("narcissus", 0.1, 2)):
        quick(name, seed=seed).prepare(clean, rate, artifacts)
    assert sorted(file.name.split("-")[0] for file in files(tmp_path)) == ["narcissus", "surrogate"]


def test_who_asks_while_another_makes_waits_for_it(tmp_path: Path) -> None:
    begun = threading.Event()

    class Slow(Maker):
        def __call__(self, seed: int) -> dict[str, torch.Tensor]:
            begun.set()
            time.sleep(0.3)  # time enough for the other to ask
            return super().__call__(seed)

    maker, artifacts = Slow(), ArtifactCache(CPU, 5, tmp_path)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(artifacts.made, "thing", [1], maker)
        assert begun.wait(10)
        second = pool.submit(artifacts.made, "thing", [1], maker)
        assert same(first.result(), second.result())
    assert len(maker.seeds) == 1


def test_what_was_computed_in_another_way_is_not_handed_out(tmp_path: Path) -> None:
    """Other threads, devices or formats give other last digits; the seed, and so the draws, stay."""
    maker = Maker()
    ways = [CPU, Compute(CPU.device, amp=True), Compute(CPU.device, compile=True), Compute(torch.device("cuda"))]
    for compute in ways:
        ArtifactCache(compute, 5, tmp_path).made("thing", [1], maker)
    assert len(files(tmp_path)) == len(ways)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        ArtifactCache(CPU, 5, tmp_path).made("thing", [1], maker)
    finally:
        torch.set_num_threads(threads)
    assert len(files(tmp_path)) == len(maker.seeds) == len(ways) + 1
    assert len(set(maker.seeds)) == 1


@pytest.mark.parametrize(
    ("name", "params", "values"),
    [("dynamic", "cover_rate", (0.1, 0.3)), ("narcissus", "amplification", (2.0, 3.0))],
)
def test_what_does_not_enter_a_training_does_not_train_again(
    tmp_path: Path, noise: Noise, name: str, params: str, values: tuple[float, float]
) -> None:
    clean = noise(40, seed=1)
    for value in values:
        quick(name, **{params: value}).prepare(clean, 0.2, ArtifactCache(CPU, 0, tmp_path))
    assert len([file for file in files(tmp_path) if file.name.startswith(name)]) == 1
