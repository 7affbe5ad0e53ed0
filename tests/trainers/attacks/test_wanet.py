from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.trainers.attacks.quick import Noise, quick
from trainers.attacks.wanet import WaNetParams
from trainers.errors import ConfigError
from trainers.seeding import derive_seed, seeded


def wanet(shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0, **params: Any) -> Any:
    return quick("wanet", shape=shape, seed=seed, **params)


def sampled(image: NDArray[np.uint8], flow: NDArray[np.float32]) -> NDArray[np.float64]:
    """One image (C, H, W) read at each pixel's place plus ``flow`` (H, W, 2), between its four neighbours."""
    _, height, width = image.shape
    result = np.zeros(image.shape)
    for i in range(height):
        for j in range(width):
            # -1 and 1 are the middles of the outermost pixels.
            x = (np.clip(2 * j / (width - 1) - 1 + flow[i, j, 0], -1, 1) + 1) / 2 * (width - 1)
            y = (np.clip(2 * i / (height - 1) - 1 + flow[i, j, 1], -1, 1) + 1) / 2 * (height - 1)
            left, top = min(int(x), width - 2), min(int(y), height - 2)
            for row, down in ((top, 1 - (y - top)), (top + 1, y - top)):
                for column, across in ((left, 1 - (x - left)), (left + 1, x - left)):
                    result[:, i, j] += down * across * image[:, row, column]
    return result


@given(
    height=st.integers(4, 10), width=st.integers(4, 10), channels=st.sampled_from([1, 3]), grid=st.integers(2, 4),
    strength=st.floats(0.1, 3), seed=st.integers(0, 2**62),
)  # fmt: skip
@settings(max_examples=20)
def test_pixels_are_read_where_the_flow_points(
    height: int, width: int, channels: int, grid: int, strength: float, seed: int
) -> None:
    attack = wanet((channels, height, width), seed, grid=grid, strength=strength)
    images = torch.randint(256, (2, channels, height, width), generator=seeded(seed), dtype=torch.uint8)
    got = attack.trigger(images).numpy()
    wanted = np.stack([sampled(image, attack.flow.numpy()) for image in images.numpy()])
    assert np.abs(got - wanted).max() <= 0.5 + 0.01


def control_of(seed: int, grid: int) -> NDArray[np.float32]:
    """The control grid as the paper makes it, (2, k, k): even draws over their mean absolute value."""
    control = torch.rand(1, 2, grid, grid, generator=seeded(derive_seed(seed, "warp")))[0].numpy() * 2 - 1
    scaled: NDArray[np.float32] = control / np.abs(control).mean()
    return scaled


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize("grid", [2, 4])
def test_the_flow_goes_through_the_control_points(seed: int, grid: int) -> None:
    # With a side of n (k - 1) + 1 pixels each control point is a pixel.
    side = 4 * (grid - 1) + 1
    flow = wanet((3, side, side), seed, grid=grid, strength=0.5).flow.numpy()
    at_points = flow[::4, ::4].transpose(2, 0, 1) * side / 0.5
    assert np.allclose(at_points, control_of(seed, grid), atol=1e-4)
    assert np.abs(at_points).mean() == pytest.approx(1, abs=1e-4)


def test_the_flow_is_smooth() -> None:
    flow = wanet((3, 32, 32)).flow.numpy() * 32 / 0.5
    steps = np.abs(np.diff(flow, axis=0)).max(), np.abs(np.diff(flow, axis=1)).max()
    # Neighbouring control points lie ten pixels and at most about four units apart.
    assert max(steps) < 1
    assert np.abs(flow).max() > 1


@given(st.floats(0.1, 2), st.floats(0.1, 2))
@settings(max_examples=20)
def test_the_flow_is_linear_in_its_strength(one: float, other: float) -> None:
    first, second = wanet(strength=one).flow, wanet(strength=other).flow
    assert torch.allclose(first / one, second / other, atol=1e-5)


def test_the_height_scales_the_flow() -> None:
    # k = 2 has the corners of both sizes as control points.
    small, large, wide = (wanet(shape, grid=2).flow for shape in ((1, 8, 8), (1, 16, 16), (1, 8, 12)))
    assert torch.allclose(small[::7, ::7] * 8, large[::15, ::15] * 16, atol=1e-5)
    assert torch.allclose(small[::7, ::7], wide[::7, ::11], atol=1e-5)


def test_between_control_points_the_flow_is_cubic() -> None:
    # Halfway between the inner two of four points, cubic convolution (a = -0.75) gives them these weights.
    flow = wanet((3, 13, 13), 2, grid=4).flow.numpy().transpose(2, 0, 1) * 13 / 0.5
    control, weights = control_of(2, 4), np.array([-3, 19, 19, -3]) / 32
    assert np.allclose(flow[:, ::4, 6], control @ weights, atol=1e-4)
    assert np.allclose(flow[:, 6, ::4], weights @ control, atol=1e-4)
    assert np.allclose(flow[:, 6, 6], control @ weights @ weights, atol=1e-4)


def test_the_seed_decides_the_warp() -> None:
    assert wanet(seed=1).flow.equal(wanet(seed=1).flow)
    assert not wanet(seed=1).flow.equal(wanet(seed=2).flow)


def test_an_image_of_one_colour_stays_as_it_is() -> None:
    flat = torch.full((2, 3, 8, 8), 77, dtype=torch.uint8)
    assert wanet(strength=3.0).trigger(flat).equal(flat)


def test_noise_samples_are_warped_otherwise_and_keep_their_label(noise: Noise) -> None:
    clean, attack = noise(40), wanet(cover_rate=0.5)
    made = attack.poison(clean, 0.2)
    assert (int(made.poisoned.sum()), int(made.cover.sum())) == (8, 20)
    warped = attack.trigger(clean.images)
    assert made.data.images[made.poisoned].equal(warped[made.poisoned])
    differ = (made.data.images != warped).flatten(1).any(1)
    assert differ[made.cover].all()
    assert made.data.labels[made.cover].equal(clean.labels[made.cover])


def test_the_noise_is_within_a_pixel_and_of_each_image_its_own() -> None:
    # A ramp of 20 a column says how far across each pixel was read: half the width is 1 in grid coordinates.
    ramp = (20 * torch.arange(12, dtype=torch.uint8)).expand(300, 1, 12, 12)
    attack = wanet((1, 12, 12), strength=1e-6)
    moved = attack.cover_images(ramp, torch.arange(300), seeded(0)).float() - ramp.float()
    inner = moved[:, :, :, 1:-1]
    reach = 20 * (11 / 2) / 12  # of 1 / height in grid coordinates
    assert inner.abs().max() <= reach + 0.5
    assert inner.max() > reach - 0.5
    assert inner.min() < 0.5 - reach
    assert abs(float(inner.mean())) < 0.1
    assert float(inner.var()) == pytest.approx(reach**2 / 3, rel=0.05)  # of an even draw
    assert not moved[0].equal(moved[1])


def test_the_defaults_are_the_papers() -> None:
    assert WaNetParams().as_dict() == {"grid": 4, "strength": 0.5, "cover_rate": 0.2}
    with pytest.raises(ConfigError, match="grid must be a whole number at least 2, but got 1"):
        WaNetParams(grid=1)
