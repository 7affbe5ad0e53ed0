import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainers.defenses.parts.mixing import (
    attention_maps,
    attention_mix,
    beta_draw,
    cutmix,
    mixup,
    soft_cross_entropy,
    suppress,
)
from trainers.seeding import seeded

Array = NDArray[np.float64]


def nearest(map_: Array, height: int, width: int) -> Array:
    h, w = map_.shape
    return np.array([[map_[i * h // height, j * w // width] for j in range(width)] for i in range(height)])


def bilinear(map_: Array, height: int, width: int) -> Array:
    """Pixel centres at half-integers, edges repeated (align_corners off)."""

    def taps(i: int, size: int, old: int) -> tuple[int, int, float]:
        at = max((i + 0.5) * old / size - 0.5, 0.0)
        low = int(at)
        return low, min(low + 1, old - 1), at - low

    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            top, bottom, dy = taps(i, height, map_.shape[0])
            left, right, dx = taps(j, width, map_.shape[1])
            out[i, j] = (
                (1 - dy) * (1 - dx) * map_[top, left]
                + (1 - dy) * dx * map_[top, right]
                + dy * (1 - dx) * map_[bottom, left]
                + dy * dx * map_[bottom, right]
            )
    return out


UPSAMPLINGS = {"nearest": nearest, "bilinear": bilinear}


def attention_by_hand(features: Array, height: int, width: int, upsampling: str) -> Array:
    maps = []
    for sample in features:
        energy = np.zeros(sample.shape[1:])
        for channel in sample:
            energy += channel**2
        map_ = UPSAMPLINGS[upsampling](energy, height, width)
        # Contrast is asked of the energy itself: upsampling adds rounding errors to a constant.
        flat = energy.max() == energy.min()
        maps.append(np.ones_like(map_) if flat else (map_ - map_.min()) / (map_.max() - map_.min()))
    return np.array(maps)


def mix_by_hand(
    images: Array, targets: Array, attention: Array, partner: list[int], threshold: float
) -> tuple[Array, Array]:
    """Pixel by pixel, from the formulas of arXiv 2404.11265."""
    mixed, labels = np.zeros_like(images), np.zeros_like(targets)
    count, channels, height, width = images.shape
    for n in range(count):
        a, b = attention[n], attention[partner[n]]
        pixels = [(i, j) for i in range(height) for j in range(width)]
        inside = [(i, j) for i, j in pixels if a[i, j] >= threshold]
        own = sum(a[p] for p in inside) / sum(a[p] for p in pixels)
        other = sum(b[p] for p in inside) / sum(b[p] for p in pixels)
        k = own / (own + other)
        for c in range(channels):
            for i, j in pixels:
                x, y = images[n, c, i, j], images[partner[n], c, i, j]
                mixed[n, c, i, j] = k * x + (1 - k) * y if (i, j) in inside else x
        labels[n] = (1 - own + k * own) * targets[n] + (own - k * own) * targets[partner[n]]
    return mixed, labels


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.double)


def one_hot(labels: list[int], classes: int) -> torch.Tensor:
    rows = torch.zeros(len(labels), classes)
    for row, label in enumerate(labels):
        rows[row, label] = 1
    return rows


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
@pytest.mark.parametrize(("h", "w", "height", "width"), [(2, 2, 8, 8), (3, 2, 7, 5), (4, 4, 4, 4), (1, 1, 4, 4)])
def test_attention_maps(upsampling: str, h: int, w: int, height: int, width: int) -> None:
    features = torch.randn(3, 5, h, w, generator=seeded(0))
    maps = attention_maps(features, (height, width), upsampling)
    by_hand = attention_by_hand(features.double().numpy(), height, width, upsampling)
    assert maps.shape == (3, height, width)
    assert np.allclose(maps.numpy(), by_hand, atol=1e-5)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_a_map_without_contrast_is_1_everywhere(upsampling: str) -> None:
    features = torch.stack([torch.full((3, 2, 2), 0.7), torch.zeros(3, 2, 2), torch.eye(2).expand(3, 2, 2)])
    maps = attention_maps(features, (4, 4), upsampling)
    assert maps[:2].equal(torch.ones(2, 4, 4))
    assert (float(maps[2].min()), float(maps[2].max())) == (0.0, 1.0)


def test_attention_does_not_care_for_the_sign_or_scale() -> None:
    features = torch.randn(2, 4, 2, 2, generator=seeded(0))
    maps = attention_maps(features, (4, 4), "bilinear")
    assert attention_maps(-3 * features, (4, 4), "bilinear").allclose(maps, atol=1e-5)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.6, 1.0])
def test_attention_mix_against_the_formulas(upsampling: str, threshold: float) -> None:
    draws = seeded(1)
    images = torch.randn(5, 3, 8, 6, generator=draws)
    targets = one_hot([0, 1, 2, 3, 1], 4)
    attention = attention_maps(torch.randn(5, 7, 4, 3, generator=draws), (8, 6), upsampling)
    partner = torch.tensor([1, 0, 2, 4, 3])
    mixed, labels = attention_mix(images, targets, attention, partner, threshold)
    expected, expected_labels = mix_by_hand(
        images.double().numpy(), targets.double().numpy(), attention.double().numpy(), partner.tolist(), threshold
    )
    assert np.allclose(mixed.numpy(), expected, atol=1e-5)
    assert np.allclose(labels.numpy(), expected_labels, atol=1e-5)


def test_attention_mix_in_numbers() -> None:
    # One row of four pixels. Own attention 1, .5, .25, 0: the mask at .5 takes two, W = 1.5 / 1.75 = 6/7.
    # The partner's attention 0, 1, 0, 1: W' = 1/2. k = (6/7) / (6/7 + 1/2) = 12/19.
    attention = torch.tensor([[[1.0, 0.5, 0.25, 0.0]], [[0.0, 1.0, 0.0, 1.0]]])
    images = torch.tensor([[[[19.0] * 4]], [[[0.0] * 4]]])
    mixed, labels = attention_mix(images, one_hot([0, 1], 2), attention, torch.tensor([1, 0]), 0.5)
    assert mixed[0].flatten().tolist() == pytest.approx([12.0, 12.0, 19.0, 19.0])
    moved = 6 / 7 * 7 / 19
    assert labels[0].tolist() == pytest.approx([1 - moved, moved])


def test_constant_attention_is_plain_mixing_by_half() -> None:
    images = torch.randn(4, 3, 5, 5, generator=seeded(2))
    partner = torch.tensor([1, 2, 3, 0])
    mixed, labels = attention_mix(images, one_hot([0, 1, 2, 3], 4), torch.ones(4, 5, 5), partner, 0.1)
    assert mixed.allclose((images + images[partner]) / 2, atol=1e-6)
    assert labels.allclose((one_hot([0, 1, 2, 3], 4) + one_hot([1, 2, 3, 0], 4)) / 2)


MIXED_BATCHES = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(2, 6), st.floats(0, 1), st.integers(0, 99))


