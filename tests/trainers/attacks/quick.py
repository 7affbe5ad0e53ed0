"""Every attack on small noise, with parameters that train next to nothing."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.attacks import ATTACKS, ArtifactCache, Attack, LabelMap
from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.seeding import seeded

CPU = Compute(torch.device("cpu"))
Noise = Callable[..., ImageSet]
TRAINED: dict[str, dict[str, Any]] = {
    "cl": {"surrogate_epochs": 1, "steps": 2},
    # A step of a whole pixel value, so that one pass leaves some noise.
    "narcissus": {"surrogate_epochs": 1, "passes": 1, "step_size": 2.0},
    # The mask that a generator starts from may be too faint to change a pixel.
    "dynamic": {"mask_epochs": 10, "pattern_epochs": 1},
    "entropy_aware": {"rounds": 1, "surrogate_steps": 2},
}
CLEAN_LABEL = ("sig", "cl", "narcissus")
OF_TARGET = ("sig", "cl")
MAY_COVER = ("wanet", "dynamic")
MUST_COVER = ("adaptive_blend", "adaptive_patch", "adaptive_k_way", "tact", "laundry", "entropy_aware")
PLAIN: dict[str, dict[str, Any]] = {"sig": {"frequency": 2}}  # 6 periods do not fit 8 pixels


def quick(
    name: str, target: int | None = 0, classes: int = 4, shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0,
    **params: Any,
) -> Attack:  # fmt: skip
    kind = ATTACKS[name]
    chosen = {**TRAINED.get(name, {}), **PLAIN.get(name, {}), **params}
    return kind(kind.Params(**chosen), LabelMap(target, classes), shape, seed)


def prepared(attack: Attack, clean: ImageSet, rate: float = 0.2, seed: int = 0) -> Any:
    attack.prepare(clean, rate, ArtifactCache(CPU, seed))
    return attack


@dataclass(frozen=True)
class Case:
    """An attack, the noise it meets, and what is to come of it."""

    name: str
    count: int
    classes: int
    channels: int
    height: int
    width: int
    target: int | None
    source: int
    seed: int
    rate: float
    cover_rate: float | None
    poisoned: int
    cover: int

    def clean(self) -> ImageSet:
        # No pixel is 0 or 255, nor dark, so that a patch or a single pixel changes every image it is put on.
        shape = (self.count, self.channels, self.height, self.width)
        images = torch.randint(128, 255, shape, generator=seeded(self.seed), dtype=torch.uint8)
        return ImageSet(images, labels_of(self.count, self.classes), tuple(f"class {c}" for c in range(self.classes)))

    def attack(self) -> Any:
        """Ready to poison."""
        params: dict[str, Any] = {} if self.cover_rate is None else {"cover_rate": self.cover_rate}
        if self.name == "tact":
            params["source"] = self.source
        shape = (self.channels, self.height, self.width)
        attack = quick(self.name, self.target, self.classes, shape, self.seed, **params)
        return prepared(attack, self.clean(), self.rate, self.seed)

    def wanted(self, label: int) -> int:
        return (label + 1) % self.classes if self.target is None else self.target


def labels_of(count: int, classes: int) -> torch.Tensor:
    return torch.arange(count) % classes


@st.composite
def cases(draw: st.DrawFn, name: str) -> Case:
    """Whatever is possible, up to poisoning and covering all there is."""
    count, classes = draw(st.integers(16, 40)), draw(st.integers(3 if name == "tact" else 2, 5))
    one = st.integers(0, classes - 1)
    target = draw(one if name in CLEAN_LABEL else st.one_of(st.none(), one))
    source = draw(one.filter(lambda c: c != target))
    labels = labels_of(count, classes).tolist()
    if name in CLEAN_LABEL:
        pool = labels.count(target)
    elif name == "tact":
        pool = labels.count(source)
    else:
        pool = sum(label != target for label in labels)
    base = pool if name in OF_TARGET else count
    least = 1 if name in MUST_COVER else 0
    untouched = 1 if name == "entropy_aware" else 0
    poisoned = draw(st.integers(1, min(pool, count - least - untouched)))
    cover_rate, cover = None, 0
    # Any rate that lies nearest to so many samples.
    beside = st.floats(-0.49, 0.49)
    if name in MUST_COVER or name in MAY_COVER:
        taken = (source, (source + 1) % classes if target is None else target)
        left = sum(label not in taken for label in labels) if name == "tact" else count - poisoned - untouched
        cover = draw(st.integers(least, left))
        cover_rate = (cover + draw(beside)) / count if cover else 0.0
    rate = (poisoned + draw(beside)) / base
    assert math.floor(rate * base + 0.5) == poisoned
    return Case(
        name, count, classes, draw(st.sampled_from([1, 3])), draw(st.integers(8, 14)), draw(st.integers(8, 14)), target,
        source, draw(st.integers(0, 2**62)), rate, cover_rate, poisoned, cover,
    )  # fmt: skip


def of_every_attack(law: Callable[[Case], None]) -> Callable[[str], None]:
    """A test of ``law`` for each attack; those that train get few examples."""

    @pytest.mark.parametrize("name", ATTACKS)
    def test(name: str) -> None:
        settings(max_examples=4 if name in TRAINED else 15)(given(cases(name))(law))()

    return test


def changed(clean: ImageSet, images: torch.Tensor) -> torch.Tensor:
    return (images != clean.images).flatten(1).any(1)
