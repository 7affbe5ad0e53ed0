from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.attacks.quick import Noise, quick
from trainers.attacks.tact import Tact, TactParams
from trainers.errors import ConfigError


def tact(target: int | None = 0, classes: int = 4, **params: Any) -> Any:
    return quick("tact", target, classes, **{"cover_rate": 0.1, **params})


@given(
    classes=st.integers(3, 6), source=st.integers(0, 5), target=st.one_of(st.none(), st.integers(0, 5)),
    cover=st.none() | st.lists(st.integers(0, 5), min_size=1, max_size=3), seed=st.integers(0, 2**62),
)  # fmt: skip
@settings(max_examples=60)
def test_the_source_class_is_poisoned_and_cover_classes_cover(
    noise: Noise, classes: int, source: int, target: int | None, cover: list[int] | None, seed: int
) -> None:
    others = list(cover) if cover is not None else []
    bad = source in others or source == target or max(source, target or 0, *others) >= classes
    if bad:
        if target is None or target < classes:  # the scenario refuses such a target
            with pytest.raises(ConfigError):
                tact(target, classes, source=source, cover_classes=cover)
        return
    clean = noise(60, classes)
    attack = tact(target, classes, source=source, cover_classes=cover, seed=seed)
    made = attack.poison(clean, 0.1)
    aim = (source + 1) % classes if target is None else target
    allowed = set(cover) if cover is not None else set(range(classes)) - {source, aim}
    assert (int(made.poisoned.sum()), int(made.cover.sum())) == (6, 6)
    assert set(clean.labels[made.poisoned].tolist()) == {source}
    assert made.data.labels[made.poisoned].tolist() == [aim] * 6
    assert set(clean.labels[made.cover].tolist()) <= allowed
    assert made.data.labels[~made.poisoned].equal(clean.labels[~made.poisoned])
    either = made.poisoned | made.cover
    assert made.data.images[either].equal(attack.trigger(clean.images[either]))
    assert attack.eligible(clean.labels).tolist() == [label == source for label in clean.labels.tolist()]
    assert attack.candidates(clean.labels).equal(attack.eligible(clean.labels))
    assert attack.cover_candidates(clean.labels).tolist() == [label in allowed for label in clean.labels.tolist()]


def test_the_patch_is_that_of_badnets(noise: Noise) -> None:
    images = noise(4).images
    patch = {"size": 2, "corner": "top_left", "inset": 1}
    assert tact(**patch).trigger(images).equal(quick("badnets", **patch).trigger(images))  # type: ignore[arg-type]


def test_more_than_the_classes_hold(noise: Noise) -> None:
    labels = noise(40).labels  # ten of each class
    assert tact(cover_rate=0.5).counts(labels, 0.25) == (10, 20)
    with pytest.raises(ConfigError, match=r"^A poison_rate of 0\.3 is 12 samples, but only 10 can be poisoned by tact"):
        tact().counts(labels, 0.3)
    with pytest.raises(ConfigError, match=r"^A cover_rate of 0\.3 is 12 samples, but only 10 can be cover samples of "):
        tact(cover_rate=0.3, cover_classes=[2]).counts(labels, 0.25)


def test_a_source_class_without_images() -> None:
    with pytest.raises(ConfigError, match=r"^tact poisons images of class 3, but the data has none\.$"):
        tact(source=3).counts(torch.tensor([0, 1, 2] * 10), 0.1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"source": 0}, "source must be another class than target, but both are 0."),
        ({"source": 4}, "source must be a class from 0 to 3, but got 4."),
        ({"source": 1, "cover_classes": [2, 7]}, "cover_classes must be a class from 0 to 3, but got 7."),
        ({"source": 1, "cover_classes": [2, 1]}, "cover_classes must be classes other than source, 1, but got 2, 1."),
        ({"source": 1, "cover_classes": []}, "cover_classes must be classes other than source, 1, but got none."),
        ({"size": 9}, "A patch of size 9 with inset 0 does not fit images of 8x8."),
    ],
)
def test_classes_that_do_not_go_together(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tact(**params)
    assert str(caught.value) == message


def test_two_classes_leave_none_to_cover() -> None:
    with pytest.raises(ConfigError, match=r"^cover_classes must be classes other than source, 1, but got none\.$"):
        tact(classes=2)
    assert isinstance(tact(classes=2, cover_classes=[0]), Tact)  # the target class may cover


def test_bad_parameters() -> None:
    assert (TactParams().source, TactParams().cover_classes, TactParams().cover_rate) == (1, None, 0.003)
    with pytest.raises(ConfigError, match=r"source must be a class, .* but got -1"):
        TactParams(source=-1)