@given(MIXED_BATCHES)
@settings(max_examples=30)
def test_mixed_labels_sum_to_1_and_pixels_stay_between_both(batch: tuple[int, int, int, float, int]) -> None:
    count, channels, size, threshold, seed = batch
    draws = seeded(seed)
    images = torch.rand(count, channels, size, size, generator=draws)
    targets = one_hot([i % 3 for i in range(count)], 3)
    attention = attention_maps(torch.randn(count, 2, 2, 2, generator=draws), (size, size), "bilinear")
    partner = torch.randperm(count, generator=draws)
    mixed, labels = attention_mix(images, targets, attention, partner, threshold)
    assert (mixed.shape, labels.shape) == (images.shape, targets.shape)
    assert labels.sum(1).allclose(torch.ones(count), atol=1e-5)
    assert ((labels > -1e-6) & (labels < 1 + 1e-6)).all()
    low, high = torch.minimum(images, images[partner]), torch.maximum(images, images[partner])
    assert ((mixed > low - 1e-5) & (mixed < high + 1e-5)).all()


@pytest.mark.parametrize("count", [1, 3])
def test_an_image_mixed_with_itself_is_itself(count: int) -> None:
    draws = seeded(0)
    images, partner = torch.randn(count, 3, 6, 6, generator=draws), torch.arange(count)
    targets = torch.rand(count, 4, generator=draws)
    attention = attention_maps(torch.randn(count, 2, 3, 3, generator=draws), (6, 6), "nearest")
    for mixed, labels in (
        attention_mix(images, targets, attention, partner, 0.1),
        mixup(images, targets, partner, double(0.3)),
        cutmix(images, targets, partner, double(0.3), draws),
    ):
        assert mixed.allclose(images, atol=1e-6)
        assert labels.allclose(targets, atol=1e-6)


def test_suppressed_labels_may_be_mixed_too() -> None:
    targets = torch.tensor([[0.4, 0.0], [0.0, 0.7]])
    mixed, labels = attention_mix(torch.zeros(2, 1, 2, 2), targets, torch.ones(2, 2, 2), torch.tensor([1, 0]), 0.1)
    assert labels.tolist() == [pytest.approx([0.2, 0.35]), pytest.approx([0.2, 0.35])]
    assert mixed.equal(torch.zeros(2, 1, 2, 2))


def test_mixup_by_hand() -> None:
    images = torch.tensor([[[[1.0]]], [[[5.0]]]])
    mixed, labels = mixup(images, one_hot([0, 2], 3), torch.tensor([1, 0]), double(0.75))
    assert mixed.flatten().tolist() == [2.0, 4.0]
    assert labels.tolist() == [[0.75, 0.0, 0.25], [0.25, 0.0, 0.75]]


