from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainers.attacks.quick import Noise, quick
from trainers.attacks.adaptive_blend import AdaptiveBlendParams
from trainers.errors import ConfigError
from trainers.seeding import seeded


def adaptive(shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0, **params: Any) -> Any:
    return quick("adaptive_blend", shape=shape, seed=seed, **params)


def shown_pieces(attack: Any, count: int) -> list[set[int]]:
    """The pieces that each of so many images shows, seen by white over black."""
    attack.pattern = torch.full_like(attack.pattern, 255)
    black = torch.zeros(count, *attack.shape, dtype=torch.uint8)
    made = attack.poison_images(black, torch.arange(count), seeded(0))
    found = []
    for image in made:
        visible = (image > 0).any(0)
        pieces = set(attack.piece[visible].tolist())
        # A piece is shown as a whole or not at all.
        assert visible.equal(torch.isin(attack.piece, torch.tensor(sorted(pieces))))
        found.append(pieces)
    return found


@given(st.integers(4, 15), st.integers(4, 15))
@settings(max_examples=25)
def test_sixteen_rectangles_partition_the_image(height: int, width: int) -> None:
    piece = adaptive((1, height, width)).piece
    assert piece.shape == (height, width)
    assert piece.unique().tolist() == list(range(16))
    sizes = []
    for number in range(16):
        rows, columns = (where.unique() for where in (piece == number).nonzero().unbind(1))
        assert int((piece == number).sum()) == len(rows) * len(columns)
        for line in (rows, columns):
            assert line.tolist() == list(range(int(line[0]), int(line[-1]) + 1))
        sizes.append((len(rows), len(columns)))
    assert {h for h, _ in sizes} <= {height // 4, height // 4 + 1}
    assert {w for _, w in sizes} <= {width // 4, width // 4 + 1}


@given(shown=st.integers(1, 16), side=st.integers(4, 11), seed=st.integers(0, 2**62))
@settings(max_examples=25)
def test_each_image_shows_so_many_pieces(shown: int, side: int, seed: int) -> None:
    assert {len(pieces) for pieces in shown_pieces(adaptive((3, side, side), seed, shown=shown), 6)} == {shown}


def test_pieces_are_drawn_evenly_and_for_each_image() -> None:
    found = shown_pieces(adaptive(), 400)
    assert all(140 < sum(number in pieces for pieces in found) < 260 for number in range(16))
    assert len({frozenset(pieces) for pieces in found}) > 350


@given(train_percent=st.integers(5, 100), seed=st.integers(0, 2**62))
@settings(max_examples=25)
def test_what_is_shown_is_blended_by_formula_and_the_rest_untouched(train_percent: int, seed: int) -> None:
    attack = adaptive(seed=seed, train_alpha=train_percent / 100)
    images = torch.randint(256, (5, 3, 8, 8), generator=seeded(seed), dtype=torch.uint8)
    made = attack.poison_images(images, torch.arange(5), seeded(1)).numpy()
    alpha, before, pattern = train_percent / 100, images.numpy(), attack.pattern.numpy()
    assert np.abs(made.astype(int) - before).max() <= alpha * 255 + 0.5
    close = np.abs(made - ((1 - alpha) * before + alpha * pattern)) <= 0.5 + 1e-3
    same = made == before
    for image_close, image_same in zip(close, same, strict=True):
        blended = [bool(image_close[:, attack.piece == number].all()) for number in range(16)]
        untouched = [bool(image_same[:, attack.piece == number].all()) for number in range(16)]
        assert all(a or b for a, b in zip(blended, untouched, strict=True))
        assert sum(blended) >= 8
        assert sum(untouched) >= 8


def test_at_test_time_the_whole_pattern_stands_at_alpha(noise: Noise) -> None:
    images, attack = noise(5).images, adaptive(alpha=0.4)
    wanted = 0.6 * images.numpy() + 0.4 * attack.pattern.numpy()
    assert np.abs(attack.trigger(images).numpy() - wanted).max() <= 0.5 + 1e-3


def test_cover_samples_show_pieces_too(noise: Noise) -> None:
    clean, attack = noise(40), adaptive(cover_rate=0.2, train_alpha=1.0)
    made = attack.poison(clean, 0.1)
    changed = (made.data.images != clean.images).any(1)[made.cover]
    assert len(changed) == 8
    # Half of the pixels, but for those where the pattern happens to be as the image is.
    assert (changed.flatten(1).sum(1) - 32).abs().max() <= 2


def test_images_that_cannot_be_cut() -> None:
    with pytest.raises(ConfigError, match=r"^Images of 3x8 cannot be cut into 4x4 pieces\.$"):
        adaptive((3, 3, 8))
    pieces: Tensor = adaptive((1, 4, 4)).piece
    assert pieces.flatten().tolist() == list(range(16))


def test_bad_parameters() -> None:
    defaults = AdaptiveBlendParams()
    assert (defaults.alpha, defaults.train_alpha, defaults.shown, defaults.cover_rate) == (0.2, 0.15, 8, 0.003)
    for shown in (0, 17):
        with pytest.raises(
            ConfigError, match=f"shown must be a whole number at least 1 and at most 16, but got {shown}"
        ):
            AdaptiveBlendParams(shown=shown)