@given(st.floats(0, 1), st.integers(0, 999), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=60)
def test_cutmix_pastes_one_box_and_the_label_follows_its_area(keep: float, seed: int, height: int, width: int) -> None:
    own, other = torch.zeros(1, 2, height, width), torch.ones(1, 2, height, width)
    images, partner, share = torch.cat([own, other]), torch.tensor([1, 0]), double(keep)
    mixed, labels = cutmix(images, one_hot([0, 1], 2), partner, share, seeded(seed))
    pasted = mixed[0, 0] == 1
    assert mixed[0, 1].equal(mixed[0, 0])  # every channel
    assert mixed[1].equal(1 - mixed[0])  # one box for the batch
    rows, columns = pasted.any(1), pasted.any(0)
    assert pasted.equal(rows[:, None] & columns[None, :])  # a rectangle ...
    assert all(side.int().diff().ne(0).sum() <= 2 for side in (rows, columns))  # ... in one piece
    share = int(pasted.sum()) / (height * width)
    assert labels[0].tolist() == pytest.approx([1 - share, share], abs=1e-6)
    assert labels[1].tolist() == pytest.approx([share, 1 - share], abs=1e-6)
    # Never larger than asked for, but for the rounding of its four edges.
    side = math.sqrt(1 - keep)
    assert int(rows.sum()) <= side * height + 1
    assert int(columns.sum()) <= side * width + 1


def test_labels_of_cutmix_are_those_of_python_numbers_to_the_last_bit() -> None:
    """At 28 pixels a share of the area is no power of two, so that single precision would show."""
    images, targets, draws = torch.zeros(2, 1, 28, 28), one_hot([0, 1], 2), seeded(1)
    images[1] = 1.0
    for number in range(60):
        mixed, labels = cutmix(images, targets, torch.tensor([1, 0]), beta_draw(1.0, seeded(number)), draws)
        kept = 1 - int(mixed[0].sum()) / (28 * 28)
        assert labels.equal(kept * targets + (1 - kept) * targets[[1, 0]])


def test_cutmix_keeps_about_the_share_it_is_told() -> None:
    images = torch.cat([torch.zeros(1, 1, 100, 100), torch.ones(1, 1, 100, 100)])
    draws, areas = seeded(0), []
    for _ in range(50):
        mixed, _ = cutmix(images, one_hot([0, 1], 2), torch.tensor([1, 0]), double(0.75), draws)
        areas.append(float(mixed[0].mean()))
    # A box of 50 x 50, clipped at the border when its centre is near it.
    assert max(areas) == pytest.approx(0.25, abs=0.01)
    assert min(areas) < 0.2
    assert len(set(areas)) > 20


@pytest.mark.parametrize(("keep", "share"), [(1.0, 0.0), (0.0, None)])
def test_cutmix_at_the_ends(keep: float, share: float | None) -> None:
    images = torch.cat([torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)])
    mixed, labels = cutmix(images, one_hot([0, 1], 2), torch.tensor([1, 0]), double(keep), seeded(5))
    assert float(mixed[0].mean()) == pytest.approx(float(labels[0, 1]))
    if share is not None:
        assert float(labels[0, 1]) == share


def test_soft_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # shares 1/4, 3/4 and 1/2, 1/2
    targets = torch.tensor([[0.5, 0.25], [0.0, 1.0]])
    by_hand = [0.5 * math.log(4) + 0.25 * math.log(4 / 3), math.log(2)]
    assert float(soft_cross_entropy(logits, targets)) == pytest.approx(sum(by_hand) / 2, abs=1e-6)
    assert float(soft_cross_entropy(logits[:1], targets[:1])) == pytest.approx(by_hand[0], abs=1e-6)
    assert float(soft_cross_entropy(logits, torch.zeros(2, 2))) == 0.0


def test_soft_cross_entropy_takes_gradients_from_half_precision() -> None:
    logits = torch.tensor([[0.0, 2.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = soft_cross_entropy(logits, torch.tensor([[0.3, 0.7]]))
    loss.backward()
    assert loss.dtype == torch.float32
    share = 1 / (1 + math.exp(-2))  # d loss / d logit = p - t
    assert logits.grad is not None
    assert logits.grad[0, 1].item() == pytest.approx(share - 0.7, abs=1e-2)


def test_suppression_by_hand() -> None:
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    belief = torch.tensor([[0.75, 0.25, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    # Not renormalised, nothing below 0.
    assert suppress(targets, belief).tolist() == [[0.25, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("b", [0.2, 1.0, 5.0])
def test_beta_draws(b: float) -> None:
    generator = seeded(0)
    draws = np.array([float(beta_draw(b, generator)) for _ in range(800)])
    assert ((draws >= 0) & (draws <= 1)).all()
    # Mean 1/2 and variance 1 / (4 (2 b + 1)) of Beta(b, b).
    assert draws.mean() == pytest.approx(0.5, abs=0.06)
    assert draws.var() == pytest.approx(1 / (4 * (2 * b + 1)), rel=0.2)
